"""What each tool's documentation says to type for a first int8 file of one's own model, and what one has to write.

A command's first word is a program of the tool's environment. `files` are what the user writes first: name → text.
`made`: a pattern of the int8 file. A command after the first that only measures is in `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quickstart:
    tool: str
    model: str
    result: str
    commands: tuple[str, ...]
    made: str
    files: dict[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    source: str = ""
    note: str = ""


OLIVE_CONFIG = """{
 "input_model": {"type": "ONNXModel", "model_path": "classifier.onnx"},
 "data_configs": [{
  "name": "calibration",
  "user_script": "photos.py",
  "load_dataset_config": {"type": "user_photos"},
  "dataloader_config": {"batch_size": 1}
 }],
 "passes": {"int8": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
 "output_dir": "out"
}
"""

OLIVE_SCRIPT = """from pathlib import Path

import numpy as np
from olive.data.registry import Registry
from PIL import Image

@Registry.register_dataset("user_photos")
def photos(**_):
    return Photos()

class Photos:
    files = sorted(Path("photos/train").rglob("*.png"))[:100]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return {"input": np.array(Image.open(self.files[index]), np.float32)[None]}, 0
"""

OPTIMUM_STATIC = """from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig
from datasets import load_dataset
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert")
model = ORTModelForSequenceClassification.from_pretrained("bert", export=True)
data = load_dataset("csv", data_files="stories/train.csv", split="train[:100]")
tokens = lambda row: tokenizer(row["text"], truncation=True, padding="max_length", max_length=64)
data = data.map(tokens, remove_columns=["text", "label"])
quantizer = ORTQuantizer.from_pretrained(model)
config = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=False)
ranges = quantizer.fit(
    dataset=data,
    calibration_config=AutoCalibrationConfig.minmax(data),
    operators_to_quantize=config.operators_to_quantize,
)
quantizer.quantize(save_dir="out", calibration_tensors_range=ranges, quantization_config=config)
"""

INTEL_STATIC = """from datasets import load_dataset
from optimum.intel import OVConfig, OVModelForSequenceClassification, OVQuantizationConfig, OVQuantizer
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert")
model = OVModelForSequenceClassification.from_pretrained("bert", export=True)
data = load_dataset("csv", data_files="stories/train.csv", split="train[:100]")
tokens = lambda row: tokenizer(row["text"], truncation=True, padding="max_length", max_length=64)
data = data.map(tokens, remove_columns=["text", "label"])
quantizer = OVQuantizer.from_pretrained(model)
quantizer.quantize(
    calibration_dataset=data, save_directory="out", ov_config=OVConfig(quantization_config=OVQuantizationConfig())
)
"""

OURS_DYNAMIC = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

def make():
    tokens = AutoTokenizer.from_pretrained("bert")("a story", padding="max_length", max_length=64, return_tensors="pt")
    return AutoModelForSequenceClassification.from_pretrained("bert"), dict(tokens)
"""

OURS_BERT = """import csv
import numpy as np
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert")

def make():
    model = AutoModelForSequenceClassification.from_pretrained("bert")
    return model, dict(tokenizer("a story", padding="max_length", max_length=64, return_tensors="pt"))

if __name__ == "__main__":
    for split in ("train", "val"):
        rows = list(csv.DictReader(open(f"stories/{split}.csv")))[:500]
        stories = [r["text"] for r in rows]
        tokens = tokenizer(stories, truncation=True, padding="max_length", max_length=64, return_tensors="np")
        np.savez(split, label=[int(r["label"]) for r in rows], **tokens)
"""

QUICKSTARTS = (
    Quickstart(
        "Ultralytics",
        "detector",
        "ONNX",
        ("yolo export model=detector.pt format=onnx quantize=8 data=pictures/data.yaml imgsz=96",),
        "detector_int8.onnx",
        checks=(
            "yolo val model=detector.pt data=pictures/data.yaml imgsz=96",
            "yolo val model=detector_int8.onnx data=pictures/data.yaml imgsz=96",
        ),
        source="docs.ultralytics.com/modes/export",
    ),
    Quickstart(
        "Ultralytics",
        "detector",
        "OpenVINO",
        ("yolo export model=detector.pt format=openvino quantize=8 data=pictures/data.yaml imgsz=96",),
        "detector_int8_openvino_model/*.xml",
        checks=(
            "yolo val model=detector.pt data=pictures/data.yaml imgsz=96",
            "yolo val model=detector_int8_openvino_model data=pictures/data.yaml imgsz=96",
        ),
        source="docs.ultralytics.com/modes/export",
    ),
    *(
        Quickstart(
            "edgekit",
            "detector",
            title,
            (
                "yolo export model=detector.pt format=onnx imgsz=96",
                f"edgekit quantize detector.onnx --int8 --to {format} "
                "--calibration 'pictures/data.yaml?count=100:train' "
                "--val pictures/data.yaml:val --max-drop 1",
            ),
            f"runs/detector/{format}-int8/model.*",
            source="docs/detectors.md",
            note="a `.pt` file is a pickle, which edgekit does not read: Ultralytics writes the ONNX file",
        )
        for title, format in (("ONNX", "onnx"), ("OpenVINO", "openvino"))
    ),
    Quickstart(
        "Olive",
        "classifier",
        "ONNX, dynamic",
        ("olive quantize -m classifier.onnx --precision int8 --implementation ort -o out",),
        "out/**/*.onnx",
        source="microsoft.github.io/Olive",
    ),
    Quickstart(
        "Olive",
        "classifier",
        "ONNX, static",
        ("olive run --config olive.json",),
        "out/**/*.onnx",
        {"olive.json": OLIVE_CONFIG, "photos.py": OLIVE_SCRIPT},
        source="microsoft.github.io/Olive",
    ),
    Quickstart(
        "edgekit",
        "classifier",
        "ONNX, dynamic",
        ("edgekit quantize classifier.onnx --dynamic",),
        "runs/classifier/onnx-dynamic/model.onnx",
        source="docs/int8.md",
    ),
    Quickstart(
        "edgekit",
        "classifier",
        "ONNX, static, fast, no metric",
        ("edgekit quantize classifier.onnx --int8 --fast --no-latency --calibration 'photos?count=100:train'",),
        "runs/classifier/onnx-int8/model.onnx",
        source="docs/int8.md",
    ),
    Quickstart(
        "edgekit",
        "classifier",
        "ONNX, static, no metric",
        ("edgekit quantize classifier.onnx --int8 --calibration 'photos?count=100:train'",),
        "runs/classifier/onnx-int8/model.onnx",
        source="docs/int8.md",
    ),
    Quickstart(
        "edgekit",
        "classifier",
        "ONNX, static",
        (
            "edgekit quantize classifier.onnx --int8 --calibration 'photos?count=100:train' --val photos:val "
            "--max-drop 1",
        ),
        "runs/classifier/onnx-int8/model.onnx",
        source="docs/int8.md",
    ),
    Quickstart(
        "optimum",
        "bert",
        "ONNX, dynamic",
        (
            "optimum-cli export onnx --model bert --task text-classification float",
            "optimum-cli onnxruntime quantize --onnx_model float --avx512_vnni -o out",
        ),
        "out/*.onnx",
        source="huggingface.co/docs/optimum-onnx",
    ),
    Quickstart(
        "optimum",
        "bert",
        "ONNX, static",
        ("python quantize.py",),
        "out/*.onnx",
        {"quantize.py": OPTIMUM_STATIC},
        source="huggingface.co/docs/optimum-onnx",
    ),
    Quickstart(
        "optimum-intel",
        "bert",
        "OpenVINO, weights only",
        ("optimum-cli export openvino --model bert --task text-classification --weight-format int8 out",),
        "out/openvino_model.xml",
        source="huggingface.co/docs/optimum-intel",
    ),
    Quickstart(
        "optimum-intel",
        "bert",
        "OpenVINO, static",
        ("python quantize.py",),
        "out/openvino_model.xml",
        {"quantize.py": INTEL_STATIC},
        source="huggingface.co/docs/optimum-intel",
    ),
    Quickstart(
        "edgekit",
        "bert",
        "ONNX, dynamic",
        ("edgekit quantize story.py:make --dynamic --to onnx",),
        "runs/*/onnx-dynamic/model.onnx",
        {"story.py": OURS_DYNAMIC},
        source="docs/bring-your-own.md",
    ),
    *(
        Quickstart(
            "edgekit",
            "bert",
            title,
            (
                "python story.py",
                f"edgekit quantize story.py:make --int8 --to {format} --calibration train.npz --val val.npz "
                "--max-drop 1",
            ),
            f"runs/*/{format}-*/model.*",
            {"story.py": OURS_BERT},
            source="docs/bring-your-own.md",
            note="a folder of Hugging Face's is read by a function that the user writes, which also makes the tokens",
        )
        for title, format in (("ONNX, with data", "onnx"), ("OpenVINO, with data", "openvino"))
    ),
)
