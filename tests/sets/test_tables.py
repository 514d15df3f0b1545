"""Tables: what is written comes back, a broken row is named, a damaged file loads or is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import Column, InputSignature
from edgekit.runs import named_sets
from edgekit.sets.options import SPLITS
from edgekit.sets.tables import encoded_like, read_rows
from edgekit.workflows import predict

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)

HEAD = "area,rooms,town,label\n"
BODY = "".join(f"{i}.5,{i % 4},x,{i % 2}\n" for i in range(40))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, (None, *shape))


def write(name: str, text: str | bytes) -> str:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def refused(word: str, like: tuple[TensorSpec, ...] = ()) -> str:
    """Everything the refusal says."""
    with pytest.raises(InputError) as error:
        named_sets.load(word, like)
    return f"{error.value.what}; {error.value.why}; {error.value.next}"


def test_a_csv() -> None:
    data = named_sets.load(write("a.csv", HEAD + BODY))
    assert set(data.inputs) == {"input"} and data.inputs["input"].dtype == np.float32
    assert data.notes == ("columns left out, the same in every row: town",)
    assert data.inputs["input"].tolist() == [[i + 0.5, i % 4] for i in range(40)]
    assert data.labels is not None and data.labels.dtype == np.int64
    assert data.labels.tolist() == [i % 2 for i in range(40)]


def test_columns_that_are_not_used_are_said() -> None:
    path = write("a.csv", HEAD + BODY)
    assert named_sets.load(path, (spec("x", 2),)).notes == ("columns that are not used: town",)
    assert named_sets.load(path, (spec("area", 1),)).notes == ("columns that are not used: rooms, town",)
    assert named_sets.load(f"{path}?columns=area").notes == (), "the others were left out on purpose"


def test_the_label_by_its_kind() -> None:
    write("a.csv", HEAD + BODY)
    values = named_sets.load("a.csv?label=area").labels
    assert values is not None and values.dtype == np.float32 and values[3] == 3.5
    meant = named_sets.load("a.csv?labels=values").labels
    assert meant is not None and meant.dtype == np.float32
    both = named_sets.load("a.csv?label=area,rooms").labels
    assert both is not None and both.shape == (40, 2) and both[5].tolist() == [5.5, 1]
    write("b.csv", "a,label\n" + "".join(f"{i},{'dog cat emu'.split()[i % 3]}\n" for i in range(30)))
    text = named_sets.load("b.csv").labels
    assert text is not None and text[:3].tolist() == [1, 0, 2], "classes are in alphabetical order"
    write("c.csv", "a,label\n" + "".join(f"{i},{100000 + i}\n" for i in range(30)))
    assert "labels=values" in refused("c.csv")
    assert len(named_sets.load("c.csv?labels=values")) == 30
    assert "labels=values" in refused(write("d.csv", "a,label\n1,0\n2,-1\n"))
    assert "needs numbers" in refused("b.csv?labels=values")


def test_labels_that_are_booleans() -> None:
    """As text they are classes; with numbers they are what the model predicts."""
    write("a.csv", "a,label,sold\n" + "".join(f"{i}.5,{['true', 'false'][i % 2]},{i % 3 == 0}\n" for i in range(60)))
    for word, names in (("a.csv", ("false", "true")), ("a.csv?label=sold", ("False", "True"))):
        data = named_sets.load(word)
        assert (len(data), data.classes) == (60, names) and data.labels is not None
        assert set(data.labels.tolist()) == {0, 1}


def test_the_columns_by_the_model() -> None:
    write("a.csv", HEAD + BODY)
    two = named_sets.load("a.csv", (spec("rooms", 1), spec("area")))
    assert two.inputs["rooms"].shape == (40, 1) and two.inputs["area"].shape == (40,)
    assert named_sets.load("a.csv?columns=rooms").inputs["input"].shape == (40, 1)
    assert named_sets.load("a.csv?columns=rooms,area").inputs["input"][3].tolist() == [3, 3.5]
    assert named_sets.load("a.csv", (spec("x", 2),)).inputs["x"].shape == (40, 2)
    assert named_sets.load("a.csv", (spec("x", 2, 1),)).inputs["x"].shape == (40, 2, 1)
    whole = named_sets.load("a.csv?columns=rooms", (spec("x", 1, dtype="int64"),))
    assert whole.inputs["x"].dtype == np.int64
    said = refused("a.csv", (spec("x", 3),))
    assert "area, rooms" in said and "x: float32[?, 3]" in said
    assert "area, rooms" in refused("a.csv", (spec("x", 1), spec("y", 1)))
    assert "holds fractions" in refused("a.csv", (spec("x", 2, dtype="int64"),))
    assert "'town' is the same in every row" in refused("a.csv?columns=town")
    assert "holds text" in refused("a.csv?columns=town", (spec("x", 1),))
    assert named_sets.load("a.csv?drop=rooms").inputs["input"].shape == (40, 1)
    assert "did you mean rooms" in refused("a.csv?drop=room")
    assert "give one of them" in refused("a.csv?drop=rooms&columns=area")
    assert "holds text" in refused("a.csv", (spec("town", 1),))
    assert "did you mean rooms" in refused("a.csv?columns=room")
    assert "no column 'price'" in refused("a.csv?label=price")


def homes(count: int = 60) -> str:
    """Numbers with missing cells, categories with missing cells, booleans, an index."""
    rows = [
        f"{i},{i}.5,{'' if i % 6 == 0 else i % 4},{['Nice', 'Aix', ''][i % 3]},{['True', 'false'][i % 2]},{i % 2}\n"
        for i in range(count)
    ]
    return "id,area,rooms,town,garden,label\n" + "".join(rows)


def test_categories_booleans_and_missing_cells(here: Path) -> None:
    write("a.csv", homes() + "1,2,3\n")  # a broken row is no missing cell
    data = named_sets.load("a.csv")
    train = named_sets.load("a.csv:train").inputs["input"]
    median = float(np.median(train[train[:, 0] % 6 != 0][:, 2]))
    columns = data.decoded["input"].columns
    assert columns == (
        Column("id"),
        Column("area"),
        Column("rooms", missing=median),
        Column("town", ("", "Aix", "Nice")),
        Column("garden"),
    )
    assert data.inputs["input"][:3].tolist() == [
        [0, 0.5, median, 0, 0, 1, 1],
        [1, 1.5, 1, 0, 1, 0, 0],
        [2, 2.5, 2, 1, 0, 0, 1],
    ]
    assert data.notes[0] == "one-hot encoded: town (3)"
    assert data.notes[1] == f"missing cells filled with training medians: rooms (10: {median:g})"
    assert data.notes[2] == "id only counts the rows; leave it out: ?drop=id"


def test_the_encoding_is_that_of_the_training(here: Path) -> None:
    """Whatever other rows hold: other categories, other medians, another order of columns, and more of them."""
    write("a.csv", homes())
    data = named_sets.load("a.csv?drop=id")
    signed = (dataclasses.replace(spec("x", 6), signature=data.decoded["input"]),)
    rows = "town,label,garden,more,rooms,area\n" + "Aix,1,1,z,,7.5\n" * 3 + ",0,true,z,9,1\n"
    again = named_sets.load(write("b.csv", rows), signed)
    for option in ("drop=town", "columns=area,rooms,garden"):
        assert "leaves out town; the model takes area, rooms, town, garden" in refused(f"b.csv?{option}", signed)
    missing = data.decoded["input"].columns[1].missing
    assert again.inputs["x"].tolist() == [[7.5, missing, 0, 1, 0, 1]] * 3 + [[1, 9, 1, 0, 0, 1]]
    lines = [{"area": 7.5, "town": "Aix", "garden": True, "rooms": None}, {"area": 1, "town": "Rome", "garden": False}]
    write("c.jsonl", "\n".join(map(json.dumps, lines[:1])))
    assert read_rows(Path("c.jsonl"), signed[0]).tolist() == [[7.5, missing, 0, 1, 0, 1]]
    write("c.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(
        InputError, match=r"line 2 of c.jsonl does not fit the model: 'town' is 'Rome', and the model knows '', 'Aix'"
    ):
        read_rows(Path("c.jsonl"), signed[0])
    assert "'town' is 'Rome'" in refused("c.jsonl", signed)
    assert "has no column 'garden'" in refused(write("d.csv", "town,rooms,area\nAix,1,2\n"), signed)
    with pytest.raises(InputError, match="'area' is missing"):
        read_rows(Path(write("e.csv", "town,rooms,area,garden\nAix,1,,0\n")), signed[0])
    with pytest.raises(InputError, match=r"f.csv has no column 'rooms': .* the columns are town, room, area, garden"):
        read_rows(Path(write("f.csv", "town,room,area,garden\nAix,1,2,0\n")), signed[0])
    with pytest.raises(InputError, match=r"line 3 of g.csv does not fit the model: a number is too large for float32"):
        read_rows(Path(write("g.csv", "town,rooms,area,garden\nAix,1,2,0\nAix,1,1e300,0\n")), signed[0])


def test_a_model_that_names_no_columns_takes_the_numbers(here: Path) -> None:
    """It may be older than signatures with columns: text, also true and false, was left out then."""
    write("a.csv", homes().replace(",,", ",3,") + "60,1.5,1,Nice,True,1\n")
    inputs = (spec("x", 3),)
    assert encoded_like(inputs, "a.csv?label=label") == inputs and encoded_like(inputs, "mnist") == ()
    assert named_sets.load("a.csv", inputs).inputs["x"][1].tolist() == [1, 1.5, 1]
    assert named_sets.load("a.csv?columns=area,garden", (spec("x", 2),)).inputs["x"][1].tolist() == [1.5, 0]
    assert "train again" in refused("a.csv", (spec("x", 5),))
    names = [f"c{i}" for i in range(300)]
    write("wide.csv", ",".join([*names, "ok", "label"]) + "\n" + f"{'1,' * 300}true,1\n{'2,' * 300}false,0\n" * 2)
    assert len(named_sets.load("wide.csv").decoded["input"].columns) == 301, "the booleans are in the signature"


@pytest.mark.parametrize("named", [True, False])
def test_rows_that_are_predicted(here: Path, named: bool) -> None:
    """Those of the split, all of them, or an error: an answer is named by its row's number. Labels are not needed."""
    signature = InputSignature("table", columns=(Column("a"), Column("b"))) if named else None
    artifact: Any = SimpleNamespace(inputs=(dataclasses.replace(spec("x", 2), signature=signature),))
    rows = "".join(f"{i},1,{'' if i % 2 else 0}\n" for i in range(60))
    write("a.csv", "a,b,label\n" + rows)
    assert predict._array("a.csv", artifact)["x"][:, 0].tolist() == list(range(60))
    train = named_sets.load("a.csv?drop=label:train", artifact.inputs).inputs["x"]
    assert predict._array("a.csv:train", artifact)["x"].tolist() == train.tolist() and len(train) < 60
    assert predict._array("a.csv:7", artifact)["x"].tolist() == [[7, 1]]
    write("a.csv", "a,b,label\n" + rows.replace("\n3,1,", "\n3,x,"))
    for word in ("a.csv", "a.csv:train"):
        with pytest.raises(InputError, match=r"line 5 of a.csv.*'b' is 'x', not a number"):
            predict._array(word, artifact)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"2024-0{1 + i % 9}-01" for i in range(60)], "holds dates, such as '2024-01-01'"),
        ([f"{1 + i % 9}/12/2024 10:30" for i in range(60)], "holds dates"),
        ([f"user{i}" for i in range(60)], "holds text with more than 50 different values"),
        ([f"user{i % 40}" for i in range(60)], "holds text that hardly comes twice (40 values in 60 rows)"),
        (["a" * 101] * 60, "holds text of more than 100 characters"),
        (["01", "02", "x7", "x8"] * 15, ""),
        (["yes", "no"] * 30, ""),
    ],
)
def test_text_that_is_no_category_is_refused_by_name(here: Path, cells: list[str], said: str) -> None:
    write("a.csv", "a,the text,label\n" + "".join(f"{i}.5,{cell},{i % 2}\n" for i, cell in enumerate(cells)))
    if not said:
        assert named_sets.load("a.csv").inputs["input"].shape == (60, 1 + len(set(cells)))
        return
    text = refused("a.csv")
    assert f"'the text' {said}" in text and "?drop=the%20text" in text
    assert named_sets.load("a.csv?drop=the%20text").inputs["input"].shape == (60, 1)


def test_columns_without_a_training_value(here: Path) -> None:
    write("a.csv", "a,b,split,label\n" + "1.5,,train,0\n2.5,,train,1\n" * 9 + "1,7.5,test,0\n")
    assert "'b' is missing in every training row" in refused("a.csv") and "?drop=b" in refused("a.csv")


def test_columns_are_normalized() -> None:
    write("a.csv", "x,y\n1,10\n3,30\n")
    assert named_sets.load("a.csv?mean=2,20&std=1,10").inputs["input"].tolist() == [[-1, -1], [1, 1]]
    write("a.csv", "x,y,ok\n1,10,true\n,30,false\n")
    assert "'x' has missing cells" in refused("a.csv?scale=2&drop=ok")
    assert "'ok' holds text" in refused("a.csv?scale=2&drop=x")


def test_label_and_split_can_be_left_out() -> None:
    write("a.csv", "a,label,split\n" + "".join(f"{i},{i % 2},{'train' if i < 50 else 'test'}\n" for i in range(60)))
    assert named_sets.load("a.csv?drop=label").labels is None
    assert len(named_sets.load("a.csv?drop=split:test")) not in (0, 10)
    assert len(named_sets.load("a.csv:test")) == 10


def test_lists() -> None:
    lines = [{"tokens": [i, i + 1], "label": i % 2, "x": i / 4} for i in range(30)]
    write("a.jsonl", "\n".join(map(json.dumps, lines)))
    data = named_sets.load("a.jsonl")
    assert data.inputs["tokens"].dtype == np.int64 and data.inputs["tokens"].shape == (30, 2)
    assert data.inputs["input"].shape == (30, 1)
    one = named_sets.load("a.jsonl?columns=tokens", (spec("ids", 2, dtype="int32"),))
    assert one.inputs["ids"].dtype == np.int32 and one.inputs["ids"][4].tolist() == [4, 5]
    lines[7]["tokens"] = [1, 2, 3]
    write("a.jsonl", "\n".join(map(json.dumps, lines)))
    (name,) = named_sets.load("a.jsonl").skipped
    assert name.startswith("line 8 of a.jsonl")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1.5,2,x", "it has 3 cells, the header 4"),
        ("1.5,2,x,1,9", "it has 5 cells, the header 4"),
        ("1.5,two,x,1", "'rooms' is 'two'"),
        ("1.5,2,x,", "'label' is missing"),
        ("inf,2,x,1", "'area' is inf"),
        ("1e400,2,x,1", "'area' is inf"),
        ("1e300,2,x,1", "holds NaN or infinity"),
        ("1.5,2,x,nan", "its label is nan"),
        ("1.5,2,x,yes", "its label is 'yes'"),
        ('1.5,2,"x"y,1', "expected after"),
    ],
)
def test_a_broken_row_is_named(row: str, said: str) -> None:
    rows = BODY.splitlines()
    write("a.csv", HEAD + "\n".join([*rows[:20], row, *rows[20:]]))
    data = named_sets.load("a.csv")
    assert len(data) == 40 and data.labels is not None and data.labels.dtype == np.int64
    (name,) = data.skipped
    assert name.startswith("line 22 of a.csv: ") and said in name
    write("b.csv", HEAD + "\n".join([*rows[:20], row, row, row]))
    assert "3 of 23 samples" in refused("b.csv") and "line 22" in refused("b.csv")


def test_a_quote_that_swallows_lines_is_no_single_row() -> None:
    rows = BODY.splitlines()
    said = refused(write("a.csv", HEAD + "\n".join([*rows[:10], '1,2,"x,1', *rows[10:]])))
    assert "31 of 41 samples" in said and "line 12" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "it has no header"),
        (b"\n\n", "it has no header"),
        (b"a,b\n", "no rows"),
        (b"a,b,a\n1,2,3\n", "duplicate columns; a;"),
        (b"1,2\n3,4\n", "has no header"),
        (b"a;b\n1;2\n", "semicolons"),
        (b",a\n0,1\n1,2\n", "without a name"),
        (b"town\nx\ny\n", "text that hardly comes twice"),
        (b"a,b\n1,2\n3,caf\xe9\n", "line 3 holds the byte 0xe9"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 holds the byte 0xff"),
        (b"a,split\n1,train\n2,trian\n", "line 3: 'trian'"),
    ],
)
def test_files_with_problems(text: bytes, said: str) -> None:
    assert said in refused(write("a.csv", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("[1, 2]\n", "not a JSON object"),
        ('{"a": 1}\n{"a": \n', "line 2"),
        ('{"a": {"b": 1}}\n{"a": {"b": 2}}\n', "hardly comes twice"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_json_lines_with_problems(text: str, said: str) -> None:
    assert said in refused(write("a.jsonl", text))


def test_splits_of_a_column() -> None:
    write("a.csv", "a,label,split\n" + "".join(f"{i},{i % 2},{'train' if i < 50 else 'Test'}\n" for i in range(60)))
    parts = {name: named_sets.load(f"a.csv:{name}").inputs["input"][:, 0].tolist() for name in SPLITS}
    assert parts["test"] == list(range(50, 60))
    assert sorted(parts["train"] + parts["val"]) == list(range(50)) and parts["val"]


@given(st.integers(30, 200), st.integers(1, 50))
@relaxed
def test_a_sample_stays_in_its_split(here: Path, count: int, more: int) -> None:
    found = []
    for rows in (count, count + more):
        write("grow.csv", "a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(rows)))
        parts = {}
        for split in SPLITS:
            try:
                parts[split] = set(named_sets.load(f"grow.csv:{split}").inputs["input"][:, 0].astype(int).tolist())
            except InputError as error:
                assert "no samples" in str(error)
                parts[split] = set()
        assert set.union(*parts.values()) == set(range(rows)), "every sample is in a split"
        assert sum(map(len, parts.values())) == rows, "a sample is in two splits"
        found.append(parts)
    assert all(found[0][split] <= found[1][split] for split in SPLITS)


def test_the_shares_of_the_splits() -> None:
    write("a.csv", "a\n" + "".join(f"{i}\n" for i in range(5000)))
    shares = [len(named_sets.load(f"a.csv:{split}")) / 5000 for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


column = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)
columns = st.lists(column.filter(lambda n: n not in ("label", "split", "input")), min_size=1, max_size=4, unique=True)
value = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40)


@st.composite
def tables(draw: Any) -> tuple[list[str], list[list[Any]], list[str]]:
    names = [f"c{name}" for name in draw(columns)]
    count = draw(st.integers(1, 8))
    rows = [[draw(value) for _ in names] for _ in range(count)]
    return names, rows, [draw(st.sampled_from(["a", "b", "späth"])) for _ in range(count)]


@given(tables(), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
@relaxed
def test_any_table_comes_back(here: Path, table: tuple[list[str], list[list[Any]], list[str]], suffix: str) -> None:
    names, rows, labels = table
    path = Path(f"t{suffix}")
    records = [{**dict(zip(names, row, strict=True)), "label": label} for row, label in zip(rows, labels, strict=True)]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    elif suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import parquet

        typed = [{k: v if isinstance(v, str) else float(v) for k, v in record.items()} for record in records]
        parquet.write_table(pa.Table.from_pylist(typed), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerow([*names, "label"])
            writer.writerows([*row, label] for row, label in zip(rows, labels, strict=True))
    data = named_sets.load(str(path))
    assert data.inputs["input"].tolist() == np.array(rows, np.float64).astype(np.float32).tolist()
    assert data.labels is not None
    classes = sorted(set(labels))
    assert [classes[i] for i in data.labels] == labels


@given(st.data(), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
@relaxed
def test_a_damaged_table_loads_or_is_refused(here: Path, data: st.DataObject, suffix: str) -> None:
    path = Path(f"d{suffix}")
    if suffix == ".jsonl":
        raw = "".join(json.dumps({"a": i, "b": [i, 2], "label": "xy"[i % 2]}) + "\n" for i in range(30)).encode()
    elif suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import parquet

        parquet.write_table(pa.table({"a": list(range(30)), "label": ["x", "y"] * 15}), path)
        raw = path.read_bytes()
    else:
        raw = (HEAD + BODY).replace(",", "\t" if suffix == ".tsv" else ",").encode()
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    try:
        found = named_sets.load(str(path))
    except InputError as error:
        assert str(path) in str(error) or "label" in str(error)
        return
    assert all(np.isfinite(array).all() for array in found.inputs.values())
    assert found.labels is None or len(found.labels) == len(found)


def test_parquet_with_lists_dates_and_truth_values() -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import datetime

    from pyarrow import parquet

    columns = {
        "when": [datetime.date(2020, 1, 1)] * 30,
        "on": [True, False, True] * 10,
        "wave": [[0.5, float(i)] for i in range(30)],
        "label": [0.5] * 29 + [math.nan],
    }
    parquet.write_table(pa.table(columns), "a.parquet", row_group_size=7)
    data = named_sets.load("a.parquet")
    assert data.inputs["input"][:3, 0].tolist() == [1, 0, 1]
    assert data.inputs["wave"].shape == (29, 2) and data.inputs["wave"].dtype == np.float32
    assert data.skipped == ("row 30 of a.parquet: its label is nan",)
    assert "'when' is the same in every row" in refused("a.parquet?columns=when")
    columns["when"][0] = datetime.date(2020, 1, 2)
    parquet.write_table(pa.table(columns), "a.parquet", row_group_size=7)
    assert "'when' holds dates, such as '2020-01-01'" in refused("a.parquet")
    assert "?drop=when" in refused("a.parquet") and len(named_sets.load("a.parquet?drop=when")) == 29


def test_a_few_bytes_of_parquet_that_stand_for_terabytes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text of 50 MB, which every row has: a dictionary of one entry and a run length."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    texts = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * 50_000_000])
    table = pa.table({"text": texts, "label": np.zeros(100_000, np.int64)})
    parquet.write_table(table, "bomb.parquet", compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert Path("bomb.parquet").stat().st_size < 10_000
    assert "bomb.parquet needs too much memory" in refused("bomb.parquet")
    monkeypatch.setattr("edgekit.sets.rows.MOST_ROWS", 99_999)
    write_again = pa.table({"a": np.zeros(100_000), "label": np.zeros(100_000, np.int64)})
    parquet.write_table(write_again, "long.parquet")
    assert "it has 100,000 rows, of at most 99,999" in refused("long.parquet")


def test_a_missing_table() -> None:
    assert "no such file" in refused("absent.csv")
    assert "no such file" in refused("absent.parquet:val")


def test_a_table_of_100_000_columns(here: Path) -> None:
    names = [f"c{i}" for i in range(100_000)]
    write("wide.csv", ",".join([*names, "label"]) + "\n" + ",".join(["1"] * 100_001) + "\n")
    assert named_sets.load("wide.csv").inputs["input"].shape == (1, 100_000)
    write("twice.csv", ",".join(names + names) + "\n")
    with pytest.raises(InputError, match=r"duplicate columns: c0, c1, .* and 99,980 more") as caught:
        named_sets.load("twice.csv")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["long.csv", "long.tsv", "long.jsonl"])
def test_a_line_without_an_end(here: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.sets.rows.LONGEST_LINE", 1000)
    write(name, "a,label\n" + "1" * 1001)
    with pytest.raises(InputError, match=r"line \d has more than 1,000 characters"):
        named_sets.load(name)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "npz", "tar"])
@pytest.mark.timeout(30)
def test_a_pipe_is_not_opened(here: Path, ending: str) -> None:
    os.mkfifo(f"data.{ending}")
    with pytest.raises(InputError, match="it is a named pipe, not a file"):
        named_sets.load(f"data.{ending}")


def test_arrays_of_zeros_without_an_end(here: Path) -> None:
    """300 MB in 300 kB."""
    with zipfile.ZipFile("zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("input.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (75 << 20,)})
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(InputError, match=r"cannot read zeros.npz: its \d+,\d+ bytes unpack to 314,572,\d+"):
        named_sets.load("zeros.npz")


def test_an_array_that_claims_too_much(here: Path) -> None:
    with zipfile.ZipFile("claims.npz", "w") as archive, archive.open("input.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    with pytest.raises(InputError, match=r"cannot read claims.npz"):
        named_sets.load("claims.npz")
