"""Reads the meanings of a block's keys from its docstring, which ends with one entry for each key:

    `key` (unit): what it means, which may go on
        in further lines.

The schema for editors and the reference page both show these entries.
"""

import inspect
import re
from typing import NamedTuple

from metalearn_cli.settings import Settings

_ENTRY = re.compile(r"^`(\w+)`(?: \(([^)]*)\))?: (.*(?:\n +.*)*)", re.MULTILINE)


class Meaning(NamedTuple):
    """The meaning of a key, and the unit of its number; the unit is empty if it has none."""

    text: str
    unit: str


def meanings(block: type[Settings]) -> dict[str, Meaning]:
    """The meaning of every key with an entry in the docstring of the block or of a class that it inherits from."""
    found: dict[str, Meaning] = {}
    for owner in reversed(block.__mro__):
        for key, unit, text in _ENTRY.findall(_docstring(owner)):
            found[key] = Meaning(" ".join(text.split()), unit)
    return found


def description_of(block: type[Settings]) -> str:
    """The description of the block: the part of its docstring above the entries, one line for each paragraph."""
    paragraphs = _ENTRY.split(_docstring(block))[0].strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _docstring(owner: type) -> str:
    return inspect.cleandoc(owner.__doc__ or "") if issubclass(owner, Settings) else ""
