"""Fine-tuning the encoder of a Hugging Face directory on texts, from the command's words to an exported model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekit import networks
from edgekit.core.errors import InputError
from edgekit.networks import hugging_face
from edgekit.networks.weights import read_weights
from edgekit.workflows.import_ import import_model
from edgekit.workflows.train import FINE_TUNING_LR, train

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

GOOD, BAD = "great lovely fine good", "awful boring ugly bad"
TASK = "text-classification?data=reviews.csv&length=8"
QUICK: dict[str, Any] = {"epochs": 3, "batch": 8, "accelerator": "cpu", "seed": 0}


@pytest.fixture(autouse=True)
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [(word, label) for label, text in {"g": GOOD, "b": BAD}.items() for word in text.split()]
    rows = [f"the {word} story {i},{label}" for i in range(12) for word, label in words]
    Path("reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")


def directory(name: str, pad: int = 0, **more: Any) -> Path:
    """A directory of a small encoder with random weights, whose tokenizer pads with the token `pad`."""
    special = ["<s>", "<pad>"] if pad else ["<pad>", "<s>"]
    words = [*special, "<unk>", "the", "story", *f"{GOOD} {BAD}".split(), *map(str, range(12))]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = Path(name)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    kind = transformers.RobertaConfig if pad else transformers.BertConfig
    config = kind(vocab_size=len(words), max_position_embeddings=16, pad_token_id=pad, **sizes, **more)
    cls = transformers.RobertaModel if pad else transformers.BertForMaskedLM
    cls(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    return folder


@pytest.mark.slow
def test_one_command(tmp_path: Path) -> None:
    """The directory is imported, its tokenizer is the task's, and only adapters and the head are trained."""
    pytest.importorskip("peft")
    said: list[str] = []
    outcome = train(TASK, init=str(directory("bert")), lora=4, lr=0.02, say=said.append, **QUICK)
    (artifact,) = outcome.artifacts
    assert artifact.path == Path("runs/reviews/torch")
    assert "tokenizer=" in artifact.task
    assert [spec.name for spec in artifact.inputs] == ["tokens"]
    before = read_weights(Path("runs/bert/torch/model.safetensors"))
    after = read_weights(artifact.path / networks.WEIGHTS)
    bodies = {name.removeprefix("encoder."): tensor for name, tensor in after.items() if name.startswith("encoder.")}
    changed = {name for name in bodies if not torch.equal(bodies[name], before[f"bert.{name}"])}
    assert {name.rpartition(".self.")[2] for name in changed} == {"query.weight", "key.weight", "value.weight"}
    assert (artifact.path / "adapter" / "adapter_model.safetensors").is_file()
    assert any("rank 4, 6 layers" in line for line in said)
    again = train(TASK, init="runs/reviews/torch", lora=2, out=Path("runs/again"), **{**QUICK, "epochs": 1})
    assert again.artifacts[0].details["model"] == "text-encoder"


@pytest.mark.slow
def test_all_weights_and_a_tokenizer_that_pads_with_another_token(tmp_path: Path) -> None:
    import_model(str(directory("roberta", pad=1)))
    (artifact,) = train(TASK, init="runs/roberta/torch", **{**QUICK, "epochs": 1}).artifacts
    assert artifact.fields["lr"] == FINE_TUNING_LR
    reference = networks.reference(artifact.path)
    assert reference["arguments"]["pad"] == 1
    before, after = (read_weights(path / networks.WEIGHTS) for path in (Path("runs/roberta/torch"), artifact.path))
    assert not any(torch.equal(tensor, after[f"encoder.{name}"]) for name, tensor in before.items() if "layer." in name)
    stored = tokenizers.Tokenizer.from_file(str(artifact.path / "tokenizer.json"))
    ids = torch.tensor([stored.encode("the great story").ids])
    assert ids.shape == (1, 8)
    network = networks.load(artifact.path)
    with torch.inference_mode():
        torch.testing.assert_close(network(ids), network(ids[:, :3]))  # padding does not count


@pytest.mark.slow
def test_what_is_refused(tmp_path: Path) -> None:
    folder = directory("bert")
    shutil.copytree(folder, "mute")
    Path("mute/tokenizer.json").unlink()
    for task, init, fields, why in (
        ("reviews.csv", "bert", {}, "no network around a pretrained encoder"),
        ("text-classification?data=reviews.csv&length=32", "bert", {}, "it has places for 16"),
        (TASK, "mute", {}, "came without a tokenizer: token ids"),
        (TASK, "bert", {"fresh": ("encoder",)}, "all but head is loaded"),
        (f"{TASK}&tokenizer=runs/bert/torch/tokenizer.json", "", {"model": "text-encoder"}, "needs the weights"),
    ):
        with pytest.raises(InputError) as error:
            train(task, init=init, **fields, **QUICK)
        assert why in str(error.value), error.value
    assert hugging_face.is_directory(folder)
