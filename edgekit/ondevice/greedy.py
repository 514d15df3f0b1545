"""Greedy decoding around a model of a whole sentence: numpy and the standard library only, shipped with the artifact.

The model takes the source (N, S) and the target so far (N, T), and gives a score per place and token (N, T, words):
those at place t say what follows target[:, : t + 1]. `driver.json` beside it holds the numbers of the tokens that
start, end and fill up, and how long a target may be.

All places are guessed at once and the guesses fed back until they no longer change. The first is right after one pass,
each pass makes at least one more right, and what no longer changes is just what one token at a time gives, mostly in
far fewer passes ("Jacobi decoding", Santilli et al. 2023, https://arxiv.org/abs/2305.10427, theorem 1). On a device:

    settings = json.load(open("driver.json"))
    tokens = decode(lambda source, target: session.run(None, {"source": source, "target": target})[0], source, settings)
"""

from __future__ import annotations

import numpy as np


def decode(run, source, settings):
    """(N, T) numbers of tokens, what ends included, then filled up. `run`: source and target → (N, T, words) scores."""
    target = np.full((len(source), settings["length"]), settings["pad"], source.dtype)
    target[:, 0] = settings["start"]
    said = target
    for _ in range(settings["length"]):
        said = ended(np.asarray(run(source, target)).argmax(axis=-1).astype(source.dtype), settings)
        if np.array_equal(said[:, :-1], target[:, 1:]):
            break
        target[:, 1:] = said[:, :-1]
    return said


def ended(tokens, settings):
    """Everything after the first token that ends is what fills up."""
    before = np.cumsum(tokens == settings["end"], axis=1) - (tokens == settings["end"])
    return np.where(before > 0, settings["pad"], tokens)


class Greedy:
    """A runtime's session whose one output is the decoded tokens; the samples' own target is not looked at."""

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
