"""A prepared table on disk: a folder with one array of all rows, group after group, and a manifest.

A row holds the inputs as a network reads them, and then the standardised targets. A group is a class or a task.

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
    """The manifest of a prepared table. The rows of group g stand behind those of the groups before it.

    `counts[g]` has one number, the rows of group g; for kind "labelled" (tasks that share their classes) it has the
    rows of each class, which then stand in this order. `parts` names the groups of each part. `settings` are those that
    change the bytes; `source` describes where the rows came from. `sha256` and `bytes` belong to rows.npy, `checksum`
    (SHA-256) to all other fields.
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
        """The number of rows N."""
        return sum(map(sum, self.counts))

    def sealed(self) -> "TableManifest":
        """The same manifest with its `checksum` filled in."""
        return self.model_copy(update={"checksum": self.summed()})

    def summed(self) -> str:
        """The SHA-256 of all fields but `checksum`."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


class FloatRows(Rows):
    """The rows of an open .npy file of float32 [N, V]."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, np.float32)

    def floats(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows with these `numbers` [n], as float32 [n, V]. Raises DataError as `taken` does."""
        return self.taken(numbers).view(np.float32)

    def all_floats(self) -> NDArray[np.float32]:
        """All rows, float32 [N, V], in memory. Raises DataError as `taken` does."""
        content = np.empty(self.nbytes, np.uint8)  # bytes, as files are read; below they are seen as float32
        self._read(content, self._start)
        self._require_unchanged()
        return content.view(np.float32).reshape(self.shape)


class Table(NamedTuple):
    """An opened table: its manifest, and its rows, which are read on demand."""

    manifest: TableManifest
    rows: FloatRows


def is_stored(folder: Path) -> bool:
    """Whether a prepared table lies in `folder`. The manifest is written last, so its rows are whole."""
    return (folder / MANIFEST).exists()


def open_table(folder: Path) -> Table:
    """Open the table in `folder` without reading its rows, so in milliseconds for any size.

    Raises DataError if there is no table, if a newer version wrote it, or if its manifest was edited or its rows cut.
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
    # The counts of a group: one for each class in a table of kind "labelled", else one in all.
    width = len(manifest.encoding.classes) if manifest.encoding.kind == "labelled" else 1
    if sorted(named) != sorted(manifest.groups) or len(set(named)) < len(named):
        return "its parts are not its groups"
    if len(manifest.counts) != len(manifest.groups) or any(
        len(rows) != width or min(rows) < 0 for rows in manifest.counts
    ):
        return "its counts are not those of its groups"
    return manifest.encoding.mistake()


def open_checked_table(folder: Path, progress: Callable[[str, int, int], None]) -> Table:
    """Open the table in `folder` and check the SHA-256 of its rows.

    An array of up to 64 MiB is read every time; a larger one only the first time, and after its file has changed.

    Raises DataError as `open_table` and `verify_table` do.
    """
    opened = open_table(folder)
    require_checked(folder / ROWS, opened.rows, opened.manifest.sha256, progress, contents="rows")
    return opened


def verify_table(folder: Path) -> TableManifest:
    """The manifest of the table in `folder`, after a check of every byte of its rows.

    Raises DataError if the SHA-256 differs from the manifest's.
    """
    opened = open_table(folder)
    require_sum(folder / ROWS, opened.rows, opened.manifest.sha256, lambda *_moved: None)
    return opened.manifest
