"""What the keys of a block mean, as its docstring says: one entry for each key, below all else.

    `key` (unit): what it means, which may go on
        in further lines.

The schema for editors and the reference page both read them, so what a person types and what a person reads agree.
"""

import inspect
import re
from typing import NamedTuple

from metalearn_cli.settings import Settings

_ENTRY = re.compile(r"^`(\w+)`(?: \(([^)]*)\))?: (.*(?:\n +.*)*)", re.MULTILINE)


class Meaning(NamedTuple):
    """What a key means, and the unit of its number; empty where it has none."""

    text: str
    unit: str


def meanings(block: type[Settings]) -> dict[str, Meaning]:
    """The meaning of every key that the docstring of the block or of what it inherits from has an entry for."""
    found: dict[str, Meaning] = {}
    for owner in reversed(block.__mro__):
        for key, unit, text in _ENTRY.findall(_docstring(owner)):
            found[key] = Meaning(" ".join(text.split()), unit)
    return found


def about(block: type[Settings]) -> str:
    """What the block is: its docstring above the entries, one line for each paragraph."""
    return "\n\n".join(" ".join(one.split()) for one in _ENTRY.split(_docstring(block))[0].strip().split("\n\n"))


def _docstring(owner: type) -> str:
    return inspect.cleandoc(owner.__doc__ or "") if issubclass(owner, Settings) else ""
