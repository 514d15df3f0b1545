"""ONNX Runtime made slower on purpose: each inference is followed by idling for a share of its own time."""

from __future__ import annotations

import time

from edgekit.runtimes.onnxruntime import Onnxruntime


class Slowed(Onnxruntime):
    """5 % slower: what `truth.py` must tell from the real thing."""

    slower = 1.05

    def bind(self, feeds):
        call, clock = super().bind(feeds), time.perf_counter_ns

        def slowed():
            started = clock()
            outputs = call()
            until = started + self.slower * (clock() - started)
            while clock() < until:
                pass
            return outputs

        return slowed


class Regressed(Slowed):
    """10 % slower: what a gate of `p50>+5%` must fail."""

    slower = 1.10
