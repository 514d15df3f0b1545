"""Weight-only int8 and int4 of a TFLite file, in LiteRT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("ai_edge_litert.interpreter")
from tflite_files import Written  # noqa: E402

from edgekit.core import registry, statistics  # noqa: E402
from edgekit.core.artifact import Artifact  # noqa: E402
from edgekit.core.errors import CannotConvert  # noqa: E402
from edgekit.core.progress import quiet  # noqa: E402
from edgekit.core.step import Context  # noqa: E402
from edgekit.formats.tflite import Tflite  # noqa: E402
from edgekit.runs.store import Store  # noqa: E402
from edgekit.sets.reading import sample_set  # noqa: E402

INT32, OPS = schema.TensorType.INT32, schema.BuiltinOperator
IDS = np.random.default_rng(3).integers(0, 80, (40, 6)).astype(np.int32)


def network(path: Path) -> Path:
    """Token ids (6) → embedding (6, 64) → 96 → relu → 64 → 40."""
    rng, written = np.random.default_rng(0), Written()

    def weights(name: str, *shape: int) -> int:
        return written.tensor(name, shape, data=(rng.standard_t(4, shape) / 8).astype(np.float32))

    ids = written.tensor("ids", (6,), INT32)
    tensors = [
        written.tensor(name, (6, size)) for name, size in (("e", 64), ("u", 96), ("r", 96), ("d", 64), ("y", 40))
    ]
    embedded, up, relu, down, logits = tensors
    written.operator(OPS.EMBEDDING_LOOKUP, (ids, weights("table", 80, 64)), (embedded,))
    written.operator(OPS.FULLY_CONNECTED, (embedded, weights("w1", 96, 64), -1), (up,))
    written.operator(OPS.RELU, (up,), (relu,))
    written.operator(OPS.FULLY_CONNECTED, (relu, weights("w2", 64, 96), weights("bias", 64)), (down,))
    written.operator(OPS.FULLY_CONNECTED, (down, weights("w3", 40, 64), -1), (logits,))
    for operator in written.graph.operators:
        if written.model.operatorCodes[operator.opcodeIndex].builtinCode == OPS.FULLY_CONNECTED:
            operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            operator.builtinOptions = schema.FullyConnectedOptionsT()
            operator.builtinOptions.keepNumDims = True
    return written.write(path)


class Made:
    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "run")
        self.plain = self.get("tflite", registry.load("steps", "import_tflite")(path=str(network(folder / "m.tflite"))))

    def get(self, name: str, step: Any, parent: Artifact | None = None) -> Artifact:
        data = {"calibration": sample_set("ids", {"ids": IDS}, None)} if parent and step.sets(None) else {}
        context = Context(None, data, quiet, logging.getLogger("edgekit"))
        with self.store.lock():
            return self.store.make(name, step, {"parent": parent} if parent else {}, context)

    def small(self, bits: int, **fields: Any) -> Artifact:
        return self.get(f"tflite-w{bits}", registry.load("steps", f"tflite_w{bits}")(**fields), self.plain)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("tflite"))


def decibels(artifact: Artifact, like: Artifact) -> float:
    outputs = []
    for one in (like, artifact):
        specs = {"inputs": [s.to_json() for s in one.inputs], "outputs": [s.to_json() for s in one.outputs]}
        session = registry.load("runtimes", "litert")(str(one.path / "model.tflite"), 1, "fp32", specs)
        outputs.append(np.stack([np.array(session.bind({"ids": ids})()[0]) for ids in IDS]))
    return statistics.sqnr_db(outputs[0], outputs[1])


def test_int8_is_computed_in_float(made: Made) -> None:
    small = made.small(8)
    facts, before = (Tflite.describe(one.path / "model.tflite") for one in (small, made.plain))
    assert facts.traits == {"w8"} and facts.parameters == before.parameters
    assert facts.quantized == ("weight-only: 3 int8 per channel, symmetric; 1 int8 per channel, symmetric (embedding)")
    assert small.sizes.total < 0.4 * made.plain.sizes.total and decibels(small, made.plain) > 30


@pytest.mark.parametrize("head", ["4", "8", "float"])
def test_int4_in_blocks(made: Made, head: str) -> None:
    small = made.small(4, head=head, embeddings=head, weight_method="rtn")
    facts, before = (Tflite.describe(one.path / "model.tflite") for one in (small, made.plain))
    products = {"4": 3, "8": 2, "float": 2}[head]
    assert facts.traits == {"w4"} and f"{products} int4 blocks of 32, symmetric" in facts.quantized
    assert facts.parameters == before.parameters
    assert [o.macs for o in facts.operators if o.macs] == [o.macs for o in before.operators if o.macs]
    assert decibels(small, made.plain) > 12


def test_samples_bring_it_nearer(made: Made) -> None:
    fields = {"embeddings": "float", "head": "float"}
    plain = made.small(4, weight_method="rtn", **fields)
    before = decibels(plain, made.plain)
    assert decibels(made.small(4, calibration="x", **fields), made.plain) > before + 1


@pytest.mark.parametrize(("block", "made_of"), [(128, "blocks of 32"), (16, "per channel"), (0, "per channel")])
def test_blocks_that_litert_has(made: Made, block: int, made_of: str) -> None:
    small = made.small(4, block=block, head="float")
    assert f"int4 {made_of}" in Tflite.describe(small.path / "model.tflite").quantized and made_of in small.scheme
    assert decibels(small, made.plain) > 8


def test_what_litert_has_no_kernels_for() -> None:
    step = registry.load("steps", "tflite_w4")
    assert list(step(symmetric="no").check(None)) and list(step(weight_method="awq", calibration="x").check(None))


def test_no_weights(tmp_path: Path) -> None:
    written = Written()
    x, y = (written.tensor(name, (1, 3)) for name in "xy")
    written.operator(OPS.RELU, (x,), (y,))
    store, step = (
        Store(tmp_path / "run"),
        registry.load("steps", "import_tflite")(path=str(written.write(tmp_path / "m.tflite"))),
    )
    context = Context(None, {}, quiet, logging.getLogger("edgekit"))
    with store.lock():
        plain = store.make("tflite", step, {}, context)
        with pytest.raises(CannotConvert, match="nothing of tflite was quantized"):
            store.make("tflite-w4", registry.load("steps", "tflite_w4")(), {"parent": plain}, context)
