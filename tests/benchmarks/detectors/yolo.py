"""Ultralytics' YOLOv8n, trained from its YAML on the composed pictures; its ONNX file, and what torch computes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import composed
import numpy as np
from numpy.typing import NDArray

from edgekit.core.samples import SampleSet

EPOCHS = 24
WEIGHTS = f"yolov8n-{composed.SIZE}-{EPOCHS}.pt"


def trained(yaml: Path, folder: Path) -> Path:
    """The ONNX file, made once: about ten minutes on two cores."""
    file = (folder / WEIGHTS).with_suffix(".onnx")
    if file.is_file():
        return file
    YOLO = _ultralytics(folder)
    if not (folder / WEIGHTS).is_file():
        network = YOLO("yolov8n.yaml")
        network.add_callback("on_train_end", lambda trainer: Path(trainer.last).replace(folder / WEIGHTS))
        how: dict[str, Any] = {"device": "cpu", "workers": 0, "plots": False, "val": False, "seed": 0}
        how |= {"optimizer": "AdamW", "lr0": 0.002, "close_mosaic": EPOCHS // 3}
        try:
            network.train(
                data=str(yaml), epochs=EPOCHS, imgsz=composed.SIZE, batch=32, project=str(folder), name="fit", **how
            )
        except Exception:  # its own evaluation at the end needs torchvision's compiled operators
            if not (folder / WEIGHTS).is_file():
                raise
    YOLO(folder / WEIGHTS).export(format="onnx", imgsz=composed.SIZE, simplify=False)
    return file


def outputs(folder: Path, samples: SampleSet) -> NDArray[np.float32]:
    """(N, 4 + classes, cells), from torch."""
    import torch

    network = _ultralytics(folder)(folder / WEIGHTS).model.float().eval()
    images = torch.from_numpy(np.asarray(next(iter(samples.inputs.values())), np.float32))
    with torch.inference_mode():
        found = [network(batch) for batch in images.split(50)]
    return torch.cat([one[0] if isinstance(one, tuple) else one for one in found]).numpy()


def _ultralytics(folder: Path) -> Any:
    """Its class YOLO, which keeps its settings in `folder` and asks no server."""
    os.environ |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1"}
    import torch

    # torchvision registers fake kernels for these; built for another torch, it does not define them
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from ultralytics import YOLO

    return YOLO
