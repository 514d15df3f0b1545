"""Scores of where an answer begins and ends → the answer's place: numpy only, shipped with models that answer so.

Beside it lie `tokenizer.json` (of the library `tokenizers`) and `span.json`: how many tokens of the question the model
takes, and how many an answer may have. On a device:

    settings = json.load(open("span.json"))
    asked, read = tokenizer.encode(question), tokenizer.encode(context)
    feeds = {"question": np.array([asked.ids[: settings["question"]]]), "context": np.array([read.ids])}
    scores = session.run(None, feeds)[0]  # (1, 2, length)
    first, last = best(scores[0], sum(read.attention_mask), settings["longest"])
    answer = context[read.offsets[first][0] : read.offsets[last][1]].strip()
"""

from __future__ import annotations

import numpy as np


def best(scores, count, longest):
    """First and last token of the best span: the highest sum of (2, length) scores, among the first `count` tokens."""
    start, end = np.asarray(scores, np.float64)[:, : max(count, 1)]
    sums = start[:, None] + end[None]
    gap = np.arange(len(end))[None] - np.arange(len(start))[:, None]
    sums = np.where((gap >= 0) & (gap < longest), sums, -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(first), int(last)
