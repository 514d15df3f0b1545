"""What the text of a table's column is: categories, booleans, dates, or neither.

Few different values that come again are categories: each becomes an input of its own (one-hot), in alphabetical order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from edgekit.core.signature import Column
from edgekit.ondevice.table import BOOLEANS

#: a column of text with more different values, or longer ones, is no category
MOST_CATEGORIES, LONGEST = 50, 100

#: 2024-05-31, 31.5.2024, 5/31/24, with or without a time
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\d{1,2}:\d{2}.*)?")


@dataclass
class Texts:
    """The different cells of one column as text, as many as categories may be and one more."""

    found: set[str] = field(default_factory=set)
    #: cells that are not empty
    count: int = 0
    is_long: bool = False

    def add(self, text: str) -> None:
        self.count += 1
        if len(text) > LONGEST:
            self.is_long = True
        elif len(self.found) <= MOST_CATEGORIES:
            self.found.add(text)

    @property
    def are_booleans(self) -> bool:
        return not self.is_long and {text.lower() for text in self.found} <= set(BOOLEANS)

    @property
    def constant(self) -> bool:
        """Has it one value, or none?"""
        return not self.is_long and len(self.found) <= 1

    def categories(self, missing: bool) -> tuple[str, ...]:
        """In alphabetical order; the first is "" if cells are `missing`."""
        return tuple(sorted({*self.found, *([""] if missing else [])}))

    def problem(self, rows: int) -> str:
        """What it holds, if it is text that is no categories; else ""."""
        if self.is_long:
            return f"text of more than {LONGEST} characters"
        example = repr(min(self.found))
        if all(map(_DATE.fullmatch, self.found)):
            return f"dates, such as {example}"
        if len(self.found) > MOST_CATEGORIES:
            return f"text with more than {MOST_CATEGORIES} different values, such as {example}"
        if 2 * len(self.found) > self.count:
            return f"text that hardly comes twice ({len(self.found)} values in {rows:,} rows), such as {example}"
        return ""


def is_encoded(columns: Sequence[Column]) -> bool:
    """Are there categories, or numbers in place of missing cells?"""
    return any(column.categories or column.missing is not None for column in columns)


def names(columns: Sequence[str]) -> str:
    """As the value of an option of a SET: separated by commas, special characters percent-encoded."""
    return ",".join(quote(column, safe="") for column in columns)
