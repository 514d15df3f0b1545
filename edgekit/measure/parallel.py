"""Several targets at once: a thread for each device elsewhere, one job per device at a time; one that fails holds up
nobody. This machine is measured alone, after the others: sending and receiving would disturb it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, EdgekitError
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure.targets import is_here

if TYPE_CHECKING:
    from edgekit.measure.context import RunContext


def measure(
    artifacts: Sequence[Artifact],
    targets: Sequence[Target],
    data: SampleSet,
    context: RunContext,
    plans: Sequence[Plan],
    *,
    reuse: bool,
) -> None:
    """Every artifact on every target, by every plan. What goes wrong on a device ends its measuring only, and is in
    the failures.

    Measurements are in the outcome in the order of `targets`, whichever finished first.
    """
    from edgekit.measure import measurements

    elsewhere = [target for target in targets if not is_here(target)]

    def one(target: Target, context: RunContext) -> None:
        for plan in plans:
            measurements.measure(artifacts, target, data, dataclasses.replace(context, plan=plan), reuse=reuse)

    def apart(target: Target) -> None:
        context.say(f"  measuring on {target.name} …")
        one(target, dataclasses.replace(context, progress=quiet if len(elsewhere) > 1 else context.progress))

    with ThreadPoolExecutor(max(1, len(elsewhere))) as pool:
        futures = {target.name: pool.submit(apart, target) for target in elsewhere}
        _finish(futures, {target.device for target in elsewhere})
    for target in targets:
        try:
            futures[target.name].result() if target.name in futures else one(target, context)
        except EdgekitError as error:
            if is_here(target) and not isinstance(error, DeviceError):
                raise
            context.outcome.failures.append(error)
            context.say(f"  failed    {target.name}: {error}")
    order = {target.name: index for index, target in enumerate(targets)}
    context.outcome.measurements.sort(key=lambda m: order.get(m.target, len(order)))


def _finish(futures: dict[str, Future[None]], devices: set[str]) -> None:
    """Wait for all. Interrupted, the connections are ended first, and with them what runs on the devices."""
    try:
        wait(futures.values())
    except BaseException:
        for future in futures.values():
            future.cancel()
        for device in devices:
            registry.load("devices", device).stop_all()
        raise
