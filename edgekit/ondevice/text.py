"""Turn texts into a model's inputs: the one implementation, for the host and for devices.

Python 3.8, numpy and the package `tokenizers`. `tokenizer.json` holds the vocabulary, what is put around a text, and
how it is truncated and padded.
"""

import os

import numpy as np

# What ends a text, by the tokenizers of well-known models, and by edgekit's own.
END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>", "<|end|>", "<|im_end|>", "[SEP]")
# What of an encoding an input holds, by the `part` of its signature (edgekit/core/signature.py).
FIELDS = {"": "ids", "mask": "attention_mask", "segments": "type_ids"}


def load(path, length=0):
    """The tokenizer in a file. `length`: truncate, and pad where it pads, to this instead of what the file says.

    Raises OSError, ValueError if the file is no tokenizer, ImportError without the package.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    # the library's own thread pool would use all cores
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(str(error).partition("\n")[0][:200]) from error
    if length:
        truncation, padding = tokenizer.truncation or {}, tokenizer.padding
        tokenizer.enable_truncation(**dict(truncation, max_length=length))
        if padding:
            tokenizer.enable_padding(**dict(padding, length=length))
    return tokenizer


def samples(tokenizer, text, parts):
    """A text, or a pair of texts, as int64 arrays (1, tokens) by input name, and whether it was truncated.

    `parts`: input name → the `part` of its signature. Raises ValueError for an empty text.
    """
    pair = list(text) if isinstance(text, (tuple, list)) else [text]
    if not all(part.strip() for part in pair):
        raise ValueError("the text is empty")
    encoding = tokenizer.encode(*pair)
    arrays = {name: np.array([getattr(encoding, FIELDS[part])], np.int64) for name, part in parts.items()}
    return arrays, bool(encoding.overflowing)


def end_token(tokenizer):
    """The token that ends a text, -1 if the vocabulary has none of the usual ones."""
    numbers = [tokenizer.token_to_id(name) for name in END_TOKENS]
    return next((number for number in numbers if number is not None), -1)


def decoded(tokenizer, tokens):
    """The text of token ids before the first that ends a text."""
    tokens, end = [int(token) for token in tokens], end_token(tokenizer)
    return tokenizer.decode(tokens[: tokens.index(end)] if end in tokens else tokens)
