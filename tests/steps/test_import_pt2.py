"""nothing → torch: programs of torch.export; an archive that could run code is refused, and runs none."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import networks
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.networks import pt2
from edgekit.runs.store import Store
from edgekit.steps.import_pt2 import ImportPt2

torch = pytest.importorskip("torch")
CONTEXT = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))
#: record → its bytes
Records = dict[str, bytes]


class Net(torch.nn.Module):  # type: ignore[misc]
    """Two inputs; a parameter, a buffer, and a constant that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.register_buffer("shift", torch.arange(3.0))
        self.plain = torch.ones(3)

    def forward(self, x: Any, ids: Any) -> Any:
        return {"logits": self.linear(x) + self.shift * self.plain, "sum": ids.float().sum(1)}


class Touch:
    """A pickle of it creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=32)
    inputs = (torch.randn(2, 4), torch.ones(2, 5, dtype=torch.int64))
    program = torch.export.export(Net().eval(), inputs, dynamic_shapes=({0: batch}, {0: batch, 1: length}))
    torch.export.save(program, path)
    return path


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[Path], Artifact]:
    def call(path: Path) -> Artifact:
        store = Store(tmp_path / "run")
        with store.lock():
            return store.make("torch", ImportPt2.of(str(path)), {}, CONTEXT)

    return call


@pytest.fixture
def forged(good: Path, tmp_path: Path) -> Callable[[Callable[[Records], None]], Path]:
    """The good archive with `change` applied to its records, written as torch writes it."""

    def call(change: Callable[[Records], None]) -> Path:
        reader = torch._C.PyTorchFileReader(str(good))
        own = (".data/version", ".data/serialization_id", "byteorder")
        records = {name: reader.get_record(name) for name in reader.get_all_records() if name not in own}
        change(records)
        path = tmp_path / "forged.pt2"
        writer = torch._C.PyTorchFileWriter(str(path))
        writer.set_min_version(6)
        for name, raw in records.items():
            writer.write_record(name, raw, len(raw))
        writer.write_end_of_file()
        return path

    return call


def test_open_axes_stay_open(good: Path, imported: Callable[[Path], Artifact]) -> None:
    artifact = imported(good)
    assert [str(s) for s in artifact.inputs] == ["x: float32[?, 4]", "ids: int64[?, ?]"]
    assert [str(s) for s in artifact.outputs] == ["logits: float32[?, 3]", "sum: float32[?]"]
    assert artifact.details["example"] == {"x": [2, 4], "ids": [2, 5]}
    x, ids = torch.randn(3, 4), torch.ones(3, 9, dtype=torch.int64)
    expected = torch.export.load(good).module()(x, ids)
    with torch.inference_mode():
        logits, total = networks.load(artifact.path)(x, ids)
    assert torch.equal(logits, expected["logits"]) and torch.equal(total, expected["sum"])
    recorded = json.loads((artifact.path / "model.json").read_text())["tensors"]
    assert sorted(shape for _, shape in recorded.values()) == [[3], [3], [3, 4]]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_exporter_keeps_them(format: str, good: Path, imported: Callable[[Path], Artifact], tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxscript"}.get(format, format))
    parent, store = imported(good), Store(tmp_path / "run")
    with store.lock():
        made = store.make(format, registry.load("steps", f"to_{format}")(), {"parent": parent}, CONTEXT)
    assert [spec.shape for spec in made.inputs] == [(None, 4), (None, None)]
    assert [spec.name for spec in made.outputs] == ["logits", "sum"]


def test_a_fixed_batch_stays_fixed(tmp_path: Path, imported: Callable[[Path], Artifact]) -> None:
    program = torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.ones(1, 4),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    artifact = imported(tmp_path / "fixed.pt2")
    assert [spec.shape for spec in (*artifact.inputs, *artifact.outputs)] == [(1, 4), (1, 3)]


class Called(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: Any, *, first: Any, second: Any) -> Any:
        return x + 2 * first, None, x + 3 * second


def test_inputs_by_keyword(tmp_path: Path, imported: Callable[[Path], Artifact]) -> None:
    keywords = {"second": torch.ones(2, 4), "first": torch.full((2, 4), 10.0)}
    torch.export.save(torch.export.export(Called(), (torch.zeros(2, 4),), keywords), tmp_path / "called.pt2")
    artifact = imported(tmp_path / "called.pt2")
    assert {spec.name for spec in artifact.inputs} == {"x", "first", "second"}
    feeds = {"x": torch.zeros(2, 4), **keywords}
    with torch.inference_mode():
        found = networks.load(artifact.path)(*(feeds[spec.name] for spec in artifact.inputs))
    assert [float(value[0, 0]) for value in found] == [20.0, 3.0]


@pytest.mark.parametrize("kept", [True, False])
def test_axes_tied_to_others_and_no_example_inputs(
    kept: bool, tmp_path: Path, imported: Callable[[Path], Artifact]
) -> None:
    class Pairs(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.reshape(x.shape[0], x.shape[1] // 2, 8).sum(1)

    dims = {0: torch.export.Dim("batch"), 1: 2 * torch.export.Dim("half", max=64)}
    program = torch.export.export(Pairs(), (torch.ones(2, 6, 4),), dynamic_shapes={"x": dims})
    if not kept:
        program.example_inputs = None
    torch.export.save(program, tmp_path / "pairs.pt2")
    artifact = imported(tmp_path / "pairs.pt2")
    assert [str(s) for s in (*artifact.inputs, *artifact.outputs)] == ["x: float32[?, ?, 4]", "output: float32[?, 8]"]


def graph(change: Callable[[dict[str, Any]], None]) -> Callable[[Records], None]:
    def apply(records: Records) -> None:
        found = json.loads(records[pt2.GRAPH])
        change(found)
        records[pt2.GRAPH] = json.dumps(found).encode()

    return apply


def node(key: str, value: str) -> Callable[[Records], None]:
    return graph(lambda found: found["graph_module"]["graph"]["nodes"][-1].update({key: value}))


def spec(text: str) -> Callable[[Records], None]:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = text

    return graph(change)


def first_size(text: str) -> Callable[[Records], None]:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    return graph(change)


EVIL = "__import__('pathlib').Path('{mark}').touch()"
FORGERIES: dict[str, tuple[Callable[[Path], Callable[[Records], None]], str]] = {
    "sample inputs": (
        lambda mark: lambda records: records.update({"data/sample_inputs/model.pt": saved(Touch(mark))}),
        "data/sample_inputs/model.pt is damaged, or a pickle that could run code",
    ),
    "a weight": (
        lambda mark: lambda records: pickled_weight(records, saved(Touch(mark))),
        "data/weights/weight_0 is damaged, or a pickle that could run code",
    ),
    "weights as they were": (
        lambda mark: lambda records: records.update({"data/weights/model.pt": saved(Touch(mark))}),
        "data/weights/model.pt is damaged, or a pickle that could run code",
    ),
    "a custom object": (
        lambda mark: lambda records: records.update({"data/constants/opaque_obj_0": pickle.dumps(Touch(mark))}),
        "it holds 'data/constants/opaque_obj_0'",
    ),
    "compiled code": (
        lambda mark: lambda records: records.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
        "it holds 'data/aotinductor/model/x.so'",
    ),
    "a size": (lambda mark: first_size(EVIL.format(mark=mark)), "the expression"),
    "a size in a size": (lambda mark: first_size(f'Max({EVIL.format(mark=mark)!r}, 1)'), "the expression"),
    "an operator": (lambda mark: node("target", "torch.os.system"), "the operator 'torch.os.system'"),
    "a library": (lambda mark: node("target", "torch.ops.load_library"), "the operator 'torch.ops.load_library'"),
    "a file": (lambda mark: node("target", "torch.ops.aten.from_file.default"), "the operator"),
    "a name": (lambda mark: node("name", f"x); {EVIL.format(mark=mark)}; print("), "the name"),
    "a container": (
        lambda mark: spec('[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'),
        "are a collections.defaultdict",
    ),
}  # fmt: skip


def saved(what: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(what, buffer)
    return buffer.getvalue()


def pickled_weight(records: Records, raw: bytes) -> None:
    config = json.loads(records[pt2.CONFIGS["weights"]])
    next(iter(config["config"].values()))["use_pickle"] = True
    records["data/weights/weight_0"] = raw
    records[pt2.CONFIGS["weights"]] = json.dumps(config).encode()


@pytest.mark.parametrize("name", FORGERIES)
def test_what_could_run_code_is_refused_and_runs_none(
    name: str, forged: Callable[..., Path], imported: Callable[[Path], Artifact], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    forge, said = FORGERIES[name]
    path = forged(forge(mark))
    with pytest.raises(InputError) as error:
        imported(path)
    assert said in str(error.value)
    assert not mark.exists(), "it was executed"


@pytest.mark.parametrize("name", ["sample inputs", "a weight", "weights as they were", "a size", "a size in a size"])
def test_these_attacks_work_on_torch_itself(name: str, forged: Callable[..., Path], tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    mark = tmp_path / "mark"
    path = forged(FORGERIES[name][0](mark))
    try:
        torch.export.load(path)
    except Exception as error:
        assert mark.exists(), error
    assert mark.exists()


def test_guards_are_not_compiled(
    forged: Callable[..., Path], imported: Callable[[Path], Artifact], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    artifact = imported(forged(graph(lambda found: found.update(guards_code=[EVIL.format(mark=mark)]))))
    with torch.inference_mode():
        networks.load(artifact.path)(torch.ones(2, 4), torch.ones(2, 5, dtype=torch.int64))
    assert not mark.exists()


def test_a_listing_that_says_less_than_torch_reads(forged: Callable[..., Path]) -> None:
    """Python's zipfile and torch's reader must see the same entries."""
    path = forged(lambda records: None)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"archive_format", b"archive_fermat"))
    with pytest.raises(InputError):
        pt2.check(path)


def test_damaged_archives(good: Path, tmp_path: Path) -> None:
    whole, path = good.read_bytes(), tmp_path / "bad.pt2"
    for raw in (b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-50]):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=r"cannot read .*bad\.pt2") as error:
            pt2.program(path)
        assert "\n" not in str(error.value)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match="not an archive of plain tensors"):
        pt2.program(path)
    with pytest.raises(InputError, match="no such file"):
        pt2.program(tmp_path / "absent.pt2")


@pytest.mark.parametrize("inputs", [((torch.ones(2, 4), torch.ones(2, 4)),), (torch.ones(2, 4), 3)])
def test_inputs_that_are_no_tensors(inputs: Any, tmp_path: Path, imported: Callable[[Path], Artifact]) -> None:
    class Odd(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, y: Any = 1) -> Any:
            return (x[0] + x[1] if isinstance(x, tuple) else x) * y

    torch.export.save(torch.export.export(Odd(), inputs), tmp_path / "odd.pt2")
    with pytest.raises(InputError, match="takes more than tensors"):
        imported(tmp_path / "odd.pt2")
