"""The floor plan's rules hold, and each of them fails where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import architecture
import pytest
from architecture import Code
from tested_through import THROUGH

import edgekit

ROOT = Path(edgekit.__file__).parents[1]
#: modules of core/ that compute with numpy
NUMERIC = ("metrics", "statistics")
#: and those that look at files: `config` reads TOML, `paths` finds folders, `trust` its record, `user_code` own files,
#: `identity` and `parsed_code` source code, `sandbox` /proc, and `errors` asks what is to be read
FILES = (
    "arrays config errors files identity json local_paths parsed_code paths relative_paths sandbox temporary trust "
    "user_code"
).split()

Rule = Callable[[Code], Iterator[str]]


def core(code: Code) -> Iterator[str]:
    return architecture.core(code, NUMERIC, FILES)


RULES: tuple[Rule, ...] = (
    architecture.verbs,
    architecture.private,
    architecture.loose,
    architecture.galleries,
    architecture.late_imports,
    architecture.quick_help,
    core,
)
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def code() -> Code:
    return Code.read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_it(code: Code, rule: Rule) -> None:
    assert list(rule(code)) == []


def test_all_of_the_code_is_read(code: Code) -> None:
    assert {"edgekit", "edgekit.cli.run", "edgekit.steps.shared.calibrated"} <= code.modules.keys()
    assert "torch" in code.third_party("edgekit.compression.program")
    assert code.third_party("edgekit.core.errors") == set()


#: rule, what keeps it, what breaks it, part of the complaint
CASES: list[tuple[Rule, dict[str, str], dict[str, str], str]] = [
    (
        architecture.verbs,
        {"edgekit/cli/run.py": "", "edgekit/workflows/run.py": "def run(): ..."},
        {"edgekit/cli/run.py": "", "edgekit/workflows/runs.py": "def run(): ..."},
        "there is no edgekit/workflows/run",
    ),
    (
        architecture.verbs,
        {"edgekit/cli/import_.py": "", "edgekit/workflows/import_.py": "def import_model(): ..."},
        {"edgekit/cli/import_.py": "", "edgekit/workflows/import_.py": "def stored(): ..."},
        "import_.py: has no function import_model",
    ),
    (
        architecture.verbs,
        {
            "edgekit/cli/inspect.py": "",
            "edgekit/workflows/inspect/__init__.py": "",
            "edgekit/workflows/inspect/model.py": "def inspect(): ...",
        },
        {"edgekit/cli/inspect.py": "", "edgekit/workflows/inspect/__init__.py": "class inspect: ..."},
        "has no function inspect",
    ),
    (
        architecture.verbs,
        {
            "edgekit/cli/targets.py": "",
            "edgekit/workflows/targets/__init__.py": "",
            "edgekit/workflows/targets/add.py": "def add(): ...",
        },
        {
            "edgekit/cli/targets.py": "",
            "edgekit/workflows/targets/__init__.py": "def targets(): ...",
            "edgekit/workflows/targets/add.py": "def added(): ...",
        },
        "add.py: has no function add",
    ),
    (
        architecture.private,
        {"edgekit/steps/a.py": "from edgekit.runs.store import Store", "edgekit/runs/store.py": ""},
        {"edgekit/steps/a.py": "from edgekit.runs.store import _read", "edgekit/runs/store.py": ""},
        "a.py:1: imports _read of edgekit.runs.store",
    ),
    (
        architecture.private,
        {"edgekit/steps/a.py": "from edgekit.runs import store\nstore.read()", "edgekit/runs/store.py": ""},
        {"edgekit/steps/a.py": "from edgekit.runs import store as s\ns._read()", "edgekit/runs/store.py": ""},
        "a.py:2: uses _read of edgekit.runs.store",
    ),
    (
        architecture.private,
        {"edgekit/runs/a.py": "from edgekit.runs import _b\nfrom edgekit.runs._b import c", "edgekit/runs/_b.py": ""},
        {"edgekit/steps/a.py": "def f():\n    from edgekit.runs import _b", "edgekit/runs/_b.py": ""},
        "a.py:2: imports _b of edgekit.runs",
    ),
    (
        architecture.private,
        {"edgekit/runs/a.py": "from edgekit.runs._b import c", "edgekit/runs/_b.py": ""},
        {"edgekit/steps/a.py": "from edgekit.runs._b import c", "edgekit/runs/_b.py": ""},
        "a.py:1: imports of edgekit.runs._b",
    ),
    (architecture.loose, {"edgekit/__main__.py": "", "edgekit/core/a.py": ""}, {"edgekit/a.py": ""}, "edgekit/a.py"),
    (
        architecture.galleries,
        {"edgekit/steps/to_onnx.py": "class ToOnnx: ...", "edgekit/steps/shared/tools.py": ""},
        {"edgekit/steps/to_onnx.py": "def ToOnnx(): ..."},
        "has no class ToOnnx",
    ),
    (
        architecture.galleries,
        {"edgekit/models/__init__.py": "", "edgekit/models/ds_cnn.py": "class DsCnn: ..."},
        {"edgekit/models/_width.py": "class Width: ..."},
        "is no member",
    ),
    (
        architecture.galleries,
        {"edgekit/formats/shared/__init__.py": "", "edgekit/networks/onnx/graph.py": ""},
        {"edgekit/formats/onnx/wire.py": "class Wire: ..."},
        "only shared/ may be a folder",
    ),
    (
        architecture.late_imports,
        {"edgekit/sets/a.py": "def f():\n    import torch"},
        {"edgekit/sets/a.py": "import torch\ndef f():\n    import torch.nn"},
        "a.py:3: the import of torch.nn",
    ),
    (
        architecture.late_imports,
        {
            "edgekit/sets/a.py": "def f():\n    from edgekit.sets import b",
            "edgekit/sets/b.py": "from edgekit.core import c",
            "edgekit/core/c.py": "try:\n    import numpy\nexcept ImportError: ...",
        },
        {
            "edgekit/sets/a.py": "def f():\n    from edgekit.sets import b",
            "edgekit/sets/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy",
        },
        "a.py:2: the import of edgekit.sets",
    ),
    (
        architecture.late_imports,
        {"edgekit/ondevice/a.py": "def f():\n    import json"},
        {"edgekit/sets/a.py": "class A:\n    def f(self):\n        import json"},
        "a.py:3: the import of json",
    ),
    (
        architecture.late_imports,
        {"edgekit/sets/a.py": "def f():\n    import numpy"},
        {"edgekit/sets/__init__.py": "import numpy", "edgekit/sets/a.py": "def f():\n    import numpy"},
        "a.py:2: the import of numpy",
    ),
    (
        architecture.quick_help,
        {"edgekit/cli/a.py": "from edgekit.core.errors import A\ndef command():\n    from edgekit.runs import store"},
        {"edgekit/cli/a.py": "from edgekit.runs import store"},
        "a.py:1: loads edgekit.runs",
    ),
    (
        core,
        {"edgekit/core/statistics.py": "import numpy", "edgekit/core/a.py": "def f():\n    import torch"},
        {"edgekit/core/a.py": "import numpy"},
        "a.py: loads numpy",
    ),
    (core, {"edgekit/runs/a.py": "import torch"}, {"edgekit/core/statistics.py": "import torch"}, "loads torch"),
    (
        core,
        {"edgekit/core/files.py": "def f(path):\n    return path.read_text()"},
        {"edgekit/core/a.py": "def f(path):\n    return path.read_text()"},
        "a.py:2: calls read_text",
    ),
]


@pytest.mark.parametrize(("rule", "kept", "broken", "complaint"), CASES)
def test_it_tells_what_breaks_it(rule: Rule, kept: dict[str, str], broken: dict[str, str], complaint: str) -> None:
    assert list(rule(Code(kept))) == []
    (only,) = rule(Code(broken))
    assert complaint in only


def test_every_rule_is_tried() -> None:
    assert {rule for rule, *_ in CASES} == set(RULES)


def test_every_module_that_computes_has_a_test_file(code: Code) -> None:
    files = [str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")]
    assert list(architecture.untested(code, files, THROUGH)) == []


LOGIC = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(
    ("path", "files", "through", "complaint"),
    [
        ("edgekit/sets/labels.py", ["sets/test_labels.py"], {}, ""),
        ("edgekit/sets/__init__.py", ["sets/test_sets.py"], {}, ""),
        ("edgekit/sets/labels.py", ["sets/test_rows.py"], {"sets/labels": "sets/test_rows.py"}, ""),
        ("edgekit/networks/onnx/a.py", ["networks/test_b.py"], {"networks/onnx/": "networks/test_b.py"}, ""),
        ("edgekit/steps/to_onnx.py", [], {}, ""),
        ("edgekit/cli/run.py", [], {}, ""),
        ("edgekit/sets/labels.py", ["test_labels.py"], {}, "there is no tests/sets/test_labels.py"),
        ("edgekit/steps/shared/a.py", ["steps/test_a.py"], {}, "there is no tests/steps/shared/test_a.py"),
        ("edgekit/sets/labels.py", [], {"sets/labels": "sets/test_rows.py"}, "no tests/sets/test_rows.py either"),
        ("edgekit/cli/run.py", [], {"sets/gone": "sets/test_rows.py"}, "no module needs it"),
        (
            "edgekit/sets/labels.py",
            ["sets/test_labels.py", "sets/test_rows.py"],
            {"sets/labels": "sets/test_rows.py"},
            "need not be listed",
        ),
    ],
)
def test_it_tells_which_module_is_untested(
    path: str, files: list[str], through: dict[str, str], complaint: str
) -> None:
    found = list(architecture.untested(Code({path: LOGIC}), files, through))
    assert bool(found) == bool(complaint) and complaint in "".join(found[:1])


@pytest.mark.parametrize(
    ("text", "computes"),
    [
        (LOGIC, True),
        ("class A:\n    async def f(self):\n        x = 1", True),
        ("class A:\n    x: int", False),
        ('class A:\n    def f(self):\n        """What it does."""\n        raise NotImplementedError', False),
        ("class A(Protocol):\n    def f(self): ...", False),
    ],
)
def test_records_and_protocols_compute_nothing(text: str, computes: bool) -> None:
    (module,) = Code({"edgekit/a.py": text}).modules.values()
    assert architecture.computes(module) == computes
