"""A detector that is right without training, and pictures for it: red and green squares in the cells of a grid.

The network is a YOLOv8 in form: (1, 3, 32, 32) from 0 to 1 → (1, 6, 21), four of a box and two scores for the cells of
the strides 8, 16 and 32. A cell of the first grid scores how red, or how green, it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files
from onnx.helper import make_node as node
from onnx.helper import set_model_props

from edgekit.core.artifact import TensorSpec
from edgekit.core.signature import InputSignature, Resize

SIDE, CELL, CLASSES = 32, 8, ("red", "green")
COLOURS = ((255, 0, 0), (0, 255, 0))

#: class, column and row of the square's cell; the second picture is half as high, and gets a letterbox
SQUARES = ([(0, 1, 2)], [(1, 3, 0)], [(0, 0, 0), (1, 2, 3)], [], [(1, 1, 1), (0, 3, 1)], [(0, 2, 1)])
WIDE = 1


def save(path: Path, named: bool = False, deep: bool = False) -> Path:
    """`named`: with the class names, as Ultralytics writes them. `deep`: with layers of 64 channels."""
    wide = {f"wide-{index}": weights for index, weights in enumerate(_wide())} if deep else {}
    nodes = [
        *(
            node("Conv", [f"w{i}" if i else "images", name], [f"w{i + 1}"], name=name, pads=[1, 1, 1, 1])
            for i, name in enumerate(wide)
        ),
        node("Conv", [f"w{len(wide)}" if deep else "images", "colours"], ["c"], name="colours"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("AveragePool", ["r"], ["p"], name="cells", kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        node("Reshape", ["p", "list"], ["s"], name="list"),
        node("Concat", ["s", "none"], ["scores"], name="grids", axis=2),
        node("Concat", ["boxes", "scores"], ["output0"], name="join", axis=1),
    ]
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(SIDE // stride) for x in range(SIDE // stride)]
    boxes = np.array([((x + 0.5) * s, (y + 0.5) * s, s, s) for x, y, s in cells], np.float32).T[None]
    constants = {
        **wide,
        "colours": np.pad(np.float32([[1, 0, -1], [0, 1, -1]]), ((0, 0), (0, 61 * deep)))[..., None, None],
        "list": np.array([1, 2, 16]),
        "none": np.zeros((1, 2, 5), np.float32),
        "boxes": boxes,
    }
    ends = [("images", 1, [1, 3, SIDE, SIDE])], [("output0", 1, [1, 6, 21])]
    onnx_files.save(path, nodes, *ends, constants, 17)
    if named:
        model = onnx.load(path)
        set_model_props(model, {"names": str(dict(enumerate(CLASSES)))})
        onnx.save(model, path)
    return path


def _wide() -> list[np.ndarray]:
    """Two convolutions whose first three channels are the picture's colours, the others something of them."""
    layers = [np.random.default_rng(n).normal(size=(64, n, 3, 3)).astype(np.float32) / (9 * n) for n in (3, 64)]
    for layer in layers:
        layer[:3] = 0
        layer[range(3), range(3), 1, 1] = 1
    return layers


def pictures(folder: Path) -> list[Path]:
    """The pictures as PNG files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, squares in enumerate(SQUARES):
        pixels = np.full((SIDE // 2 if number == WIDE else SIDE, SIDE, 3), 40, np.uint8)
        for index, column, row in squares:
            pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = COLOURS[index]
        files.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def coco(folder: Path, **changes: Any) -> Path:
    """A folder with COCO's `annotations.json`; `changes` replace its top-level lists."""
    files = pictures(folder / "images")
    images = [
        {"id": 10 + n, "file_name": file.name, "width": SIDE, "height": SIDE // 2 if n == WIDE else SIDE}
        for n, file in enumerate(files)
    ]
    boxes = [
        {"image_id": 10 + n, "category_id": 5 * index + 1, "bbox": [x * CELL, y * CELL, CELL, CELL], "iscrowd": 0}
        for n, squares in enumerate(SQUARES)
        for index, x, y in squares
    ]
    annotations = [{"id": n + 1, **box} for n, box in enumerate(boxes)]
    categories = [{"id": 5 * index + 1, "name": name} for index, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories, **changes}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def yolo(folder: Path, names: str = "[red, green]") -> Path:
    """The same in Ultralytics' YOLO layout; its `data.yaml`."""
    pictures(folder / "images" / "val")
    (folder / "labels" / "val").mkdir(parents=True)
    for number, squares in enumerate(SQUARES):
        rows = (SIDE // 2 if number == WIDE else SIDE) / CELL
        columns = SIDE / CELL
        lines = [f"{k} {(x + 0.5) / columns} {(y + 0.5) / rows} {1 / columns} {1 / rows}\n" for k, x, y in squares]
        if lines:  # a picture without a file shows nothing
            (folder / "labels" / "val" / f"{number}.txt").write_text("".join(lines))
    (folder / "data.yaml").write_text(f"path: .\nval: images/val\nnames: {names}\n")
    return folder / "data.yaml"


def detector(size: int = SIDE) -> tuple[TensorSpec]:
    """The input of a detector that sees a square letterbox."""
    record = InputSignature("image", layout="NCHW", colour="RGB", resize=Resize("letterbox", size, 114), scale=1 / 255)
    return (TensorSpec("images", "float32", (1, 3, size, size), signature=record),)


def lists(path: Path, batched: bool = False, masks: bool = False) -> Path:
    """The same detector as torchvision writes them: one image (3, 32, 32), or `batched`, (1, 3, 32, 32) → boxes (n, 4),
    labels (n,), which count a background, and scores (n,), after suppression inside the graph; with `masks` (n, 1)."""
    save(path)
    model = onnx.load(path)
    graph = model.graph
    integers = {"first": [0], "all": [2**31 - 1], "parts": [4, 2], "one": [1], "most": [100], "class": [1], "box": [2]}
    floats = {"iou": [0.5], "least": [0.3]}
    for name, values in integers.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    for name, values in floats.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.float32), name))
    corners = np.float32([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])
    graph.initializer.append(onnx.numpy_helper.from_array(corners, "to-corners"))
    if not batched:
        graph.node.insert(0, node("Unsqueeze", ["image", "first"], ["images"]))
        graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("image", 1, [3, SIDE, SIDE]))
    graph.node.extend(
        [
            node("Split", ["output0", "parts"], ["sides", "class-scores"], axis=1),
            node("Transpose", ["sides"], ["rows"], perm=[0, 2, 1]),
            node("MatMul", ["rows", "to-corners"], ["corners"]),
            node("NonMaxSuppression", ["corners", "class-scores", "most", "iou", "least"], ["selected"]),
            node("Gather", ["selected", "class"], ["ids"], axis=1),
            node("Gather", ["selected", "box"], ["cells"], axis=1),
            node("Squeeze", ["ids", "one"], ["flat-ids"]),
            node("Add", ["flat-ids", "one"], ["labels"]),
            node("Squeeze", ["cells", "one"], ["flat-cells"]),
            node("Squeeze", ["corners", "first"], ["all-corners"]),
            node("Gather", ["all-corners", "flat-cells"], ["found"], axis=0),
            node("GatherND", ["class-scores", "selected"], ["sure"]),
        ]
    )
    graph.ClearField("output")
    for name, kind, shape in (("found", 1, ["n", 4]), ("labels", 7, ["n"]), ("sure", 1, ["n"])):
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    if masks:
        graph.node.append(node("Unsqueeze", ["sure", "one"], ["masks"]))
        graph.output.append(onnx.helper.make_tensor_value_info("masks", 1, ["n", 1]))
    onnx.save(model, path)
    return path
