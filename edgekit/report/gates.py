"""Gates → how many passed, and JUnit XML, which CI systems show as test cases.

The schema is that of Jenkins (https://github.com/jenkinsci/xunit-plugin), which GitLab reads, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from edgekit.core.printable import printable

if TYPE_CHECKING:
    from edgekit.workflows.compare.limits import Gate

NAME = "edgekit gates"


def summary(gates: Sequence[Gate]) -> str:
    """How many passed, and how many did not: `26 of 28 gates passed, 1 failed, 1 undecided`."""
    counts = {state: sum(gate.state == state for gate in gates) for state in ("passed", "failed", "undecided")}
    rest = [f"{counts[state]} {state}" for state in ("failed", "undecided") if counts[state]]
    return ", ".join([f"{counts['passed']} of {len(gates)} gates passed", *rest])


def row_name(gate: Gate, gates: Sequence[Gate]) -> str:
    """The artifact, with the runtime and the plan where it was measured with several on this device."""
    same = [other for other in gates if (other.artifact, other.target) == (gate.artifact, gate.target)]
    runtime = gate.runtime if len({other.runtime for other in same}) > 1 else ""
    plan = gate.plan if len({other.plan for other in same}) > 1 else ""
    return f"{gate.artifact} ({', '.join(filter(None, [runtime, plan]))})" if runtime or plan else gate.artifact


def junit(gates: Sequence[Gate], strict: bool = False) -> str:
    """A test case for each gate. An undecided one is skipped, or with `strict` a failure: never green."""
    several_plans = len({gate.plan for gate in gates}) > 1
    bad = sum(gate.error(strict) is not None for gate in gates)
    skipped = sum(gate.state == "undecided" for gate in gates) if not strict else 0
    counts = {"tests": str(len(gates)), "failures": str(bad), "errors": "0", "skipped": str(skipped), "time": "0"}
    root = ElementTree.Element("testsuites", {"name": NAME, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": NAME, **counts})
    for gate in gates:
        row = f"{gate.artifact}, {gate.plan}" if several_plans and gate.plan else gate.artifact
        names = {"classname": f"{gate.target}.{gate.runtime}", "name": f"{row}: {gate.limit}", "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", {key: printable(text) for key, text in names.items()})
        if error := gate.error(strict):
            message = {"message": printable(str(error)), "type": gate.state}
            ElementTree.SubElement(case, "failure", message).text = printable(f"Next: {error.next}")
        elif gate.state == "undecided":
            ElementTree.SubElement(case, "skipped", {"message": printable(f"undecided: {gate.sentence()}")})
        ElementTree.SubElement(case, "system-out").text = "\n".join(map(printable, _facts(gate)))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _facts(gate: Gate) -> Iterator[str]:
    """Limit, values and intervals, a line each."""
    yield f"limit: {gate.limit}"
    yield f"before: {gate.before}"
    yield f"now: {gate.after}" + (f" (95 % CI {gate.after_ci})" if gate.after_ci else "")
    if gate.change is not None:
        interval = " (99 % CI {:+.2f} to {:+.2f})".format(*gate.interval) if gate.interval else ""
        yield f"change: {gate.change:+.2f} {gate.unit}{interval}"
    yield f"verdict: {gate.state}" + (f", {gate.why}" if gate.why else "")
