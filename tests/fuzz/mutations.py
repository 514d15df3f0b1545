"""Structure-aware mutations: of JSON and TOML trees, zip archives, protocol buffers, XML, tables, and plain bytes.

Every function takes the bytes of a valid file and a random generator, and returns the bytes of a damaged one.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import struct
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

#: what a name, a number or a table is replaced by; CANARY is code that must never run
CANARY = ("canary.py:Net", "canary:Net", "canary:make", "os:system", "builtins:exec")
PATHS = (
    "../outside/written",
    "/proc/self/environ",
    "a/../../b",
    "\x00",
    ".",
    "",
    "~/.ssh/id_rsa",
    "link/secret",
    "C:\\x",
)
WORDS = (
    "\x1b[2J\x1b]0;x\x07",
    "\u202eevil",
    "x" * 70_000,
    "a\nb\rc",
    "\udcff",
    "<img src=x onerror=alert(1)>",
    "| a |",
    "é" * 300,
)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.0, 1e308, float("nan"), float("inf"), -float("inf"))
SHAPES: tuple[Any, ...] = ([], [[]], {}, {"a": {}}, [None], True, False, None, [1] * 1000, {"": ""}, [[[[[1]]]]])
VALUES: tuple[Any, ...] = (*CANARY, *PATHS, *WORDS, *NUMBERS, *SHAPES)


def json_tree(data: bytes, random: random.Random) -> bytes:
    tree = _changed(json.loads(data), random)
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    odd = random.random()
    if odd < 0.03:
        text = text.replace("1", "1" * 5000, 1)
    elif odd < 0.06:
        text = "[" * 100_000 + text
    elif odd < 0.09:
        text = re.sub(r'": ', '": {"a": ' * 300, text, count=1)
    return _encoded(text, random)


def toml_tree(data: bytes, random: random.Random) -> bytes:
    import tomli_w

    text = data.decode()
    try:
        text = tomli_w.dumps(_changed(tomllib.loads(text), random))
    except (TypeError, ValueError, AttributeError):  # not every tree is TOML
        text = text.replace("=", "= [" * random.choice((1, 2000)), 1)
    return _encoded(text, random)


def _encoded(text: str, random: random.Random) -> bytes:
    odd = random.random()
    if odd < 0.02:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
    if odd < 0.04:
        return text.encode("utf-16", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def _changed(tree: Any, random: random.Random) -> Any:
    """The tree with one to three values, keys or items replaced, removed, or repeated."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return random.choice(VALUES)
        where, key = random.choice(places)
        change = random.random()
        if change < 0.6:
            where[key] = copy.deepcopy(random.choice(VALUES))
        elif change < 0.8:
            del where[key]
        elif isinstance(where, dict):
            where[random.choice(("", "../x", "x" * 300, "\x1b[1m", str(key) + "x"))] = where.pop(key)
        else:
            where.insert(random.randrange(len(where) + 1), copy.deepcopy(where[key]))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def plain(data: bytes, random: random.Random) -> bytes:
    """Bytes flipped, cut, repeated, removed, or overwritten by numbers that lengths and offsets are read from."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if not changed:
            return bytes(changed)
        at = random.randrange(min(len(changed), random.choice((64, 512, 1 << 30))))
        change = random.randrange(6)
        if change == 0:
            changed[at] ^= 1 << random.randrange(8)
        elif change == 1:
            del changed[at:]
        elif change == 2:
            changed[at:at] = changed[at : at + random.choice((1, 8, 100, 5000))]
        elif change == 3:
            del changed[at : at + random.choice((1, 4, 100))]
        elif change == 4:
            number = random.choice((0, 1, -1, 2**31 - 1, -(2**31), 65536, random.getrandbits(31)))
            changed[at & ~3 : (at & ~3) + 4] = struct.pack("<i", number)
        else:
            changed[at : at + 8] = struct.pack("<q", random.choice((2**63 - 1, -(2**63), 2**40, -1)))
    return bytes(changed)


def archive(data: bytes, random: random.Random) -> bytes:
    """One member changed by its own structure, renamed, left out, repeated, or blown up."""
    if random.random() < 0.25:
        return plain(data, random)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        members = [(info.filename, read.read(info)) for info in read.infolist()]
    at = random.randrange(len(members))
    name, content = members[at]
    change = random.random()
    if change < 0.6:
        by = json_tree if content[:1] in (b"{", b"[") else plain
        try:
            members[at] = (name, by(content, random))
        except ValueError:
            members[at] = (name, plain(content, random))
    elif change < 0.75:
        members[at] = (random.choice(("../outside/written", "/tmp/x", "a" * 300, name + "x")), content)
    elif change < 0.85:
        del members[at]
    elif change < 0.95:
        members.append((name, content))
    else:
        members[at] = (name, bytes(100_000_000))
    out = io.BytesIO()
    warnings.filterwarnings("ignore", "Duplicate name", UserWarning)  # they are meant to be
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members:
            written.writestr(name, content)
    return out.getvalue()


def onnx_model(data: bytes, random: random.Random) -> bytes:
    """One to three fields of the protocol buffer set, cleared, removed or repeated."""
    import onnx

    if random.random() < 0.2:
        return plain(data, random)
    model = onnx.load_model_from_string(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        _field(random.choice(list(_messages(model))), random)
    made: bytes = model.SerializeToString()
    return made


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if _repeated(field) else (value,):
                yield from _messages(part)


def _repeated(field: Any) -> bool:
    return bool(getattr(field, "is_repeated", None) if hasattr(field, "is_repeated") else field.label == 3)


def _field(message: Any, random: random.Random) -> None:
    fields = list(message.DESCRIPTOR.fields)
    present = [field for field, _ in message.ListFields()]
    field = random.choice(present if present and random.random() < 0.8 else fields)
    numbers = (0, 1, -1, 2, 2**40, -(2**40), 2**31 - 1, 1000)
    values: dict[str, tuple[Any, ...]] = {
        "str": ("", "../outside/written", "x" * 5000, "\x1b[2J", "If", "Loop", "Scan", "Identity", "a"),
        "bytes": (b"", b"\xff" * 7, bytes(5000)),
        "float": (0.0, float("nan"), float("inf"), 1e38),
        "int": numbers,
    }
    kind = {9: "str", 12: "bytes", 1: "float", 2: "float", 11: "message"}.get(field.type, "int")
    try:
        if _repeated(field):
            items = getattr(message, field.name)
            change = random.random()
            if change < 0.4 and len(items):
                del items[random.randrange(len(items))]
            elif kind == "message":
                part = items.add()
                if len(items) > 1:
                    part.CopyFrom(items[random.randrange(len(items) - 1)])
            elif len(items) and change < 0.8:
                items[random.randrange(len(items))] = random.choice(values[kind])
            else:
                items.append(random.choice(values[kind]))
        elif kind == "message" or random.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, random.choice(values[kind]))
    except (ValueError, TypeError):  # an enumeration's field takes its own values only
        message.ClearField(field.name)


def xml(data: bytes, random: random.Random) -> bytes:
    text = data.decode()
    change = random.random()
    if change < 0.5:
        found = list(re.finditer(r'"([^"]*)"', text))
        at = random.choice(found)
        value = random.choice(
            ("", "-1", "99999999999999999999", "1,-1,1099511627776", "../outside/written", "x" * 5000, "Loop")
        )
        text = text[: at.start(1)] + value + text[at.end(1) :]
    elif change < 0.7:
        found = list(re.finditer(r"<[^>]*>", text))
        at = random.choice(found)
        text = text[: at.start()] + text[at.end() :]
    elif change < 0.75:
        bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        text = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a0 "aaaaaaaaaa">{bomb}]><net name="&a11;"/>'
    elif change < 0.8:
        text = re.sub(r"<net ", '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]><net x="&a;" ', text, count=1)
    elif change < 0.85:
        text = "<net>" * 100_000
    else:
        return plain(data, random)
    return text.encode()


def table(data: bytes, random: random.Random) -> bytes:
    """A cell, a line, or the separator of a text table changed."""
    lines = data.decode().splitlines()
    at = random.randrange(len(lines))
    change = random.random()
    if change < 0.5:
        cells = re.split(r"([,\t])", lines[at])
        cells[random.randrange(len(cells))] = random.choice(
            (
                "",
                "nan",
                "inf",
                "1e999",
                '"',
                "'",
                "../outside/written",
                "x" * 100_000,
                "\x1b[1m",
                "\x00",
                "1,2,3",
                "=cmd()",
            )
        )
        lines[at] = "".join(cells)
    elif change < 0.6:
        lines[at] = ",".join(["1"] * 300_000)
    elif change < 0.7:
        del lines[at]
    elif change < 0.8:
        lines = [line.replace(",", ";") for line in lines]
    else:
        return plain(data, random)
    return _encoded("\n".join(lines), random)
