"""What a user has before the first command: a trained model, and data, as files. Made once, kept in the cache."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "quantize"))
sys.path.insert(0, str(Path(__file__).parents[1] / "detectors"))

import composed
import text
import yolo

from edgekit.tasks.fashion_mnist import FashionMnist
from edgekit.tasks.shared import downloads
from edgekit.workflows import export, train

#: stories are cut off here, and the words that the tokenizer knows
LENGTH, WORDS = 64, 4000
PHOTOS = {"train": 500, "val": 1000, "test": 2000}


def cache() -> Path:
    folder = downloads.cache() / "quickstarts-benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def detector() -> dict[str, Path]:
    """YOLOv8n's `.pt`, trained by Ultralytics for the benchmark of detectors, and the `data.yaml` of its pictures."""
    folder = composed.cache()
    yaml = composed.write(folder / "pictures")
    yolo.trained(yaml, folder)
    return {"detector.pt": folder / yolo.WEIGHTS, "pictures": yaml.parent}


def classifier() -> dict[str, Path]:
    """A small convolutional network's ONNX file, trained on Fashion-MNIST, and photos by class as PNG files."""
    model, photos = cache() / "classifier.onnx", cache() / "photos"
    if not model.is_file():
        task, run = FashionMnist(), cache() / "classifier"
        _photos(task, photos)
        train.train("fashion-mnist", model="cnn", out=run, epochs=2, lr=0.01, seed=0, accelerator="cpu")
        made = next(a for a in export.export(str(run), to=["onnx"]).artifacts if a.kind.format == "onnx")
        shutil.copy(made.path / "model.onnx", model)
    return {"classifier.onnx": model, "photos": photos}


def _photos(task: FashionMnist, folder: Path) -> None:
    from PIL import Image

    for split, count in PHOTOS.items():
        samples = task.load(split)
        pixels = next(iter(samples.inputs.values()))
        assert samples.labels is not None
        for index, (image, label) in enumerate(zip(pixels[:count], samples.labels[:count], strict=True)):
            path = folder / split / str(int(label)) / f"{index:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(image, np.uint8).reshape(28, 28)).save(path)


def reader() -> dict[str, Path]:
    """A small BERT as Hugging Face saves it, with its tokenizer, trained here on Reuters' stories (eight topics); the
    stories as `train.csv`, `val.csv` and `test.csv` (text, label)."""
    model, stories = cache() / "bert", cache() / "stories"
    if not (cache() / "test.npz").is_file():
        parts = _stories(stories)
        _trained(parts["train"], model)
        np.savez(cache() / "test.npz", **_tokens(model, stories / "test.csv"))
    return {"bert": model, "stories": stories}


def _stories(folder: Path) -> dict[str, list[tuple[list[str], str]]]:
    words = text._stories("train")
    order = text.shuffled(len(words))
    cut = len(words) - text.VALIDATION
    parts = {"train": [words[i] for i in order[:cut]], "val": [words[i] for i in order[cut:]]}
    parts["test"] = text._stories("test")
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in parts.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            table.writerows([" ".join(story), text.Reuters.classes.index(topic)] for story, topic in part)
    return parts


def _trained(stories: list[tuple[list[str], str]], folder: Path) -> None:
    """Two epochs of AdamW: about a minute on two cores."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core.train_from_iterator(
        (" ".join(words) for words, _ in stories), trainers.WordLevelTrainer(vocab_size=WORDS, special_tokens=special)
    )
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names: dict[str, Any] = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LENGTH, **names)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 512, "max_position_embeddings": LENGTH}
    labels = {str(i): name for i, name in enumerate(text.Reuters.classes)}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=len(labels), id2label=labels, **sizes)
    network = BertForSequenceClassification(config)
    tokens = tokenizer([" ".join(w) for w, _ in stories], truncation=True, padding="max_length", return_tensors="pt")
    wanted = torch.tensor([text.Reuters.classes.index(topic) for _, topic in stories])
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    for _ in range(2):
        for batch in torch.randperm(len(wanted)).split(32):
            loss = network(**{name: values[batch] for name, values in tokens.items()}, labels=wanted[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # a name that every version knows
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def _tokens(folder: Path, csv_file: Path) -> dict[str, NDArray[np.int64]]:
    """The stories as the model's inputs, and `label`."""
    from transformers import AutoTokenizer

    rows = list(csv.DictReader(csv_file.open(encoding="utf-8")))
    made = AutoTokenizer.from_pretrained(folder)(
        [row["text"] for row in rows], truncation=True, padding="max_length", max_length=LENGTH, return_tensors="np"
    )
    return {**{k: v.astype(np.int64) for k, v in made.items()}, "label": np.array([int(r["label"]) for r in rows])}


if __name__ == "__main__":  # in edgekit's own environment, which has transformers and no torchvision
    {"classifier": classifier, "bert": reader}[sys.argv[1]]()
