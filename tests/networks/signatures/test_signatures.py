"""What `--signature` may name, and what is said where it names none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgekit.core.errors import InputError, RecipeError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature
from edgekit.networks import signatures

pytestmark = pytest.mark.usefixtures("own_code")

FILE = """
[[input]]
kind = "image"
resize = {mode = "shortest", size = 36}
crop = 32

[[output]]
kind = "logits"
classes = ["cat", "dog"]
"""
EXPECTED = Signature(
    (InputSignature("image", resize=Resize("shortest", 36), crop=32),),
    (OutputSignature("logits", classes=("cat", "dog")),),
)
CODE = """
from edgekit.core.signature import InputSignature, Signature

TABLE = {"input": [{"kind": "image", "resize": {"mode": "shortest", "size": 36}, "crop": 32}],
         "output": [{"kind": "logits", "classes": ["cat", "dog"]}]}


class Net:
    def make():
        return TABLE


def record():
    return Signature((InputSignature("image", mean=(1,)),))


def wrong():
    return Signature((InputSignature("image", std=(0.0,)),))


def fails():
    return 1 / 0


def other():
    return 3


def arguments(size):
    return TABLE


number = 3
empty = {}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sig.toml").write_text(FILE)
    (tmp_path / "net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize("source", ["sig.toml", "net.py:TABLE", "net.py:Net.make"])
def test_files_and_code(source: str) -> None:
    assert signatures.read(source) == EXPECTED


def test_records_of_code() -> None:
    assert signatures.read("net.py:record") == Signature((InputSignature("image", mean=(1.0,)),))


def test_all_problems_of_a_file_at_once(folder: Path) -> None:
    text = FILE.replace("crop", "corp").replace('"logits"', '"logit"').replace("shortest", "short")
    (folder / "sig.toml").write_text(text + "\n[[inputs]]\n")
    with pytest.raises(RecipeError) as caught:
        signatures.read("sig.toml")
    said = "\n".join(map(str, caught.value.problems))
    for part in ("unknown key 'inputs'", "did you mean crop", "input[0].resize.mode", "output[0].kind"):
        assert part in said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent.toml", "no such file"),
        ("nothing", "'nothing' names no signature"),
        ("net.py:nothing", "net.py defines no 'nothing'"),
        ("net.py:Net.nothing", "net.py:Net defines no 'nothing'"),
        ("absent.py:it", "there is no file absent.py"),
        ("net.py:wrong", "has 1 problem"),
        ("net.py:empty", "has 1 problem"),
        ("net.py:fails", "ZeroDivisionError"),
        ("net.py:other", "net.py:other returns something of the type int"),
        ("net.py:number", "net.py:number is of the type int"),
        ("net.py:arguments", "needs arguments: size"),
    ],
)
def test_what_names_none(source: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        signatures.read(source)
    assert said in str(caught.value) and caught.value.next


def test_other_networks_carry_nothing() -> None:
    torch = pytest.importorskip("torch")
    assert signatures.of_network(torch.nn.Linear(1, 1), (), ()) == (Signature(), "")
