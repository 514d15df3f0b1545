"""Tables of the terminal: plain where piped, in 80 columns, and nothing that a cell says is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from report.made_up import many, measurement
from rich.cells import cell_len

from edgekit.core.measurement import Verdict
from edgekit.report import tables, terminal
from edgekit.report.method_search import search_table
from edgekit.workflows.compare.limits import Gate
from edgekit.workflows.compare.verdicts import verdicts
from edgekit.workflows.doctor import shown
from edgekit.workflows.inspect import layers_table
from edgekit.workflows.inspect.layers import LayerFinding, LayerReport


def example() -> list[object]:
    made = tables.table(tables.words("name"), tables.numbers("ms"), tables.words("note"))
    tables.add(made, "[bold]markup[/]", "1.5", "a note of many words " * 8)
    tables.add(made, "x" * 30, "12,345.5", "two\nlines", style="dim")
    return ["a line that is longer than the terminal: " + "y" * 80, made]


def test_cells_wrap_at_words_and_nothing_is_lost() -> None:
    first, second, head, *rows = tables.lines(example())  # type: ignore[arg-type]
    assert first == "a line that is longer than the terminal:"
    assert second == "  " + "y" * 80, "a word is not cut, so that it can be copied"
    assert max(map(cell_len, [head, *rows])) <= 80
    assert not any(line.endswith(" ") for line in [head, *rows])
    text = "\n".join(rows)
    assert "[bold]markup[/]" in text and "x" * 30 in text and "12,345.5" in text
    assert text.split().count("many") == 8 and "…" not in text
    assert head.split() == ["name", "ms", "note"]


def test_piped_it_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(example())  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert printed.splitlines() == tables.lines(example())  # type: ignore[arg-type]
    assert "\x1b" not in printed


def test_control_characters_of_a_name_are_not_printed() -> None:
    made = tables.table(tables.words(), tables.words())
    tables.add(made, "a\x1b[31mb", "c")
    assert tables.lines([made]) == ["a\ufffd[31mb c"], "and columns without a name have no heading"


LONG = "prune50.openvino-int8~openvino_int8@x86-vnni"
PATH = "/a/folder/" + "with-a-long-name/" * 6 + "model.onnx"


def of_measurements(capsys: pytest.CaptureFixture[str]) -> str:
    parent = measurement("prune50.openvino", p50=12_345.0)
    made = [parent, measurement(LONG, target="raspberry-pi-5", size_bytes=2**33, parents=("prune50.openvino",))]
    terminal(
        [*many(20), *made, measurement("onnx", runtime="litert", verdict=Verdict("undecided", 0.5, "val", 20_000))]
    )
    return capsys.readouterr().out


def of_gates(capsys: pytest.CaptureFixture[str]) -> str:
    gate = Gate(
        "accuracy<-0.5pp", LONG, "raspberry-pi-5", "openvino", "", "91.50%", "90.00%", -1.5, "pp", "failed", "x " * 60
    )
    verdicts([gate, replace(gate, target="host", state="undecided")])
    return capsys.readouterr().out


def of_a_method_search(capsys: pytest.CaptureFixture[str]) -> str:
    metric = {"unit": "fraction", "value": 0.9123, "drop_pp": -12.34, "drop_ci95": [-13.0, -11.5]}
    attempt: dict[str, Any] = {
        "method": "keep-float-8-equalize-gptq",
        "artifact": LONG,
        "metric": metric,
        "seconds": 1234.5,
    }
    attempt |= {"parity": {"sqnr_db": 31.5}, "latency_ms": {"p50": 1234.567}, "size_bytes": 2**33, "failed": ""}
    attempt |= {"ratio": {"value": 1.3, "ci99": [1.2, 1.4]}}
    failed = {**attempt, "metric": None, "parity": None, "failed": "no kernel " * 20}
    search = {"name": LONG, "against": "prune50.openvino", "target": "raspberry-pi-5", "runtime": "openvino"}
    search |= {"against_latency_ms": {"p50": 1.0}, "against_bytes": 1_000_000, "recommended": False}
    search |= {"attempts": [attempt, failed, {**failed, "method": "qat"}], "chosen": attempt["method"]}
    tables.show(search_table({**search, "confirmed": {"metric": metric, "verdict": {"state": "met"}}}))
    return capsys.readouterr().out


def of_layers(capsys: pytest.CaptureFixture[str]) -> str:
    name = "/backbone/stages/2/blocks/11/attention/query/MatMul_quant"
    layer = LayerFinding(name, "DequantizeLinear", "t", 31.5, 140.0, 2.5, 30.0)
    tables.show(layers_table.table(LayerReport("id", "prune50.openvino", 64, (layer,) * 3)))
    return capsys.readouterr().out


def of_targets(capsys: pytest.CaptureFixture[str]) -> str:
    made = tables.table(*map(tables.words, ("target", "device", "title")))
    tables.add(made, "raspberry-pi-zero-2-w", "ssh", "A board with a title of many words, some of them of many letters")
    tables.show([made])
    return capsys.readouterr().out


def of_doctor(capsys: pytest.CaptureFixture[str]) -> str:
    machine = {"arch": "x86_64", "isa_class": "x86-vnni", "cores": 2, "memory_mb": 24_105}
    packages = {f"a-package-of-{i}": "1.2.3+cpu" * (i % 3 > 0) for i in range(12)}
    extra = {
        "purpose": "p " * 60,
        "packages": packages,
        "installed": False,
        "unavailable": {"a": "b " * 50},
        "next": "pip",
    }
    extras = {"torch": extra, "tensorboard": {**extra, "next": "pip install 'edgekit-toolkit[tensorboard]'"}}
    tables.show(shown({"edgekit": "1", "python": "3", "machine": machine, "extras": extras, "broken": []}))
    return capsys.readouterr().out


KINDS = (of_measurements, of_gates, of_a_method_search, of_layers, of_targets, of_doctor)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_table_fits_and_cuts_no_word(
    kind: Callable[..., str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word that is there with much room is there, whole, with little; what is left out is said."""
    monkeypatch.setenv("COLUMNS", "1000")
    roomy = kind(capsys).split()
    monkeypatch.setenv("COLUMNS", str(width))
    printed = kind(capsys)
    assert all(cell_len(line) <= width for line in printed.splitlines()), max(printed.splitlines(), key=len)
    if "not shown: " not in printed:
        cut = {word.strip(",:()") for word in roomy} - {word.strip(",:()") for word in printed.split()}
        assert cut <= {"-", "artifact", "method", "gate"}, "more than empty cells and the heading of stacked rows"


def test_spare_columns_go_first_and_are_named() -> None:
    made = tables.table(
        tables.words("name"), tables.numbers("p90 ms", spare=True), tables.numbers("mem MB", spare=True)
    )
    tables.add(made, "x" * 67, "1.5", "12.3")
    assert tables.lines([made]) == [
        "name" + " " * 64 + "mem MB",
        "x" * 67 + "   12.3",
        "not shown: p90 ms (81 columns show all, as JSON does)",
    ]


def test_what_still_does_not_fit_is_stacked() -> None:
    made = tables.table(tables.words("name"), tables.numbers("ms"), tables.numbers("kB", spare=True))
    tables.add(made, "x" * 78, "1.5", "12.3")
    assert tables.lines([made]) == ["x" * 78, "  ms 1.5, kB 12.3"]


def test_a_path_stays_whole() -> None:
    made = tables.table(tables.words(width=12), tables.words())
    tables.add(made, "model", PATH)
    tables.add(made, "why", "some words " * 12)
    lines = tables.lines([made])
    assert lines[:2] == ["model", f"  {PATH}"]
    assert len(lines) == 4 and max(map(len, lines[2:])) <= 80
