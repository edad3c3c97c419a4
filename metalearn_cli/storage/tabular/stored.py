"""A prepared table: one folder with one array of all rows, group after group, and a manifest.

A row holds its inputs as a network sees them, and then its targets, standardised. Groups are classes or tasks.

Legend: N rows, V values of a row, G groups.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from metalearn_cli.datasets import PARTS, Part
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission
from metalearn_cli.settings import Settings
from metalearn_cli.storage.prepared.checking import AGAIN, manifest_fields, opened_rows, require_checked, require_sum
from metalearn_cli.storage.prepared.rows import Rows

FORMAT = 1
MANIFEST, ROWS = "table.json", "rows.npy"


class TableManifest(Settings):
    """What a prepared table holds. Group g starts after the rows of the groups before it.

    `counts` are the rows of each group; where classes are the same in every task, those of each class in it, one after
    the other. `parts` are the groups' names by part. `settings` are what the bytes depend on, `source` says where the
    rows came from; `sha256` and `bytes` are those of rows.npy. `checksum` is that of all these.
    """

    format: int
    kind: str = "table"
    dataset: str
    groups: list[str]
    counts: list[list[int]]
    parts: dict[Part, list[str]]
    encoding: Encoding
    settings: dict[str, Any]
    source: str
    sha256: str
    bytes: int
    made_by: str
    left_out: list[Omission] = Field(default=[])
    remarks: list[str] = Field(default=[])
    checksum: str = ""

    @property
    def rows(self) -> int:
        """N."""
        return sum(map(sum, self.counts))

    def sealed(self) -> "TableManifest":
        """The same with the checksum of all the rest."""
        return self.model_copy(update={"checksum": self.summed()})

    def summed(self) -> str:
        """The checksum that it should have."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


class FloatRows(Rows):
    """The rows of a .npy file of float32, [N, V], held open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, np.float32)

    def floats(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of these numbers [n]: [n, V]. Raises DataError as `taken` does."""
        return self.taken(numbers).view(np.float32)

    def all_floats(self) -> NDArray[np.float32]:
        """All rows. Raises DataError as `taken` does."""
        found = np.empty(self.nbytes, np.uint8)
        self._read(found, self._start)
        self._require_unchanged()
        return found.view(np.float32).reshape(self.shape)


class Table(NamedTuple):
    """An opened table: its manifest and its rows, read on demand."""

    manifest: TableManifest
    rows: FloatRows


def is_stored(folder: Path) -> bool:
    """Whether a prepared table lies there."""
    return (folder / MANIFEST).exists()


def open_table(folder: Path) -> Table:
    """The table in `folder`, in milliseconds whatever its size.

    Raises DataError if there is none, if it is of a newer format, or if it was edited or cut.
    """
    path = folder / MANIFEST
    fields = manifest_fields(path, "table", FORMAT)
    try:
        manifest = TableManifest.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path}: {where} was edited or cut; {AGAIN}") from None
    if mistake := _mistake(manifest):
        raise DataError(f"{path}: {mistake}; {AGAIN}")
    shape = (manifest.rows, manifest.encoding.values)
    return Table(manifest, opened_rows(FloatRows, folder / ROWS, shape, manifest.bytes))


def _mistake(manifest: TableManifest) -> str:
    if manifest.checksum != manifest.summed():
        return "was edited"
    named = [name for part in PARTS for name in manifest.parts.get(part, ())]
    width = len(manifest.encoding.classes) if manifest.encoding.kind == "labelled" else 1
    if sorted(named) != sorted(manifest.groups) or len(set(named)) < len(named):
        return "its parts are not its groups"
    if len(manifest.counts) != len(manifest.groups) or any(
        len(one) != width or min(one) < 0 for one in manifest.counts
    ):
        return "its counts are not those of its groups"
    return manifest.encoding.mistake()


def open_checked_table(folder: Path, progress: Callable[[str, int, int], None]) -> Table:
    """The table in `folder`, to learn from: its rows are as they were written.

    Up to 64 MiB are read each time; a larger array once, and again when its file has changed since.

    Raises DataError as `open_table` and `verify_table` do.
    """
    opened = open_table(folder)
    require_checked(folder / ROWS, opened.rows, opened.manifest.sha256, progress, contents="rows")
    return opened


def verify_table(folder: Path) -> TableManifest:
    """The manifest of `folder`, after reading every byte and finding it as it was written.

    Raises DataError otherwise.
    """
    opened = open_table(folder)
    require_sum(folder / ROWS, opened.rows, opened.manifest.sha256, lambda *_moved: None)
    return opened.manifest
