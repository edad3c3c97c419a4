"""Finds pictures that occur twice. A copy must not be in both support and query set, nor in both training and test."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from metalearn_cli.datasets import Preprocessing, Split
from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.inputs.sources import OpenedSource
from metalearn_cli.storage.pictures.conversion import decode

Classes = Mapping[str, Sequence[str]]

_READERS = 4  # threads; hashing large blocks releases Python's lock
_AT_ONCE = 256  # pictures between two lines of progress
_SHOWN = 10


def without_copies(
    source: OpenedSource, classes: Classes, split: Split, preprocessing: Preprocessing, progress: Progress
) -> Classes:
    """The classes without copies: of equal files in one class the first stays, of equal files in two classes none.

    The pictures that are left out are added to the source's omissions. Only files of equal size are read and compared.

    Raises DataError if a picture is in two parts of the split, or if all pictures of a class are in other classes too.
    """
    class_of = {member: name for name, members in classes.items() for member in members}
    part_of = {name: part for part, names in split.items() for name in names}
    gone: set[str] = set()
    across: list[str] = []
    for same in _copies(source, [*class_of], progress):
        if not _is_readable(source, same[0], preprocessing):
            continue  # the decoder reports all unreadable pictures together
        names = sorted({class_of[member] for member in same})
        if len({part_of[name] for name in names}) > 1:
            across.append(" = ".join(f"{member!r} ({part_of[class_of[member]]})" for member in same))
        elif len(names) > 1:
            for member in same:
                source.omissions.add("picture", "the same picture is in another class too", member)
            gone.update(same)
        else:
            for member in same[1:]:
                source.omissions.add("picture", "its class has the same picture under another name", member)
            gone.update(same[1:])
    if across:
        more = f"; and {len(across) - _SHOWN} more" if len(across) > _SHOWN else ""
        found = f"the same picture lies in two parts ({len(across):,} in all), and training would see what is tested on"
        raise DataError(f"{found}; take all but one of each away: {'; '.join(across[:_SHOWN])}{more}")
    kept = {name: [member for member in members if member not in gone] for name, members in classes.items()}
    emptied = next((name for name, members in kept.items() if not members), None)
    if emptied is not None:
        found = f"class {emptied!r}: all its pictures are in other classes too, as {classes[emptied][0]!r}"
        raise DataError(f"{found}; is the same collection there twice, perhaps unpacked and as an archive?")
    return kept


def _copies(source: OpenedSource, members: Sequence[str], progress: Progress) -> list[list[str]]:
    """The groups of two or more equal members, each in the order of the members."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for member in members:
        by_size[source.size(member)].append(member)
    compared = {member for same in by_size.values() if len(same) > 1 for member in same}
    ordered = [member for member in members if member in compared]
    by_digest: dict[Hashable, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            for member, digest in zip(some, readers.map(lambda one: _digest(source, one), some), strict=True):
                by_digest[digest].append(member)
            if len(ordered) > _AT_ONCE:
                progress("comparing", start + len(some), len(ordered))
    return [same for same in by_digest.values() if len(same) > 1]


def _is_readable(source: OpenedSource, member: str, preprocessing: Preprocessing) -> bool:
    try:
        decode(source.picture(member), preprocessing, member)
    except DataError:
        return False
    return True


def _digest(source: OpenedSource, member: str) -> Hashable:
    """A digest of a picture's content; for an unreadable picture its name, which equals no other."""
    try:
        picture = source.picture(member)
    except DataError:
        return member
    if isinstance(picture, np.ndarray):
        return picture.shape, hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
    return hashlib.blake2b(picture, digest_size=16).digest()
