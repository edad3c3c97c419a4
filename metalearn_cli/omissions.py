"""Collects the parts of a user's input that are left out, with reasons, and remarks on input that is suspicious.

All rooms may import this file, since each of them may leave something out.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from metalearn_cli.settings import Settings


class Omission(Settings):
    """Things of one kind that were left out: the reason, their number, and the name of the first."""

    kind: str
    why: str
    count: int = Field(ge=1)
    example: str

    def __str__(self) -> str:
        """The line that people read."""
        return f"left out: {self.count:,} x {self.kind} ({self.example}{', ...' if self.count > 1 else ''}): {self.why}"


class Omissions:
    """A growing list of things that are left out; a name that is added twice counts once.

    >>> omissions = Omissions()
    >>> omissions.add("link", "it leads out of the folder", "cats/1.png")
    >>> omissions.add("link", "it leads out of the folder", "cats/2.png")
    >>> [str(omission) for omission in omissions.listed()]
    ['left out: 2 x link (cats/1.png, ...): it leads out of the folder']
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, str]] = {}
        self._remarks: dict[str, str] = {}

    @property
    def remarks(self) -> list[str]:
        """Lines on input that was used but looks suspicious."""
        return [*self._remarks.values()]

    def remark(self, about: str, text: str) -> None:
        """Add a remark about a thing; only the first one about it counts."""
        self._remarks.setdefault(about, text)

    def add(self, kind: str, why: str, name: str) -> None:
        """Add the thing `name` of a kind (a singular noun); `why` gives the reason and how to have it used."""
        self._of.setdefault(name, (kind, why))

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def below(self, folder: str) -> "Omissions":
        """The omissions whose name is `folder`, or that lie in this folder."""
        inside = Omissions()
        inside._of = {name: why for name, why in self._of.items() if f"{name}/".startswith(f"{folder}/")}
        return inside

    def listed(self) -> list[Omission]:
        """One Omission for each kind and reason, the largest number first."""
        names: dict[tuple[str, str], list[str]] = {}
        for name, told in self._of.items():
            names.setdefault(told, []).append(name)
        found = [Omission(kind=kind, why=why, count=len(of), example=min(of)) for (kind, why), of in names.items()]
        return sorted(found, key=lambda omission: (-omission.count, omission.kind, omission.why))


def merged(lists: Iterable[Sequence[Omission]]) -> list[Omission]:
    """The omissions of several sources; the counts of equal kind and reason are added."""
    found: dict[tuple[str, str], Omission] = {}
    for omission in (omission for listed in lists for omission in listed):
        known = found.get((omission.kind, omission.why))
        more = omission.count + (known.count if known else 0)
        found[omission.kind, omission.why] = (known or omission).model_copy(update={"count": more})
    return [*found.values()]


def as_fields(omissions: Iterable[Omission]) -> list[dict[str, Any]]:
    """Omissions as fields for JSON."""
    return [omission.model_dump() for omission in omissions]
