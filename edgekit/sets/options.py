"""Parses a SET that names data, `PATH[?OPTION=VALUE&…][:SPLIT]`, and defines its options.

Lists are comma-separated; special characters are percent-encoded (%26).
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from edgekit.core.config import build, parse
from edgekit.core.errors import InputError, Problem

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Options:
    """How files become arrays. Options that are not given follow from the inputs of the model that uses the set.

    `size` is an image's height x width in pixels ("96x96", or "96" for both), `channels` 1 (gray) or 3 (RGB). With
    `scale`, `mean` or `std` an input x becomes (x / scale - mean) / std, float32; `mean` and `std` are one number or
    one per channel. `label` names the column or field of the label (several, with commas: one value each); `labels`
    says whether integers are classes or values. `text` names the column of a text, or two for pairs, for a model with a
    tokenizer, and `length` the number of tokens. `columns` selects inputs, `drop` leaves some out. `rate` is in Hz.
    `count` samples are drawn with `seed`; 0: all of them. `stream`: worker processes decode the training split of a
    folder or of shards in each epoch, so that it is never in memory as a whole. `mask_values`: the values in masks of
    the classes 0, 1, 2, …; pixels with others are ignored ("0,255", "1-150").
    """

    size: str = ""
    layout: Literal["", "nchw", "nhwc"] = ""
    channels: Literal[0, 1, 3] = 0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    label: str = ""
    labels: Literal["", "classes", "values"] = ""
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    rate: int = 0
    seconds: float = 0.0
    text: tuple[str, ...] = ()
    length: int = 0
    count: int = 0
    seed: int = 0
    stream: bool = False
    mask_values: tuple[str, ...] = ()

    def problems(self) -> Iterator[str]:
        if self.size and not all(re.fullmatch("0*[1-9][0-9]{0,4}", side) for side in self._sides):
            yield f"size is height x width in pixels, such as 96x96, not {self.size!r}"
        numbers = (self.scale, self.seconds, *self.mean, *self.std)
        if not all(map(math.isfinite, numbers)) or self.scale == 0 or 0 in self.std:
            yield "scale, mean, std and seconds must be finite, scale and std not 0"
        if self.columns and self.drop:
            yield "columns names what is used, drop what is not: give one of them"
        if min(self.rate, self.seconds, self.count, self.length) < 0:
            yield "rate, seconds, count and length must not be negative"
        wrong = [part for part in self.mask_values if not re.fullmatch("[0-9]{1,3}(-[0-9]{1,3})?", part)]
        values = () if wrong else self.class_values
        if self.mask_values and (not values or min(values) < 0 or max(values) > 255 or len(set(values)) < len(values)):
            yield f"mask_values are different values from 0 to 255 (0,255 or 1-150), not {','.join(self.mask_values)!r}"

    @property
    def _sides(self) -> list[str]:
        sides = self.size.lower().split("x")
        return sides * 2 if len(sides) == 1 else sides if len(sides) == 2 else [""]

    @property
    def height_width(self) -> tuple[int, int]:
        """In pixels; (0, 0) if no size is given."""
        height, width = map(int, self._sides) if self.size else (0, 0)
        return height, width

    @property
    def class_values(self) -> tuple[int, ...]:
        """`mask_values` with ranges written out."""
        ends = [part.split("-") for part in self.mask_values]
        return tuple(value for part in ends for value in range(int(part[0]), int(part[-1]) + 1))

    @property
    def normalizes(self) -> bool:
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)


@dataclass(frozen=True)
class SetSpec:
    """`split` is "" for all of the data."""

    path: str
    options: Options
    split: str = ""


def parse_set_spec(text: str) -> SetSpec:
    """The parts of a SET; the path need not exist. Raises InputError for an invalid option."""
    if Path(text).exists():
        return SetSpec(text, Options())
    head, _, query = text.partition("?")
    query, split = _split(query)
    if not split:
        head, split = _split(head)
    return SetSpec(head, _parse_options(query, text), split)


def _split(text: str) -> tuple[str, str]:
    head, colon, split = text.rpartition(":")
    return (head, split) if colon and split in SPLITS else (text, "")


def _parse_options(query: str, text: str) -> Options:
    hints = typing.get_type_hints(Options)
    table: dict[str, Any] = {}
    problems = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        if name in table:
            problems.append(Problem(name, "is given twice"))
        try:
            table[name] = _parse_value(value, hints.get(name, str))
        except TypeError as error:
            table[name] = None
            problems.append(Problem(name, str(error)))
    options, option_problems = build(Options, {name: value for name, value in table.items() if value is not None}, "")
    if options is None or problems or option_problems:
        reasons = "; ".join(str(problem).removeprefix(": ") for problem in [*problems, *option_problems])
        known = ", ".join(hints)
        raise InputError(f"{text!r} has an invalid option", reasons, f"the options: {known}")
    return options


def _parse_value(text: str, hint: Any) -> Any:
    """The value converted to the type `hint`. Raises TypeError."""
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(parse(unquote(part), item) for part in text.split(",")) if text else ()
    return parse(unquote(text), hint)
