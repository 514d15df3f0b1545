"""ONNX Runtime made 5 % slower on purpose: each inference is followed by idling for a twentieth of its own time."""

from __future__ import annotations

import time

from edgekit.runtimes.onnxruntime import Onnxruntime

SLOWER = 1.05


class Slowed(Onnxruntime):
    """What `truth.py` must tell from the real thing."""

    def bind(self, feeds):
        call, clock = super().bind(feeds), time.perf_counter_ns

        def slowed():
            started = clock()
            outputs = call()
            until = started + SLOWER * (clock() - started)
            while clock() < until:
                pass
            return outputs

        return slowed
