"""A signature in words, one line for each input and output."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.core.signature import InputSignature, OutputSignature, Signature, TensorSignature


def described(record: TensorSignature) -> str:
    return ", ".join(_input(record) if isinstance(record, InputSignature) else _output(record))


def summary(signature: Signature) -> str:
    """One line about a whole signature: "image 224x224 RGB, …; logits of 1,000 classes"."""
    records: list[TensorSignature] = [*signature.inputs, *signature.outputs]
    known = filter(_says_something, records)
    return "; ".join(map(described, known))


def _says_something(record: TensorSignature) -> bool:
    """Not so a text's mask and segments, of which its tokens say as much."""
    if isinstance(record, InputSignature) and record.part:
        return False
    return record.kind != "tensor" if isinstance(record, InputSignature) else bool(record.kind or record.classes)


def _input(record: InputSignature) -> Iterator[str]:
    size = f" {record.height_width[0]}x{record.height_width[1]}" if record.height_width else ""
    colour = f" {record.colour}" if record.colour else ""
    yield f"{record.kind}{size}{colour}{f' ({record.part})' if record.part else ''}"
    if record.exif:
        yield "turned as its EXIF data says"
    if record.resize is not None:
        yield _resize(record)
    if record.crop_size is not None:
        yield f"centre crop {record.crop_size[0]}x{record.crop_size[1]}"
    if record.rate:
        yield f"{record.rate} Hz"
    if record.seconds:
        yield f"{record.seconds:g} s"
    if record.max_length:
        yield f"at most {record.max_length} tokens"
    if record.columns:
        yield f"{len(record.columns)} columns"
        if categories := [column.name for column in record.columns if column.categories]:
            yield f"{len(categories)} of them categories ({', '.join(categories[:3])}{', …' * (len(categories) > 3)})"
    if record.scale != 1:
        yield f"times {_scale(record.scale)}"
    if record.mean:
        yield f"mean {_numbers(record.mean)}"
    if record.std:
        yield f"std {_numbers(record.std)}"


def _resize(record: InputSignature) -> str:
    assert record.resize is not None
    height, width = record.resize.height_width
    how = {"stretch": f"stretched to {height}x{width}", "shortest": f"shorter side to {height}"}
    filled = f"fitted into {height}x{width}, filled with {record.resize.fill:g}"
    plain = "" if record.antialias else " without antialiasing"
    return f"{how.get(record.resize.mode, filled)} ({record.interpolation}{plain})"


def _output(record: OutputSignature) -> Iterator[str]:
    kind = record.kind or "values"
    count = len(record.classes)
    named = f" ({', '.join(record.classes[:3])}{', …' if count > 3 else ''})" if count else ""
    yield f"{kind} of {count:,} classes{named}" if count else kind
    if record.boxes:
        yield f"{record.boxes} in {'shares of the input' if record.relative else 'pixels'}"


def _scale(value: float) -> str:
    return f"1/{round(1 / value)}" if abs(value) < 1 and abs(1 / value - round(1 / value)) < 1e-6 else f"{value:g}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
