"""MACs of a model whose input sizes are open: of the sizes that are given, and of none that is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.report.tables import lines
from edgekit.workflows import export, import_
from edgekit.workflows.inspect import model as models

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    """8 filters of 3x3x3, on images of any size."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 3, "h", "w"]), ("y", None))]
    weights = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    path = tmp_path / "conv.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def text(result: dict[str, object]) -> str:
    return "\n".join(lines(models.shown(result, 5)))


def test_an_open_size_has_no_macs(convolution: Path) -> None:
    result = models.inspect(str(convolution))
    assert result["macs"] is None and result["peak_bytes"] is None
    assert all(layer["activation_bytes"] is None for layer in result["layers"])
    assert "unknown: the size of x is open (--shape x=1x3x320x320)" in " ".join(text(result).split())


def test_a_given_size_has(convolution: Path) -> None:
    result = models.inspect(str(convolution), {"x": (1, 3, 20, 30)})
    assert result["macs"] == 20 * 30 * 8 * 27 and result["open_size"] == ""
    assert result["layers"][0]["activation_bytes"] == 20 * 30 * 8 * 4
    assert list(result["inputs"][0]["shape"]) == [None, 3, None, None], "the file's shape is shown as it is"
    with pytest.raises(InputError, match="no input 'image'"):
        models.inspect(str(convolution), {"image": (1, 3, 20, 30)})


def test_the_size_of_the_import_and_of_a_conversion(convolution: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    import_.import_model(str(convolution), out=tmp_path / "run", shapes={"": (1, 3, 20, 30)})
    assert models.inspect(str(tmp_path / "run" / "onnx"))["macs"] == 20 * 30 * 8 * 27
    export.export(str(tmp_path / "run"), to=["openvino"])
    assert models.inspect(str(tmp_path / "run" / "openvino"))["macs"] == 20 * 30 * 8 * 27
