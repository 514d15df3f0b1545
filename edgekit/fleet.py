"""Several targets at once: a thread for each device elsewhere, one job per device at a time; one that fails holds up
nobody. This machine is measured alone, after the others: sending and receiving would disturb it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from edgekit.errors import DeviceError, EdgekitError
from edgekit.types import Artifact, Plan, SampleSet, Target, quiet

if TYPE_CHECKING:
    from edgekit.pipeline import Flow

#: device kinds that compute on this machine
HERE = ("local", "null")


def measure(
    artifacts: Sequence[Artifact],
    targets: Sequence[Target],
    data: SampleSet,
    flow: Flow,
    plans: Sequence[Plan],
    *,
    reuse: bool,
) -> None:
    """Every artifact on every target, by every plan. What goes wrong on a device ends its measuring only, and is in
    the failures.

    Measurements are in the outcome in the order of `targets`, whichever finished first.
    """
    from edgekit import pipeline

    elsewhere = [target for target in targets if target.device not in HERE]

    def one(target: Target, flow: Flow) -> None:
        for plan in plans:
            pipeline.measure(artifacts, target, data, dataclasses.replace(flow, plan=plan), reuse=reuse)

    def apart(target: Target) -> None:
        flow.say(f"  measuring on {target.name} …")
        one(target, dataclasses.replace(flow, progress=quiet if len(elsewhere) > 1 else flow.progress))

    with ThreadPoolExecutor(max(1, len(elsewhere))) as pool:
        futures = {target.name: pool.submit(apart, target) for target in elsewhere}
        _finish(futures)
    for target in targets:
        try:
            futures[target.name].result() if target.name in futures else one(target, flow)
        except EdgekitError as error:
            if target.device in HERE and not isinstance(error, DeviceError):
                raise
            flow.outcome.failures.append(error)
            flow.say(f"  failed    {target.name}: {error}")
    order = {target.name: index for index, target in enumerate(targets)}
    flow.outcome.measurements.sort(key=lambda m: order.get(m.target, len(order)))


def _finish(futures: dict[str, Future[None]]) -> None:
    """Wait for all. Interrupted, the connections are ended first, and with them what runs on the devices."""
    from edgekit.devices import _adb, _boards, _ssh

    try:
        wait(futures.values())
    except BaseException:
        for future in futures.values():
            future.cancel()
        _ssh.close_all()
        _adb.close_all()
        _boards.stop_all()
        raise
