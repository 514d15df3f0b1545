"""Start and end scores of an answer → its span of tokens: numpy only, shipped with extractive QA models.

Next to it are `tokenizer.json` (of the library `tokenizers`) and `span.json`: the most tokens of a question
and of an answer. On a device:

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
    """First and last token of the span with the highest sum of (2, length) scores, among the first `count` tokens."""
    start, end = np.asarray(scores, np.float64)[:, : max(count, 1)]
    sums = start[:, None] + end[None]
    gap = np.arange(len(end))[None] - np.arange(len(start))[:, None]
    sums = np.where((gap >= 0) & (gap < longest), sums, -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(first), int(last)
