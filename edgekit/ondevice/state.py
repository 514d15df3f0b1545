"""A model with states: outputs that are an input's next value, as a decoder's cache is. Numpy only, for the device.

`Stateful` wraps a runtime's session and hides the states: a call starts with empty ones and returns the other outputs.
`request` generates text greedily: one call with the prompt, whose last position predicts the first new token, then a
call with one token for each further one. A runtime that offers `keep(states)` keeps the states where they are from one
call to the next; for others they are arrays that are fed again.

On a device, with the model's own settings (`states`: input name → output name):

    session = Stateful(Onnxruntime("model.onnx", 1, "fp32", {}), {"states": states})
    tokens, first_ns = session.request({"tokens": prompt}, 32)
"""

from __future__ import annotations

import time


class Stateful:
    """`inputs` and `outputs` are those without the states."""

    def __init__(self, session, settings):
        self._session, self._states = session, settings["states"]
        nexts = set(self._states.values())
        self.inputs = [spec for spec in session.inputs if spec["name"] not in self._states]
        self.outputs = [spec for spec in session.outputs if spec["name"] not in nexts]
        keep = getattr(session, "keep", None)
        self._kept = keep(self._states) if keep else Copied(session, self._states)

    def bind(self, feeds):
        return lambda: self._kept.run(feeds, True)

    def facts(self):
        return self._session.facts()

    def request(self, feeds, count):
        """(token ids (batch, count) that follow those of the only input, ns until the first was known)."""
        import numpy as np

        (name, tokens), started = next(iter(feeds.items())), time.perf_counter_ns()
        made, logits = [], self._kept.run({name: tokens}, True)[0]
        first_ns = 0
        for index in range(count):
            if index:
                logits = self._kept.run({name: made[-1]}, False)[0]
            made.append(np.asarray(logits[:, -1:]).argmax(axis=-1).astype(tokens.dtype))
            first_ns = first_ns or time.perf_counter_ns() - started
        return np.concatenate(made, axis=1).astype(np.int64), first_ns

    def stepwise(self, first):
        """A session that gives the same outputs as this one, from calls with `first` positions, then with one each."""
        return Stepwise(self, self._kept, first)

    def generating(self, count):
        """A session whose only output are the `count` tokens that follow."""
        return Generating(self, count)

    def with_states(self, feeds, inputs):
        """The `inputs` of the file, more than those of a session that keeps states itself: with empty states."""
        return dict(feeds, **empty(inputs, self._states, batch_of(feeds)))


class Stepwise:
    """Outputs (batch, positions, …) that were computed one position at a time, as a request does."""

    def __init__(self, session, kept, first):
        self._kept, self._first = kept, first
        self.inputs, self.outputs, self.facts = session.inputs, session.outputs, session.facts

    def bind(self, feeds):
        import numpy as np

        def call():
            (name, tokens), first = next(iter(feeds.items())), self._first
            parts = [tokens[:, :first], *np.split(tokens[:, first:], max(1, tokens.shape[1] - first), axis=1)]
            parts = [np.ascontiguousarray(part) for part in parts if part.shape[1]]
            outputs = [self._kept.run({name: part}, index == 0) for index, part in enumerate(parts)]
            return [np.concatenate(values, axis=1) for values in zip(*outputs)]

        return call


class Generating:
    """Tokens (batch, count) that follow the model's own."""

    def __init__(self, session, count):
        self._session, self._count = session, count
        self.inputs, self.facts = session.inputs, session.facts
        self.outputs = [{"name": "tokens", "dtype": "int64", "shape": [None, count]}]

    def bind(self, feeds):
        return lambda: [self._session.request(feeds, self._count)[0]]


class Copied:
    """States as arrays, which a runtime returns and is given again."""

    def __init__(self, session, states):
        self._session, self._states, self._values = session, states, {}

    def run(self, feeds, fresh):
        """The outputs that are no states; `fresh`: from empty states."""
        if fresh:
            self._values = empty(self._session.inputs, self._states, batch_of(feeds))
        outputs = self._session.bind(dict(feeds, **self._values))()
        named = dict(zip([spec["name"] for spec in self._session.outputs], outputs))
        self._values = {name: named.pop(following) for name, following in self._states.items()}
        return list(named.values())


def empty(inputs, states, batch):
    """State name → zeros for so many samples, with open axes of length 0."""
    import numpy as np

    specs = {spec["name"]: spec for spec in inputs}
    shapes = {name: [batch] + [size or 0 for size in specs[name]["shape"][1:]] for name in states}
    return {name: np.zeros(shape, specs[name]["dtype"]) for name, shape in shapes.items()}


def batch_of(feeds):
    return len(next(iter(feeds.values())))
