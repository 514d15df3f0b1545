"""Ids change with the code that makes a file, and with nothing else: shown on a copy of the package that is edited."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core import identity, registry
from edgekit.core.parsed_code import read
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step
from edgekit.runs.store import Store

PACKAGE = Path(edgekit.__file__).parent
STEPS = registry.names("steps")
#: packages above the steps
ABOVE = ("edgekit.workflows", "edgekit.cli", "edgekit.__main__")


class Copy:
    """A copy of edgekit that may be edited; identities are taken from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACKAGE, folder / "edgekit", ignore=shutil.ignore_patterns("__pycache__"))

    def path(self, file: str) -> Path:
        return self.folder / "edgekit" / file

    def edit(self, file: str, old: str, new: str) -> None:
        text = self.path(file).read_text()
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        self.path(file).write_text(text.replace(old, new))

    def ids(self, *names: str) -> dict[str, str]:
        """Of steps as they are by default, and of networks: "models/cnn"."""
        found = {}
        for name in names:
            group, _, member = name.rpartition("/")
            if group:
                found[name] = identity.of_member(group, member)
            else:
                cls = registry.load("steps", name)
                unset = frozenset(field.name for field in dataclasses.fields(cls) if not field.default)
                found[name] = identity.of_class(cls, unset, {"edgekit.networks": frozenset({"named"})})
        return found

    def run(self, script: str) -> Any:
        """What a script prints, as JSON; edgekit is this copy."""
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        line, env = [sys.executable, "-c", textwrap.dedent(script)], {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(line, env=env, cwd=self.folder, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    copy = Copy(tmp_path / "copy")
    monkeypatch.setattr(identity, "_HOME", copy.folder)
    monkeypatch.setattr(identity, "_known", {})
    return copy


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


NAMES = ("train", "to_onnx", "to_tflite", "to_torch", "onnx_int8", "onnx_fp16", "prune", "qat", "models/cnn")


@pytest.mark.parametrize(
    ("file", "old", "new", "which"),
    [
        # helpers of exporters
        ("networks/tracing.py", "torch.export.Dim(name, min=1)", "torch.export.Dim(name, min=2)", {"to_onnx"}),
        ("steps/shared/onnx_slim.py", "if bias.size <= SHORT:", "if bias.size < SHORT:", {"onnx_int8"}),
        # a helper's constant
        ("steps/shared/fp16_constants.py", "import numpy as np", "import numpy as np\n\nUNUSED = 3", set()),
        # the training loop, a loss
        (
            "training/engine.py",
            "self.optimizer.step()",
            "self.optimizer.step(); self.optimizer.step()",
            {"train", "prune"},
        ),
        ("training/losses.py", "import numpy as np", "import numpy  as  np", set()),
        # functions that are entered into a table by a decorator, or by a loop when a module is imported
        ("networks/onnx/shape_arithmetic.py", '"Neg": _each(lambda a: -a)', '"Neg": _each(lambda a: +a)', {"to_torch"}),
        ("networks/onnx/pooling.py", "import torch\n", "import torch  # a comment\n", set()),
        # a network, and what it shares with others
        ("models/cnn.py", "(nn.Conv2d(b, c, 3), nn.ReLU()", "(nn.Conv2d(b, c, 3), nn.GELU()", {"models/cnn"}),
        ("models/shared/width.py", '"""How a width', '"""Says how a width', set()),
        # modules that no step reaches
        (
            "report/markdown.py",
            "from __future__ import annotations",
            "from __future__ import annotations\nX = 1",
            set(),
        ),
        ("workflows/run.py", "from __future__ import annotations", "from __future__ import annotations\nX = 1", set()),
    ],
)
def test_what_an_edit_changes(package: Copy, file: str, old: str, new: str, which: set[str]) -> None:
    before = package.ids(*NAMES)
    package.edit(file, old, new)
    found = changed(before, package.ids(*NAMES))
    assert which <= found
    if "train" not in which:
        assert "train" not in found, "it would be trained again"
    if not which:
        assert not found
    if which == {"models/cnn"}:
        assert found == which, "a network's code is no step's"
    if which & {"train", "to_torch", "onnx_int8"}:
        assert "to_onnx" not in found and "to_tflite" not in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('node.get("alpha", 0.01)', 'node.get("alpha", 0.02)'),  # @operator("LeakyRelu")
        ("return function(x)", "return -function(x)"),  # entered in a loop that runs at import
    ],
)
def test_an_operator_that_is_entered_into_a_table(package: Copy, old: str, new: str) -> None:
    before = package.ids(*NAMES)
    package.edit("networks/onnx/elementwise.py", old, new)
    assert changed(before, package.ids(*NAMES)) == {"to_torch"}


def test_comments_docstrings_and_formatting_change_nothing(package: Copy) -> None:
    """Every file, written again by Python itself from its syntax tree, with other docstrings."""
    before = package.ids(*NAMES, *STEPS)
    for path in package.folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                node.body[0].value.value = "Says something else."  # type: ignore[attr-defined]
        path.write_text("# a comment\n" + ast.unparse(tree))
    assert not changed(before, package.ids(*NAMES, *STEPS))


def test_messages_and_annotations_change_nothing(package: Copy) -> None:
    before = package.ids(*NAMES)
    package.edit("networks/tracing.py", 'log.debug("dynamic axes: %s", error)', 'log.debug("axes: %s", error)')
    package.edit(
        "networks/tracing.py", "def _first_line(error: Exception) -> str", "def _first_line(error: BaseException)"
    )
    package.edit("training/engine.py", "        title = f", "        title: str = f")
    assert not changed(before, package.ids(*NAMES))


def test_an_unrelated_function_of_the_same_helper_changes_nothing(package: Copy) -> None:
    before = package.ids(*NAMES)
    for file in ("networks/tracing.py", "steps/shared/calibrated.py", "training/engine.py", "core/files.py"):
        path = package.path(file)
        path.write_text(path.read_text() + "\n\ndef unrelated() -> int:\n    return 1\n")
    assert not changed(before, package.ids(*NAMES))


def test_in_a_process_of_its_own(package: Copy) -> None:
    script = """
        import json
        from edgekit.core import identity, registry
        names = ("to_onnx", "onnx_int8")
        print(json.dumps({name: identity.of_class(registry.load("steps", name)) for name in names}))
    """
    before = package.run(script)
    assert before == {name: identity.of_class(registry.load("steps", name)) for name in before}
    package.edit("networks/tracing.py", "torch.export.Dim(name, min=1)", "torch.export.Dim(name, min=2)")
    assert changed(before, package.run(script)) == {"to_onnx"}


def test_the_task_counts_for_what_learns_from_it(package: Copy) -> None:
    context = Context(registry.load("tasks", "fashion-mnist")(), {}, quiet, logging.getLogger("t"))

    def ids() -> dict[str, str]:
        steps = {name: registry.load("steps", name)() for name in ("train", "to_onnx", "onnx_int8")}
        return {name: Store(Path("run")).id(step, {}, context) for name, step in steps.items()}

    first = ids()
    assert len(set(first.values())) == 3
    package.edit(
        "tasks/shared/base.py", "return cross_entropy(outputs, labels)", "return -cross_entropy(outputs, labels)"
    )
    second = ids()
    assert changed(first, second) == {"train"}
    package.edit("tasks/fashion_mnist.py", "its sha256 differs", "its sha256 is another")
    assert ids() == second
    package.edit("models/cnn.py", "nn.Conv2d(b, c, 3), nn.ReLU()", "nn.Conv2d(b, c, 3), nn.GELU()")
    assert changed(second, ids()) == {"train"}, "the task names its network"


def test_a_third_partys_step_and_its_helper(package: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = package.folder / "a_third_partys"
    plugin.mkdir()
    (plugin / "__init__.py").touch()
    helper = plugin / "helper.py"
    helper.write_text("def used():\n    return 1\n\ndef other():\n    return 1\n")
    (plugin / "steps.py").write_text(
        "from edgekit.core.step import Step\nfrom . import helper\nfrom edgekit.networks.tracing import example\n"
        "class Mine(Step):\n    def apply(self, inputs, out, context):\n        return helper.used(), example(out)\n"
    )
    monkeypatch.syspath_prepend(package.folder)
    module = importlib.import_module("a_third_partys.steps")
    seen = [identity.of_class(module.Mine)]
    helper.write_text(helper.read_text().replace("def other():\n    return 1", "def other():\n    return 22"))
    seen.append(identity.of_class(module.Mine))
    helper.write_text(helper.read_text().replace("def used():\n    return 1", "def used():\n    return 22"))
    seen.append(identity.of_class(module.Mine))
    package.edit(
        "networks/tracing.py", "tensor = stored.get(spec.name, zeros)", "tensor = kept.get(spec.name, 1 + zeros)"
    )
    seen.append(identity.of_class(module.Mine))
    assert seen[0] == seen[1] and len(set(seen)) == 3


def test_the_users_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files, with those that they import."""
    monkeypatch.chdir(tmp_path)
    net, blocks = tmp_path / "net.py", tmp_path / "blocks_of_mine.py"
    net.write_text(
        "import blocks_of_mine\n\ndef Net():\n    return blocks_of_mine.block()\n\ndef other():\n    return 1\n"
    )
    blocks.write_text("def block():\n    return 1\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")

    def id_() -> str:
        return identity.of_member("models", "net.py:Net")

    first = id_()
    net.write_text('"""Mine."""\n# a comment\n' + net.read_text().replace("return 1", "return (1)  # one"))
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    assert id_() == first
    blocks.write_text("def block():\n    return 2\n")
    second = id_()
    net.write_text(net.read_text().replace("(1)", "2"))
    assert len({first, second, id_()}) == 3
    assert second != id_(), "of the user's own files everything counts"


def test_what_is_copied_counts_byte_for_byte(package: Copy) -> None:
    """`span.py` goes into the artifact as it is."""
    cls = registry.load("tasks", "question-answering")

    def ids() -> dict[str, str]:
        return {name: identity.of_methods(cls, frozenset({name})) for name in ("ship", "loss")}

    before = ids()
    path = package.path("ondevice/span.py")
    path.write_text(path.read_text() + "# a comment\n")
    assert changed(before, ids()) == {"ship"}


@pytest.mark.parametrize("name", STEPS)
def test_every_step(name: str) -> None:
    cls = registry.load("steps", name)
    closure = identity.closure(cls)
    for base in cls.__mro__:
        if base.__module__.startswith("edgekit"):
            assert (base.__module__, base.__qualname__, "") in closure.parts
    assert (cls.__module__, cls.__qualname__, "") in closure.parts
    for method, value in vars(cls).items():
        if getattr(value, "__module__", "") == cls.__module__ and not method.startswith("__"):
            assert (cls.__module__, cls.__qualname__, method) in closure.parts, method
    assert not [module for module in closure.modules if module.startswith(ABOVE)]
    known = {
        ("edgekit.core.registry", "load"),
        ("edgekit.core.registry", "members"),
        ("edgekit.core.registry", "source"),
        ("edgekit.compression.calibration", "observe"),  # the modules are named by formats (`Format.observer`)
        ("edgekit.core.user_code", "_imported"),
        ("edgekit.core.user_code", "_of_package"),
    }
    assert closure.unknown <= known, "a module is imported by a name that cannot be followed"
    if ("edgekit.compression.calibration", "observe") in closure.unknown:
        observers = {f"edgekit.compression.calibration.{name}" for name in ("onnx", "openvino", "tflite")}
        assert observers <= closure.modules
    assert closure.digest == identity.closure(cls).digest


def test_a_step_depends_on_what_its_fields_choose() -> None:
    """Fixing an exporter must not prune a network again that was cut to a ratio."""
    cls: type[Step] = registry.load("steps", "prune")
    fields = frozenset(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    by_ratio, by_speed = (identity.closure(cls, fields - {chosen}).modules for chosen in ("ratio", "speedup"))
    assert "edgekit.measure.execute" in by_speed and "edgekit.steps.to_onnx" in by_speed
    assert not {"edgekit.measure.execute", "edgekit.steps.to_onnx"} & by_ratio
    train = registry.load("steps", "train")
    assert "edgekit.training.distillation" in identity.closure(train).modules
    assert "edgekit.training.distillation" not in identity.closure(train, frozenset({"teacher"})).modules


def test_fields_that_the_code_sets_itself_are_not_taken_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\n"
        "class Step:\n"
        "    def apply(self):\n"
        "        return replace(self, fast=True)._made()\n"
        "    def _made(self):\n"
        "        if self.fast:\n            return quick()\n"
        "        if not self.slow:\n            return 1\n"
        "        return slow()\n"
        "def quick(): return 1\n"
        "def slow(): return 1\n"
    )
    module = read("mine", path)
    (code,) = module.parts("Step")["_made"]
    when = {use.target.names[0]: use.when for use in code.uses}  # type: ignore[union-attr]
    assert when == {"quick": {"fast"}, "slow": {"slow"}}
    assert module.parts("Step")["apply"][0].replaced == {"fast"}


def test_names_mean_what_they_mean_in_their_scope(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import json as j\n"
        "from a.b import c, d\n"
        "def f(c, *, e=d):\n"
        "    g = [d for d in c]\n"
        "    import a.x\n"
        "    if (h := k()):\n        raise ValueError(m())\n"
        "    return j.dumps(a.x.y(c, g, h)), lambda n: (n, n.o)\n"
        "def k(): ...\n"
        "def m(): ...\n"
        "n = 1\n"
    )
    (code,) = read("mine", path).parts("f")[""]
    targets = {(use.target.module, *use.target.names) for use in code.uses}  # type: ignore[union-attr]
    assert targets == {("a.b", "d"), ("mine", "k"), ("json", "dumps"), ("a", "x", "y")}
    assert {"o", "y", "dumps"} <= code.attributes


def test_what_all_steps_cost() -> None:
    """In a process of its own, so that nothing is known yet. Generous: the machine may be busy."""
    script = """
        import json, time
        from edgekit.core import identity, registry
        classes = [registry.load("steps", name) for name in registry.names("steps")]
        started = time.process_time()
        for cls in classes:
            identity.of_class(cls)
        first = time.process_time() - started
        for cls in classes:
            identity.of_class(cls)
        print(json.dumps([first, time.process_time() - started - first]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], text=True, capture_output=True, check=True)
    first, again = json.loads(done.stdout)
    assert first < 3 and again < first / 5


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_same_on_every_python(version: str) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version}")
    script = f"""
        import ast, glob, hashlib, sys
        sys.path.insert(0, {str(PACKAGE.parent)!r})
        from edgekit.core.parsed_code import text
        files = sorted(glob.glob({str(PACKAGE)!r} + "/**/*.py", recursive=True))
        print(hashlib.sha256("".join(text(ast.parse(open(f, "rb").read())) for f in files).encode()).hexdigest())
    """
    lines = [
        subprocess.run([one, "-c", textwrap.dedent(script)], text=True, capture_output=True, check=True).stdout
        for one in (python, sys.executable)
    ]
    assert lines[0] == lines[1]
