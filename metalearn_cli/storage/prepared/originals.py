"""Reads the original pictures of a prepared dataset again, in another size.

A prepared folder has a file that records the source and the members of each class. It is no part of the dataset: if the
source is gone or has changed, the stored pictures are used.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Archive, Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.settings import Settings
from metalearn_cli.storage.files.atomic import write_file
from metalearn_cli.storage.files.reading import content_of
from metalearn_cli.storage.inputs.sources import OpenedSource, open_source
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared.dataset import Prepared

_NAME = ".source.json"
_FAR = 8.0
"""The largest mean difference of pixels (0 to 255) between equal pictures; decoders differ by less than 1."""


class _Remembered(Settings):
    """The source's path, its fingerprint, and the members of each class in the order of the stored pictures."""

    path: str
    fingerprint: str
    members: dict[str, list[str]]


class Originals(NamedTuple):
    """The opened source of stored pictures, and its members in their order, including the damaged ones."""

    source: OpenedSource
    members: Sequence[str]
    prepared: Prepared
    cut_bottom: int

    def stored(self) -> list[str]:
        """The member of each stored picture: all but the damaged ones, whose lines in the manifest name them first."""
        damaged = self.prepared.manifest.damaged
        return [member for member in self.members if not any(line.startswith(f"{member}: ") for line in damaged)]

    def read(self, member: str, number: int, seen: Preprocessing) -> NDArray[np.uint8]:
        """The original of the stored picture `number`, preprocessed as `seen`: uint8 [H, W, C].

        Raises DataError if `member` cannot be read, or is another picture than the stored one.
        """
        content = self.source.picture(member)
        stored = self.prepared.images.picture(number).astype(np.float32)
        again = decode(content, self.prepared.manifest.preprocessing, member, self.cut_bottom)
        if np.abs(again - stored).mean() > _FAR:
            raise DataError(
                f"{member}: is another picture than the one that was prepared; prepare the dataset again with --force"
            )
        return decode(content, seen, member, self.cut_bottom)


def remember(folder: Path, path: Path, source: OpenedSource, classes: Mapping[str, Sequence[str]]) -> None:
    """Record in the prepared `folder` the source at `path`, and the members that each class came from.

    Raises RunError if the disk refuses.
    """
    members = {name: list(listed) for name, listed in classes.items()}
    found = _Remembered(path=str(path.resolve()), fingerprint=source.fingerprint, members=members)
    write_file(folder / _NAME, found.model_dump_json().encode())


@contextmanager
def originals(folder: Path, prepared: Prepared, dataset: object) -> Iterator[Originals | str]:
    """The originals of the pictures in `folder`, or a text with the reason why they cannot be read."""
    if not isinstance(dataset, Archive):
        yield "they are drawn in that size"
        return
    try:
        found = _Remembered.model_validate_json(json.dumps(json.loads(content_of(folder / _NAME))))
    except (OSError, ValueError, RecursionError):
        yield "where the originals are was not recorded; prepare --force with --source records it"
        return
    members = [member for entry in prepared.manifest.classes for member in found.members.get(entry.name, ())]
    skipped = len(prepared.manifest.damaged)
    if len(members) != prepared.images.shape[0] + skipped:
        yield "the record of the originals is of other pictures"
        return
    path = Path(found.path)
    if not path.exists():
        yield f"the originals are no longer at {path}"
        return
    with open_source(path, dataset.wants, folder.parent) as source:
        if source.fingerprint != found.fingerprint:
            yield f"the originals at {path} have changed since"
        else:
            yield Originals(source, members, prepared, dataset.cut_bottom)
