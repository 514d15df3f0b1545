"""The options behind a SET's path: what is written comes back, what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.sets.options import SPLITS, Options, parse_set_spec

side = st.integers(1, 9999)
number = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)
name = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
options = st.builds(
    Options,
    size=st.just("") | st.builds("{}x{}".format, side, side) | side.map(str),
    layout=st.sampled_from(["", "nchw", "nhwc"]),
    channels=st.sampled_from([0, 1, 3]),
    scale=number,
    mean=st.lists(number, max_size=3).map(tuple),
    std=st.lists(number, max_size=3).map(tuple),
    label=name,
    labels=st.sampled_from(["", "classes", "values"]),
    columns=st.lists(name, max_size=3).map(tuple),
    rate=st.integers(0, 96000),
    seconds=number.map(abs),
    count=st.integers(0, 1000),
    seed=st.integers(-5, 1000),
    stream=st.booleans(),
)


def written(given: Options) -> str:
    parts = []
    for key, value in vars(given).items():
        values = value if isinstance(value, tuple) else (value,)
        parts.append(
            f"{key}=" + ",".join(quote(str(v).lower() if isinstance(v, bool) else str(v), safe="") for v in values)
        )
    return "&".join(part for part in parts if not part.endswith("="))


@given(options, st.sampled_from(["", *SPLITS]))
def test_what_is_written_comes_back(given_: Options, split: str) -> None:
    word = parse_set_spec(f"no/such/photos?{written(given_)}" + (f":{split}" if split else ""))
    assert (word.path, word.options, word.split) == ("no/such/photos", given_, split)


@given(st.text(max_size=40))
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    try:
        parse_set_spec(text)
    except InputError as error:
        assert error.next
    except (ValueError, OSError) as error:  # a path may not hold a NUL, nor be too long
        assert "\0" in text or "long" in str(error)


@pytest.mark.parametrize(
    ("text", "path", "split"),
    [
        ("photos", "photos", ""),
        ("photos:val", "photos", "val"),
        ("photos?seed=1:val", "photos", "val"),
        ("photos:val?seed=1", "photos", "val"),
        ("photos:valley", "photos:valley", ""),
        (":val", "", "val"),
    ],
)
def test_where_the_split_may_stand(text: str, path: str, split: str) -> None:
    word = parse_set_spec(text)
    assert (word.path, word.split) == (path, split)


def test_a_path_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    odd = tmp_path / "a?b=c:val"
    odd.mkdir()
    assert parse_set_spec(str(odd)).path == str(odd)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sise=9", "did you mean size"),
        ("size=9x", "size is height x width"),
        ("size=0x4", "size is height x width"),
        ("layout=chwn", "must be one of"),
        ("channels=4", "must be one of"),
        ("scale=0", "not 0"),
        ("scale=inf", "finite"),
        ("std=1,0", "not 0"),
        ("mean=a", "must be a number"),
        ("count=-1", "negative"),
        ("count=2.5", "must be an integer"),
        ("rate=1&rate=2", "twice"),
    ],
)
def test_options_with_problems(query: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_set_spec(f"photos?{query}")
    assert said in str(error.value)
