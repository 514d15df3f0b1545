"""nothing → torch: .keras files on Keras' torch backend; the classic example through every format, float and int8."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import ONE_THREAD, Ended, run_cli

from edgekit import networks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.runs.store import Store
from edgekit.steps.import_keras import ImportKeras

torch = pytest.importorskip("torch")
# found, not imported: it would choose a backend
pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")

#: written in a process of its own, as a user's script is
SMALL = """
import keras

keras.utils.set_random_seed(0)
layers = keras.layers
image = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
image.save("image.keras")
ids, features = keras.Input((None,), dtype="int32", name="ids"), keras.Input((4,), name="features")
both = layers.Concatenate()([layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(ids)), features])
outputs = [layers.Dense(3, name="kind")(both), layers.Dense(1, name="size")(both)]
keras.Model([features, ids], outputs).save("several.keras")
keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: 2 * x, name="twice")]).save("lambda.keras")


@keras.saving.register_keras_serializable("mine")
class Own(layers.Layer):
    def call(self, x):
        return 3 * x


keras.Sequential([keras.Input((4,)), Own(name="thrice")]).save("own.keras")
keras.Sequential([layers.Dense(3)]).save("unbuilt.keras")
"""

CLASSIC = """
import keras
import numpy as np

from edgekit.tasks.mnist import Mnist

keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
        *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
        *(layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")),
    ]
)
model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
sets = {split: Mnist().load(split) for split in ("train", "val", "test")}
images = {split: data.inputs["input"].reshape(-1, 28, 28, 1).astype("float32") / 255 for split, data in sets.items()}
model.fit(images["train"], sets["train"].labels, batch_size=64, epochs=3, verbose=0)
model.save("m.keras")
np.savez("cal.npz", input=images["train"][:256])
for split in ("val", "test"):
    np.savez(f"{split}.npz", input=images[split], label=sets[split].labels)
print(model.evaluate(images["test"], sets["test"].labels, verbose=0)[1])
"""


def script(code: str, folder: Path) -> str:
    environment = {**os.environ, **ONE_THREAD, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    script(SMALL, folder)
    return folder


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[Path], Artifact]:
    def call(path: Path) -> Artifact:
        store = Store(tmp_path / "run")
        with store.lock():
            context = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))
            return store.make("torch", ImportKeras.of(str(path)), {}, context)

    return call


def test_an_image_model_keeps_its_layout(saved: Path, imported: Callable[[Path], Artifact]) -> None:
    artifact = imported(saved / "image.keras")
    assert [(s.dtype, s.shape) for s in artifact.inputs] == [("float32", (None, 8, 8, 1))]
    assert [str(s) for s in artifact.outputs] == ["output: float32[?, 3]"]
    count = 4 * 9 + 4 + 4 * 36 * 3 + 3
    recorded = json.loads((artifact.path / "model.json").read_text())["tensors"]
    assert sum(int(np.prod(shape)) for _, shape in recorded.values()) == count, "every parameter, once"
    assert artifact.sizes.weights == 4 * (4 * 9 + 4 * 36 * 3)


def test_several_inputs_and_outputs(saved: Path, imported: Callable[[Path], Artifact]) -> None:
    artifact = imported(saved / "several.keras")
    assert [str(s) for s in artifact.inputs] == ["features: float32[?, 4]", "ids: int32[?, ?]"]
    assert [str(s) for s in artifact.outputs] == ["kind: float32[?, 3]", "size: float32[?, 1]"]
    network = networks.load(artifact.path)
    ids = torch.tensor([[1, 2, 3]], dtype=torch.int32)
    with torch.inference_mode():
        one, other = network(torch.ones(1, 4), ids)
        moved, _ = network(torch.ones(1, 4), ids + 5)
    assert one.shape == (1, 3) and other.shape == (1, 1)
    assert not torch.allclose(one, moved), "the ids are not looked at"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lambda", "layer 'twice' is a Lambda, which holds code"),
        ("own", "layer 'thrice' is a Own of your own code"),
        ("unbuilt", "has no inputs"),
    ],
)
def test_what_cannot_be_trusted_or_called(
    saved: Path, imported: Callable[[Path], Artifact], name: str, said: str
) -> None:
    with pytest.raises(InputError) as error:
        imported(saved / f"{name}.keras")
    assert said in str(error.value)
    assert error.value.next


def test_damaged_files(saved: Path, imported: Callable[[Path], Artifact], tmp_path: Path) -> None:
    whole = (saved / "image.keras").read_bytes()
    bad = tmp_path / "bad.keras"
    for raw in (b"", whole[: len(whole) // 2], b"text", whole[:-30]):
        bad.write_bytes(raw)
        with pytest.raises(InputError, match=r"cannot read .*bad\.keras"):
            imported(bad)
    with zipfile.ZipFile(saved / "image.keras") as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"no HDF5" if name.endswith(".h5") else old.read(name))
    with pytest.raises(InputError, match=r"cannot read .*bad\.keras"):
        imported(bad)
    with pytest.raises(InputError, match="no such file"):
        imported(tmp_path / "absent.keras")


def test_another_backend_is_no_surprise(saved: Path) -> None:
    """Keras cannot change its backend once it is imported."""
    code = "import os; os.environ['KERAS_BACKEND'] = 'numpy'; import keras; from pathlib import Path; " + (
        "from edgekit.networks import keras as k; k.read(Path('image.keras'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=saved, capture_output=True, text=True)
    assert "InputError: .keras models need Keras on torch: Keras was imported with its numpy backend" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_classic_example_in_every_format(tmp_path: Path) -> None:
    """28 x 28 x 1, learnt in Keras: three formats, float to 60 dB, int8 to half a point, by the command line alone."""
    accuracy = float(script(CLASSIC, tmp_path))
    formats = "onnx,tflite,openvino"

    def cli(*words: object) -> Ended:
        ended = run_cli(*words, "--json", cwd=tmp_path, timeout=600)
        assert ended.code == 0, ended.err
        return ended

    floats = cli("export", "m.keras", "--to", formats, "--out", "run").json["artifacts"]
    assert {a["name"] for a in floats} == {"onnx", "tflite", "openvino"}
    sets = ("--calibration", "cal.npz", "--val", "val.npz")
    cli("quantize", "m.keras", "--int8", "--to", formats, *sets, "--max-drop", 0.5, "--out", "run")
    measured = cli("bench", "run", "--data", "test.npz", "--processes", 1).json["measurements"]
    found = {m["artifact"]: m for m in measured}
    expected = {"torch", *formats.split(","), *(f"{f}-int8" for f in formats.split(","))}
    # a network this small may be faster with int8 weights only: that file is kept, too
    assert {name for name in found if "dynamic" not in name} == expected
    assert accuracy > 0.93
    assert found["torch"]["metric"]["value"] == pytest.approx(accuracy, abs=0.0011)
    for name in formats.split(","):
        assert found[name]["parity"]["against"] == "torch" and found[name]["parity"]["sqnr_db"] >= 60
        assert found[f"{name}-int8"]["metric"]["against"] == "torch"
        assert found[f"{name}-int8"]["metric"]["drop_pp"] <= 0.5
        assert found[f"{name}-int8"]["weight_bytes"] * 3 < found[name]["weight_bytes"]
