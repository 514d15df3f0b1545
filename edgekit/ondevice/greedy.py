"""Greedy decoding with a sequence-to-sequence model: numpy and the standard library only, shipped with the artifact.

The model maps the source (N, S) and the target so far (N, T) to logits (N, T, vocabulary): those at position t predict
the token after target[:, : t + 1]. `driver.json` next to this file holds the ids of the start, end and padding tokens,
and the maximum length of a target.

All positions are predicted at once, and the predictions are fed back until they no longer change ("Jacobi decoding",
Santilli et al. 2023, https://arxiv.org/abs/2305.10427, theorem 1). Each pass fixes at least one more token, and the
fixed point equals decoding one token at a time, usually in far fewer passes. On a device:

    settings = json.load(open("driver.json"))
    tokens = decode(lambda source, target: session.run(None, {"source": source, "target": target})[0], source, settings)
"""

from __future__ import annotations

import numpy as np


def decode(run, source, settings):
    """(N, T) token ids, including the end token, then padding. `run`: source and target → (N, T, vocabulary) logits."""
    target = np.full((len(source), settings["length"]), settings["pad"], source.dtype)
    target[:, 0] = settings["start"]
    predicted = target
    for _ in range(settings["length"]):
        predicted = pad_after_end(np.asarray(run(source, target)).argmax(axis=-1).astype(source.dtype), settings)
        if np.array_equal(predicted[:, :-1], target[:, 1:]):
            break
        target[:, 1:] = predicted[:, :-1]
    return predicted


def pad_after_end(tokens, settings):
    """Replace every token after the first end token by padding."""
    ends_before = np.cumsum(tokens == settings["end"], axis=1) - (tokens == settings["end"])
    return np.where(ends_before > 0, settings["pad"], tokens)


class Greedy:
    """A runtime's session whose only output is the decoded tokens; the samples' own target is ignored."""

    def __init__(self, session, settings):
        self._session, self._settings = session, settings
        self.inputs = session.inputs
        self.outputs = [{"name": "tokens", "dtype": "int64", "shape": [None, settings["length"]]}]

    def bind(self, feeds):
        source = feeds["source"]

        def run(source, target):
            return self._session.bind({"source": source, "target": target})()[0]

        return lambda: [decode(run, source, self._settings).astype(np.int64)]

    def facts(self):
        return self._session.facts()
