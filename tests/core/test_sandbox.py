"""Work on files from elsewhere is done in a child: its limits, what comes back, and the bombs that end there."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core import sandbox
from edgekit.core.errors import CannotConvert, InputError, Locked
from edgekit.core.json import T
from edgekit.core.sandbox import Limits
from edgekit.workflows import import_
from edgekit.workflows.inspect.model import inspect

#: small, so that a test of a limit is quick
TIGHT = Limits(memory=200 << 20, seconds=1.0, written=1 << 20)


def call(work: Callable[[], Any], **settings: Any) -> Any:
    return sandbox.call(lambda progress: work(), "model.onnx", **{"limits": TIGHT, **settings})


# --- what comes back ----------------------------------------------------------------------------------------------


def test_answers_are_json_of_another_process() -> None:
    answer = call(lambda: {"process": os.getpid(), "sizes": (1, 2)})
    assert answer["process"] != os.getpid()
    assert answer["sizes"] == [1, 2]


def test_a_call_in_a_child_stays_there() -> None:
    assert call(lambda: call(os.getpid) == os.getpid())


@pytest.mark.parametrize("kind", [InputError, CannotConvert, Locked])
def test_an_error_keeps_its_class_and_words(kind: type[InputError]) -> None:
    def work() -> None:
        raise kind("what", "why", "next")

    with pytest.raises(kind) as caught:
        call(work)
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.why, caught.value.next) == ("what", "why", "next")


def test_an_error_of_the_system_keeps_its_number(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call(lambda: (tmp_path / "none").read_bytes())
    assert caught.value.filename == str(tmp_path / "none")


def test_what_nobody_expected_is_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        raise KeyError("weights")

    with pytest.raises(InputError, match=r"model.onnx cannot be read: reading it failed with KeyError: 'weights'"):
        call(work)
    monkeypatch.setenv("EDGEKIT_TRACEBACK", "1")
    with pytest.raises(Exception, match="weights") as caught:
        call(work)
    assert type(caught.value).__name__ == "KeyError"
    assert "in work" in caught.value.__notes__[0]


def test_log_and_progress_are_the_parents(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[Any] = []

    def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        shown.append((what, total))
        for item in items:
            shown.append(what)
            yield item
        shown.append("end")

    def work(own: Any) -> int:
        logging.getLogger("edgekit").warning("a warning")
        return sum(own([1, 2, 3], "reading", 3))

    with caplog.at_level(logging.DEBUG, "edgekit"):
        assert sandbox.call(work, "model.onnx", TIGHT, progress) == 6
    assert [record.message for record in caplog.records] == ["a warning"]
    assert shown == [("reading", 3), "reading", "reading", "reading", "end"]


@pytest.mark.parametrize("answer", [b"\n", b"[]\n", b'{"kind": "other"}\n', b'{"kind": "log"}\n', b"\x80\x04N.\n"])
def test_an_answer_that_is_none(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: Any, writer: int, *others: Any) -> None:
        os.write(writer, answer)
        os._exit(0)

    monkeypatch.setattr(sandbox, "_run", run)
    with pytest.raises(InputError, match="an answer that is none"):
        call(lambda: None)


# --- limits -------------------------------------------------------------------------------------------------------


def test_memory() -> None:
    with pytest.raises(InputError, match=r"model.onnx needs too much memory: .* more than 0.2 GB"):
        call(lambda: len(bytearray(400 << 20)))


def test_processor_time() -> None:
    def work() -> None:
        while True:
            pass

    with pytest.raises(InputError, match=r"model.onnx takes too long"):
        call(work)


def test_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "BUSY", 0.5)
    with pytest.raises(InputError, match=r"model.onnx takes too long"):
        call(lambda: time.sleep(60))


def test_written_bytes(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large"):
        call(lambda: (tmp_path / "large").write_bytes(bytes(2 << 20)))


def test_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with pytest.raises(OSError, match="unreachable"):
            call(lambda: socket.create_connection(address, timeout=5).close())


def test_a_crash() -> None:
    with pytest.raises(InputError, match=r"model.onnx cannot be read: .* crashed \(SIGSEGV\)"):
        call(lambda: os.kill(os.getpid(), signal.SIGSEGV))


def test_nothing_is_left(tmp_path: Path) -> None:
    """What a child started, and its temporary files, go with it."""

    def work() -> dict[str, Any]:
        import tempfile

        started = subprocess.Popen(["sleep", "60"])
        return {"process": started.pid, "folder": tempfile.mkdtemp()}

    before = psutil.Process().children()
    left = call(work)
    assert not Path(left["folder"]).exists()
    assert not psutil.pid_exists(left["process"]) or psutil.Process(left["process"]).status() == psutil.STATUS_ZOMBIE
    assert psutil.Process().children() == before


PARENT = """
import os, time
from edgekit.core import sandbox
def work(progress):
    print(os.getpid(), flush=True)
    time.sleep(60)
sandbox.call(work, "model.onnx", sandbox.Limits.reading(0))
"""


def test_it_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(10)


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sandbox.SWITCH, "off")
    assert call(os.getpid) == os.getpid()


def test_a_large_file_may_take_more() -> None:
    small, large = Limits.reading(1000), Limits.reading(1 << 30)
    assert large.memory - small.memory > 8 << 30
    assert large.seconds > 100 + small.seconds
    assert small.memory < 2e9


# --- bombs --------------------------------------------------------------------------------------------------------


def save(path: Path, nodes: list[Any], constants: dict[str, Any], size: Any = 4, functions: Any = ()) -> None:
    value = helper.make_tensor_value_info
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "bomb", [value("x", 1, ["n", size])], [value("y", 1, None)], held)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    path.write_bytes(model.SerializeToString())


def doubling_functions(path: Path) -> None:
    """f29 calls f28 twice, which calls f27 twice, and so on: a thousand million nodes."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets)]
    for level in range(1, 30):
        calls = [
            helper.make_node(f"f{level - 1}", [source], [target], domain="own")
            for source, target in (("a", "c"), ("c", "b"))
        ]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], calls, opsets))
    save(path, [helper.make_node("f29", ["x"], ["y"], domain="own")], {}, functions=functions)


def functions_that_call_themselves(path: Path) -> None:
    opsets = [helper.make_opsetid("own", 1)]
    call = helper.make_node("f", ["a"], ["b"], domain="own")
    function = helper.make_function("own", "f", ["a"], ["b"], [call], opsets)
    save(path, [helper.make_node("f", ["x"], ["y"], domain="own")], {}, functions=[function])


def huge(type: str, size: int = 1 << 40) -> Callable[[Path], None]:
    """A tensor of so many elements that is computed from constants, so that a converter would fold it."""

    def make(path: Path) -> None:
        inputs = ["size"] if type == "ConstantOfShape" else ["one", "size"]
        nodes = [helper.make_node(type, inputs, ["c"]), helper.make_node("ReduceSum", ["c"], ["r"])]
        constants = {"size": np.array([size]), "one": np.ones(1, np.float32)}
        save(path, [*nodes, helper.make_node("Add", ["x", "r"], ["y"])], constants)

    return make


def huge_input(path: Path) -> None:
    save(path, [helper.make_node("Relu", ["x"], ["y"])], {}, size=1 << 40)


def absurd_external_data(path: Path) -> None:
    (path.parent / "w.bin").write_bytes(bytes(16))
    save(path, [helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(4, np.float32)})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "w.bin"), ("offset", "9" * 18), ("length", str(1 << 42))):
        tensor.external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())


def external_pipe(path: Path) -> None:
    absurd_external_data(path)
    (path.parent / "w.bin").unlink()
    os.mkfifo(path.parent / "w.bin")


def endless_loop(path: Path) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", 1, [4])],
        [value("d", TensorProto.BOOL, []), value("w", 1, [4])],
    )
    nodes = [helper.make_node("Loop", ["count", "true", "x"], ["y"], body=body)]
    save(path, nodes, {"count": np.array(1 << 62), "true": np.array(True)})


def nested(path: Path) -> None:
    """A node in a graph in an attribute of a node, and so on: 20,000 levels."""

    def field(number: int, inner: bytes) -> bytes:
        length = bytearray()
        count = len(inner)
        while count > 127:
            length.append(count & 127 | 128)
            count >>= 7
        return bytes([number << 3 | 2, *length, count]) + inner

    inner = b""
    for _ in range(20_000):
        inner = field(5, field(6, field(1, inner)))
    path.write_bytes(field(7, field(1, inner)))


def zeros(name: str) -> Callable[[Path], None]:
    """An archive with 512 MiB of zeros under this name, in 0.5 MB."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
            for _ in range(32):
                member.write(bytes(1 << 24))

    return make


def laughs(path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    path.write_text(f'<!DOCTYPE net [<!ENTITY e0 "ha">{entities}]><net version="11"><layers>&e11;</layers></net>')


def external_entity(path: Path) -> None:
    path.write_text('<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]><net name="&e;"><layers/></net>')


def short_bin(path: Path) -> None:
    size = 1 << 40
    layers = "".join(
        f'<layer id="{i}" type="{type}" name="{type}"><data shape="{size}" offset="0" size="{4 * size}" '
        f'element_type="f32"/><output><port id="0" precision="FP32"><dim>{size}</dim></port></output></layer>'
        for i, type in enumerate(("Const", "Result"))
    )
    edges = '<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    path.write_text(f'<net version="11"><layers>{layers}</layers><edges>{edges}</edges></net>')
    path.with_suffix(".bin").write_bytes(bytes(16))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


BOMBS = {
    "functions.onnx": (doubling_functions, "more than 1,000,000 nodes"),
    "recursion.onnx": (functions_that_call_themselves, "more than 1,000,000 nodes"),
    "constant.onnx": (huge("ConstantOfShape"), "would take 4,398 GB"),
    "expand.onnx": (huge("Expand"), "would take 4,398 GB"),
    "tile.onnx": (huge("Tile"), "would take 4,398 GB"),
    "input.onnx": (huge_input, "would take 4,398 GB"),
    "gigabytes.onnx": (huge("Expand", 1 << 30), "would take 4 GB"),
    "loop.onnx": (endless_loop, "loop 'y' does not end"),
    "external.onnx": (absurd_external_data, "w.bin has 16 bytes"),
    "external_pipe.onnx": (external_pipe, "w.bin is missing"),
    "nested.onnx": (nested, "cannot be parsed"),
    "zeros.keras": (zeros("config.json"), "unpack to 536,870,912"),
    "zeros.pt2": (zeros("a/models/model.json"), "unpack to 536,870,912"),
    "laughs.xml": (laughs, "declares a DOCTYPE"),
    "entity.xml": (external_entity, "declares a DOCTYPE"),
    "short.xml": (short_bin, "short.bin has 16 bytes where its constants need 4,398,046,511,104"),
    **{f"pipe.{ending}": (pipe, "it is a named pipe") for ending in ("onnx", "tflite", "xml", "keras", "pt2")},
    **{f"device.{ending}": (device, "it is a device") for ending in ("onnx", "tflite", "xml", "keras", "pt2")},
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.timeout(120)
def test_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    make, why = BOMBS[name]
    make(tmp_path / name)
    model, run = str(tmp_path / name), tmp_path / "run"
    for work in (lambda: import_.import_model(model, out=run), lambda: inspect(model)):
        started = time.monotonic()
        with pytest.raises(InputError) as caught:
            work()
        assert why in str(caught.value)
        assert time.monotonic() - started < 20
    assert not list((tmp_path / "run").glob("[!.]*/artifact.json"))


def test_a_child_that_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "STILL_SECONDS", 0.5)
    with pytest.raises(InputError, match="has stood still"):
        call(lambda: time.sleep(60))


def test_one_that_waits_for_its_own_children_does_not_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "STILL_SECONDS", 0.4)
    assert call(lambda: subprocess.run(["sleep", "1"]).returncode) == 0
