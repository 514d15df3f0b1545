"""nothing → torch: a Hugging Face directory, with its tokenizer or preprocessing and the names of its classes."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit import networks
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError, os_errors
from edgekit.core.json import parse, read
from edgekit.core.signature import InputSignature, OutputSignature, Signature
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.core.user_code import run_user_code
from edgekit.networks import hugging_face, weights, write
from edgekit.networks.signatures import hugging_face as preprocessing
from edgekit.networks.signatures import hugging_face_text as texts
from edgekit.steps.shared.imported_torch import FLOAT32_NOTE, ImportTorchStep, finish, noted
from edgekit.steps.shared.signed import known

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.networks.interface import Interface

#: files that a model is made of or comes with, but for its weights
FILES = (
    *(hugging_face.CONFIG, texts.TOKENIZER, texts.SETTINGS, "special_tokens_map.json", preprocessing.PROCESSOR),
    *(texts.MODULES, texts.LENGTHS, "generation_config.json", "chat_template.jinja", "LICENSE", *texts.OTHERS),
)
#: those that go into the run as they are
KEPT = (
    *(texts.SETTINGS, "special_tokens_map.json", preprocessing.PROCESSOR),
    *("generation_config.json", "chat_template.jinja", "LICENSE"),
)

#: tokens with which the interface is found out, and of the past in a decoder's example
SHORT, PAST = 8, 4
#: a decoder is compared with itself over at most so many tokens
COMPARED = 1024

WAVES, IMAGES = "input_values", "pixel_values"


@dataclass(frozen=True)
class ImportHf(ImportTorchStep):
    """`path`: a folder with config.json and safetensors. `length`: tokens of a text, 0: as many as the model takes, at
    most 128."""

    extra: ClassVar[str] = "hf"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors", "transformers", "tokenizers")
    reads_files: ClassVar[bool] = True

    length: int = 0

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if self.length < 0:
            yield "length must be a number of tokens"

    def files(self) -> tuple[Path, ...]:
        folder = Path(self.path)
        parts = [folder / name for name in (*FILES, hugging_face.INDEX)]
        parts += [folder / part["path"] / hugging_face.CONFIG for part in _modules(folder) if part.get("path")]
        with os_errors("read", folder):
            parts += sorted(folder.glob("*.safetensors"))
        return (*(part for part in parts if part.is_file()), *super().files())

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Missing without transformers, InputError for a folder that holds no such network, or needs code."""
        folder = Path(self.path)
        loaded = hugging_face.read(folder)
        hugging_face.write(loaded.network, out)
        for name in KEPT:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / name)
        values = hugging_face.configuration(folder)
        notes = [*([FLOAT32_NOTE] if loaded.halves else []), *loaded.notes]
        if hugging_face.is_decoder(values):
            return self._decoder(loaded.network, out, notes, ctx)
        kind = loaded.network.main_input_name
        if kind == "input_ids":
            return self._text(loaded.network, values, out, notes, ctx)
        if kind in (IMAGES, WAVES):
            return self._samples(loaded.network, values, kind, out, notes, ctx)
        what = f"{type(loaded.network).__name__} cannot be imported"
        raise InputError(
            what, f"its input is {kind}, and edgekit knows tokens, images and sounds", hugging_face.FACTORY
        )

    # --- texts ------------------------------------------------------------------------------------------------------

    def _text(self, network: Any, values: Mapping[str, Any], out: Path, notes: list[str], ctx: Context) -> StepResult:
        import torch

        folder = Path(self.path)
        pooling = _pooling(folder) if type(network).__name__.endswith("Model") else {}
        outputs = ["embedding"] if pooling else list(hugging_face.outputs_of(values))
        names, length = texts.input_names(folder, network.config), self._length(network)
        rows = network.get_input_embeddings().weight.shape[0]
        ids = torch.randint(rows, (2, length), generator=torch.Generator().manual_seed(0))
        example = {name: ids if name == "input_ids" else torch.ones_like(ids) for name in names}
        if "token_type_ids" in names:
            example["token_type_ids"] = torch.zeros_like(ids)
        axes = {name: {1: "length"} for name in names}
        brief = {name: tensor[:, : min(SHORT, max(1, length - 1))] for name, tensor in example.items()}
        called = hugging_face.wrapped(network, names, outputs, pooling, False)
        interface = _interface(called, brief, axes, self.path)
        done = self._written(network, called, interface, example, {"pooling": pooling} if pooling else {}, out)
        done, records = self._tokenized(done, network, names, length, out, notes)
        return self._signed(done, interface, Signature(records, self._meanings(network, pooling)), ctx)

    def _length(self, network: Any) -> int:
        """Tokens of a text. Raises InputError for more than the network takes."""
        most = texts.most_tokens(Path(self.path), network)
        if self.length and most and self.length > most:
            raise InputError(f"{self.path} takes no {self.length} tokens", f"it takes at most {most}", "name fewer")
        return self.length or min(texts.LENGTH, most or texts.LENGTH)

    def _tokenized(
        self,
        done: StepResult,
        network: Any,
        names: list[str],
        length: int,
        out: Path,
        notes: list[str],
        pads: bool = True,
    ) -> tuple[StepResult, Any]:
        """The result with notes, and the signature of its inputs, if there is a tokenizer, which is stored."""
        prepared = texts.prepared(Path(self.path), network, length, pads)
        if prepared is None:
            return noted(done, [*notes, "it comes without a tokenizer, and takes token ids"]), ()
        notes = [*notes, *prepared.notes]
        if prepared.tokenizer is None:
            return noted(done, notes), ()
        prepared.tokenizer.save(str(out / texts.TOKENIZER))
        rows = network.get_input_embeddings().weight.shape[0]
        return noted(done, notes), texts.records(names, length, rows)

    def _meanings(self, network: Any, pooling: Mapping[str, Any]) -> tuple[OutputSignature, ...]:
        """What the outputs are: an embedding, class scores, or values."""
        if pooling:
            return (OutputSignature("embedding"),)
        config, name = network.config, type(network).__name__
        if name.endswith("ForSequenceClassification"):
            kind = getattr(config, "problem_type", None)
            if kind == "regression" or (kind is None and config.num_labels == 1):
                return (OutputSignature("values"),)
            if kind == "multi_label_classification":
                return (OutputSignature("", classes=preprocessing.class_names(config.id2label)),)
        return preprocessing.of_outputs(config.id2label, [name])

    # --- decoders ---------------------------------------------------------------------------------------------------

    def _decoder(self, network: Any, out: Path, notes: list[str], ctx: Context) -> StepResult:
        import torch

        from edgekit.networks.decoders import Decoder
        from edgekit.networks.interface import BATCH, Interface, spec_of

        decoder = Decoder(network).eval()
        rows = network.get_input_embeddings().weight.shape[0]
        _compare(decoder, rows, texts.longest(network), self.path)
        ids = torch.randint(rows, (2, SHORT), generator=torch.Generator().manual_seed(0))
        states = decoder.states
        example = {"input_ids": ids, **dict(zip(states, decoder.empty(2, PAST), strict=True))}
        with torch.inference_mode():
            answers = decoder(*example.values())
        axes: dict[str, dict[int, str]] = {"input_ids": {0: BATCH, 1: "length"}}
        axes |= {name: {0: BATCH, 2: networks.PAST} for name in states}
        specs = [spec_of(name, tensor, axes[name]) for name, tensor in example.items()]
        names = ["logits", *states.values()]
        made = [spec_of(n, t, (0, 1) if n == "logits" else (0, 2)) for n, t in zip(names, answers, strict=True)]
        interface = Interface(tuple(specs), tuple(made), axes)
        done = self._written(network, decoder, interface, example, {"states": states}, out)
        if most := texts.most_tokens(Path(self.path), network):
            done = dataclasses.replace(done, details={**done.details, "context": most})
        done, records = self._tokenized(done, network, ["input_ids"], self.length or most or 4096, out, notes, False)
        return self._signed(done, interface, Signature(records), ctx)

    # --- images and sounds ------------------------------------------------------------------------------------------

    def _samples(
        self, network: Any, values: Mapping[str, Any], kind: str, out: Path, notes: list[str], ctx: Context
    ) -> StepResult:
        import torch

        folder = Path(self.path)
        records: tuple[InputSignature, ...] = ()
        shape = (2, *_image_shape(network.config)) if kind == IMAGES else (2, self.length or 16_000)
        if kind == IMAGES and (folder / preprocessing.PROCESSOR).is_file():
            try:
                records = preprocessing.of_files(folder).inputs
            except InputError as error:
                notes = [*notes, f"its preprocessing is not known: {error.what}: {error.why}"]
        if records and records[0].height_width:
            shape = (*shape[:2], *records[0].height_width)
        example = {kind: torch.randn(shape, generator=torch.Generator().manual_seed(0))}
        axes = {} if kind == IMAGES else {kind: {1: "length"}}
        called = hugging_face.wrapped(network, [kind], list(hugging_face.outputs_of(values)), {}, False)
        interface = _interface(called, example, axes, self.path)
        done = noted(self._written(network, called, interface, example, {}, out), notes)
        return self._signed(done, interface, Signature(tuple(records), self._meanings(network, {})), ctx)

    # --- all of them ------------------------------------------------------------------------------------------------

    def _written(
        self,
        network: Any,
        called: Any,
        interface: Interface,
        example: Mapping[str, Tensor],
        more: Mapping[str, Any],
        out: Path,
    ) -> StepResult:
        """Write `model.json` and the example, and check that the stored network is the same."""
        from edgekit.networks.interface import example_shapes

        entries = {**interface.to_json(), "example": example_shapes(example), **more}
        write(out, "hugging_face", {**entries, "tensors": weights.tensors_of(network)})
        done = finish(out, Path(self.path).name, called, example, hugging_face.load)
        return dataclasses.replace(done, details={**done.details, "network": type(network).__name__})

    def _signed(self, done: StepResult, interface: Interface, carried: Signature, ctx: Context) -> StepResult:
        source = texts.TOKENIZER if any(record.kind == "text" for record in carried.inputs) else hugging_face.CONFIG
        source = preprocessing.PROCESSOR if any(r.kind == "image" for r in carried.inputs) else source
        inputs, outputs = _without_states(interface)
        signature, details = known(self.signature, ctx.task, (carried, source), inputs, outputs)
        return dataclasses.replace(done, signature=signature, details={**done.details, **details})


def _without_states(interface: Interface) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = tuple(spec for spec in interface.inputs if not spec.name.startswith("past_key_values."))
    return inputs, tuple(spec for spec in interface.outputs if not spec.name.startswith("present."))


def _interface(called: Any, example: Mapping[str, Tensor], axes: Any, where: str) -> Interface:
    from edgekit.networks.interface import probe

    return probe(called, example, axes, where)


def _image_shape(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of the images of a network."""
    size = getattr(config, "image_size", None) or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return int(getattr(config, "num_channels", 3) or 3), int(height), int(width)


def _modules(folder: Path) -> list[dict[str, Any]]:
    """sentence-transformers' modules, in their order; none for other models. Raises InputError."""
    file = folder / texts.MODULES
    if not file.is_file():
        return []
    with os_errors("read", file):
        try:
            modules = parse(file.read_bytes())
            if not isinstance(modules, list) or not all(isinstance(part, dict) for part in modules):
                raise ValueError("it does not hold a list of modules")
        except ValueError as error:
            raise InputError(f"{file} is damaged", str(error), hugging_face.AGAIN) from error
    return [{**part, "path": Path(str(part.get("path", ""))).name} for part in modules]


def _pooling(folder: Path) -> dict[str, Any]:
    """`mode` and `normalize` of a sentence-transformers model, {} for another one. Raises InputError."""
    modules = _modules(folder)
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in modules]
    if not modules:
        return {}
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        why = f"its modules are {', '.join(kinds)}, and edgekit knows Transformer, Pooling and Normalize, in this order"
        raise InputError(f"{folder} cannot be imported", why, hugging_face.FACTORY)
    values = read(folder / modules[1]["path"] / hugging_face.CONFIG, hugging_face.AGAIN)
    stated = values.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else [key for key, on in values.items() if on is True]
    known = {"pooling_mode_mean_tokens": "mean", "mean": "mean", "pooling_mode_cls_token": "cls", "cls": "cls"}
    used = [mode for mode in modes if mode.startswith("pooling_mode") or mode in known or isinstance(stated, str)]
    if len(used) != 1 or used[0] not in known:
        why = f"its pooling is {', '.join(used) or 'unknown'}, and edgekit knows the mean and the first token"
        raise InputError(f"{folder} cannot be imported", why, hugging_face.FACTORY)
    return {"mode": known[used[0]], "normalize": len(kinds) == 3}


def _compare(decoder: Any, rows: int, longest: int, where: str) -> None:
    """Raises InputError where the decoder, in one go or with a cache, is not the network that transformers runs."""
    import torch

    from edgekit.networks.interface import close

    window = int(getattr(decoder.config, "sliding_window", None) or 0)
    count = min(window + SHORT, longest or COMPARED, COMPARED)
    ids = torch.randint(rows, (1, max(count, 2)), generator=torch.Generator().manual_seed(0))

    def run() -> tuple[Any, Any, Any]:
        with torch.inference_mode():
            plain = decoder.network(input_ids=ids, use_cache=False).logits
            whole, *_ = decoder(ids, *decoder.empty(1))
            first, *states = decoder(ids[:, :-1], *decoder.empty(1))
            last, *_ = decoder(ids[:, -1:], *states)
            return plain, whole, torch.cat([first, last], 1)

    plain, whole, cached = run_user_code(where, "its cache cannot be an input and an output", run)
    if not close(plain, whole, 1e-3, 1e-4) or not close(plain, cached, 1e-3, 1e-4):
        why = "its layers keep or hide other things than edgekit's cache and mask do: the outputs differ"
        raise InputError(f"{type(decoder.network).__name__} cannot be imported", why, hugging_face.FACTORY)
