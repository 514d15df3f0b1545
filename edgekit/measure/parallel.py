"""Measuring several targets in parallel: one thread per remote device, one job per device at a time. A device that
fails does not stop the others. This machine is measured alone, after the others, since transfers would disturb it."""

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
    """Measure every artifact on every target by every plan. An error on a device ends only its own measuring, and is
    added to the outcome's failures.

    The outcome's measurements are in the order of `targets`, whichever finished first.
    """
    from edgekit.measure import measurements

    remote = [target for target in targets if not is_here(target)]

    def measure_target(target: Target, context: RunContext) -> None:
        if len(plans) > 1:
            threads = ", ".join(str(plan.threads) for plan in plans)
            context.say(f"  {len(plans)} sessions on {target.name}, with {threads} threads; each is announced")
        for plan in plans:
            measurements.measure(artifacts, target, data, dataclasses.replace(context, plan=plan), reuse=reuse)

    def measure_remote(target: Target) -> None:
        context.say(f"  measuring on {target.name} …")
        progress = quiet if len(remote) > 1 else context.progress
        measure_target(target, dataclasses.replace(context, progress=progress))

    with ThreadPoolExecutor(max(1, len(remote))) as pool:
        futures = {target.name: pool.submit(measure_remote, target) for target in remote}
        _finish(futures, {target.device for target in remote})
    for target in targets:
        try:
            futures[target.name].result() if target.name in futures else measure_target(target, context)
        except EdgekitError as error:
            if is_here(target) and not isinstance(error, DeviceError):
                raise
            context.outcome.failures.append(error)
            context.say(f"  failed    {target.name}: {error}")
    order = {target.name: index for index, target in enumerate(targets)}
    context.outcome.measurements.sort(key=lambda m: order.get(m.target, len(order)))


def _finish(futures: dict[str, Future[None]], devices: set[str]) -> None:
    """Wait for all targets. On an interrupt, close the connections first, which stops the processes on the devices."""
    try:
        wait(futures.values())
    except BaseException:
        for future in futures.values():
            future.cancel()
        for device in devices:
            registry.load("devices", device).stop_all()
        raise
