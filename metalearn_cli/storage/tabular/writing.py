"""Writes gathered rows as a prepared table: first the moments of the training part, then each row at its place.

Legend: N rows, n rows of a block, P targets, C channels, L steps, K columns, G groups. A bin is a group, or for kind
"labelled" one class of a group.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import Encoding, Tabular
from metalearn_cli.datasets.tabular.dividing import Parts, divided
from metalearn_cli.datasets.tabular.encoding import encoded, encoded_targets
from metalearn_cli.errors import DataError, some_of
from metalearn_cli.omissions import Omission
from metalearn_cli.storage.files.atomic import disk_errors, put_in_place, remove_folder, write_file
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared.checking import sha256_of
from metalearn_cli.storage.tabular.blocks import Numbers
from metalearn_cli.storage.tabular.gathering import Gathered
from metalearn_cli.storage.tabular.stored import FORMAT, MANIFEST, ROWS, TableManifest
from metalearn_cli.version import own_version

_LEAST_SPREAD = 1e-9  # of the mean; rounding errors of float64 sums stay far below it


class TableOrigin(NamedTuple):
    """The origin of the rows, for the manifest; `files` is the name for messages."""

    files: str
    dataset: str
    source: str
    left_out: Sequence[Omission]


class _Moments(NamedTuple):
    """Mean and standard deviation of columns [K]."""

    mean: Numbers
    std: Numbers


def write_table(
    folder: Path, tabular: Tabular, found: Gathered, origin: TableOrigin, progress: Progress
) -> TableManifest:
    """Write the gathered rows as a prepared table in `folder`, which gets its name only when it is whole.

    Raises DataError if the groups cannot be divided into three parts, RunError if the disk refuses; then nothing of the
    new table stays on the disk.
    """
    kind = "task" if found.layout.task else "class"
    parts = divided(found.groups, found.part_of, tabular.division, kind, where=origin.files)
    aside = folder.with_name(f".{folder.name}.unfinished")
    try:
        with disk_errors(folder):
            remove_folder(aside)
            aside.mkdir(parents=True)
        manifest = _written(aside, tabular, found, (parts, origin), progress)
        put_in_place(aside, folder)
    except BaseException:
        with suppress(OSError):
            remove_folder(aside)
        raise
    return manifest


def _written(
    aside: Path, tabular: Tabular, found: Gathered, named: tuple[Parts, TableOrigin], progress: Progress
) -> TableManifest:
    # Groups are sorted by name, so that the same rows in another order of files give the same order of groups.
    (parts, origin), order = named, sorted(range(len(found.groups)), key=found.groups.__getitem__)
    encoding, remarks = _encoding(tabular, found, set(parts["train"]))
    bins, counts = _bins(found, order)
    with disk_errors(aside), (aside / ROWS).open("w+b") as file:
        _scatter(file, found, encoding, (bins, counts), progress)
        file.flush()
        os.fsync(file.fileno())  # before the manifest: after a power loss no manifest describes rows that are missing
    with disk_errors(aside):
        manifest = TableManifest(
            format=FORMAT,
            dataset=origin.dataset,
            groups=[found.groups[place] for place in order],
            counts=counts.tolist(),
            parts=parts,
            encoding=encoding,
            settings=dict(tabular.settings),
            source=origin.source,
            sha256=sha256_of(aside / ROWS),
            bytes=(aside / ROWS).stat().st_size,
            made_by=f"metalearn {own_version()}",
            left_out=list(origin.left_out),
            remarks=remarks,
        ).sealed()
        write_file(aside / MANIFEST, manifest.model_dump_json().encode())
    return manifest


def _encoding(tabular: Tabular, found: Gathered, trained_on: set[str]) -> tuple[Encoding, list[str]]:
    """The encoding, from the moments and words of the training part alone (others would leak), and remarks on it."""
    layout, series = found.layout, found.shape is not None and len(found.shape) > 1
    in_training = np.array([name in trained_on for name in found.groups])[found.group_of]
    numbers, targets = len(layout.numeric), len(layout.targets)
    of_inputs, of_targets, trained = _training_moments(found, in_training, series)
    # A column that never changes has std 0; divided by 1 it becomes all zeros, and no division by zero occurs.
    constant = [name for name, std in zip(layout.numeric, of_inputs.std, strict=True) if std == 0]
    std = np.where(of_inputs.std == 0, 1.0, of_inputs.std)
    target_std = np.where(of_targets.std == 0, 1.0, of_targets.std)
    plain = tabular.standardise == "none"
    encoding = Encoding(
        kind=layout.kind, label=layout.label, task=layout.task, numeric=list(layout.numeric),
        mean=[0.0] * numbers if plain else of_inputs.mean.tolist(), std=[1.0] * numbers if plain else std.tolist(),
        fill=of_inputs.mean.tolist(),
        categorical={name: [w for w in words if w in trained[name]] for name, words in sorted_values(found).items()},
        series=list(found.shape) if series and found.shape is not None else None, fit=tabular.roles.fit,
        missing=tabular.roles.missing, standardise=tabular.standardise, classes=sorted(found.classes),
        targets=list(layout.targets), target_mean=[0.0] * targets if plain else of_targets.mean.tolist(),
        target_std=[1.0] * targets if plain else target_std.tolist(),
    )  # fmt: skip
    if mistake := encoding.mistake():
        raise DataError(f"the table cannot be learned from: {mistake}")
    told = f"{some_of(constant, 3)}: the same in all training rows, so nothing is learned from it"
    return encoding, [told] if constant else []


def sorted_values(found: Gathered) -> dict[str, list[str]]:
    """The words of each categorical column, sorted, without the "" of empty cells."""
    return {name: sorted(value for value in values if value) for name, values in found.values.items()}


def _training_moments(
    found: Gathered, in_training: NDArray[np.bool_], series: bool
) -> tuple[_Moments, _Moments, Mapping[str, set[str]]]:
    """Over the training rows: moments of the inputs (by column or channel) and of the targets, and the words used."""
    layout = found.layout
    numbers, targets = len(layout.numeric), len(layout.targets)
    merging = [_Merging(numbers), _Merging(targets)]
    words: dict[str, set[str]] = {name: set() for name in layout.categorical}
    for start, block in found.blocks():
        rows = block[in_training[start : start + len(block)]]
        inputs = rows[:, : found.width - targets]
        # Every step of a series counts as a row of its channels: [n, C * L] -> [n, C, L] -> [n, L, C] -> [n * L, C].
        by_channel = inputs.reshape(len(rows), numbers, -1).swapaxes(1, 2).reshape(-1, numbers) if series else inputs
        merging[0].add(by_channel[:, :numbers])
        merging[1].add(rows[:, found.width - targets :])
        for place, (name, values) in enumerate(found.values.items(), numbers):
            words[name] |= {values[int(code)] for code in np.unique(rows[:, place])}
    return merging[0].moments(), merging[1].moments(), words


class _Merging:
    """Running mean and sum of squared deviations [K] over blocks of rows; NaN is skipped.

    Sets of m and n rows with means a, b and sums A, B have the joint mean a + (b - a) n / (m + n) and the joint sum
    A + B + (b - a)^2 m n / (m + n) (Chan, Golub & LeVeque 1979); a plain sum of squares would lose digits.
    """

    def __init__(self, columns: int) -> None:
        self._count, self._mean, self._squares = np.zeros(columns), np.zeros(columns), np.zeros(columns)

    def add(self, rows: Numbers) -> None:
        """Add rows [n, K]."""
        there = ~np.isnan(rows)
        count = there.sum(0)
        mean = np.where(there, rows, 0.0).sum(0) / np.maximum(count, 1)
        squares = np.square(np.where(there, rows - mean, 0.0)).sum(0)
        total = np.maximum(self._count + count, 1)
        apart = mean - self._mean
        self._squares += squares + np.square(apart) * self._count * count / total
        self._mean = self._mean + apart * count / total
        self._count = self._count + count

    def moments(self) -> _Moments:
        """Mean and standard deviation of all rows added; 0 in place of a deviation that is only rounding error."""
        std = np.sqrt(self._squares / np.maximum(self._count, 1))
        return _Moments(self._mean, np.where(std > _LEAST_SPREAD * np.abs(self._mean), std, 0.0))


def _bins(found: Gathered, order: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bin of each row [N] and the number of rows in each bin [G, classes or 1]; bins are sorted by name."""
    rank = np.empty(len(order), np.int64)
    rank[list(order)] = np.arange(len(order))
    bins = rank[found.group_of]
    width = len(found.classes) if found.layout.kind == "labelled" else 1
    if found.layout.kind == "labelled":
        class_order = sorted(range(width), key=found.classes.__getitem__)
        class_rank = np.empty(width, np.int64)
        class_rank[class_order] = np.arange(width)
        bins = bins * width + class_rank[found.class_of]
    return bins, np.bincount(bins, minlength=len(order) * width).reshape(len(order), width)


def _scatter(
    file: BinaryIO, found: Gathered, encoding: Encoding, placed: tuple[NDArray[np.int64], NDArray[np.int64]],
    progress: Progress,
) -> None:  # fmt: skip
    """Write all rows as one .npy array sorted by bin: each block's rows go to the next free places of their bins.

    This is a counting sort on disk, because the table may be larger than the memory.
    """
    bins, counts = placed
    width, targets = encoding.values, len(encoding.targets)
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (len(bins), width)})
    start = file.tell()
    following = np.concatenate([[0], np.cumsum(counts.ravel())[:-1]])  # the next free row of each bin
    tables = _tables(found, encoding)
    for first, block in found.blocks():
        raw = block[:, : found.width - targets].copy()
        for place, table in enumerate(tables, len(encoding.numeric)):
            raw[:, place] = table[raw[:, place].astype(np.int64)]
        inputs = encoded(raw, encoding).reshape(len(block), -1)
        rows = np.concatenate([inputs, encoded_targets(block[:, found.width - targets :], encoding)], 1)
        _require_finite(rows, encoding)
        own = bins[first : first + len(block)]
        order = np.argsort(own, kind="stable")  # rows of a bin keep their order: the same source, the same bytes
        present, begins = np.unique(own[order], return_index=True)
        for bin_, piece in zip(present, np.split(rows[order], begins[1:]), strict=True):
            file.seek(start + int(following[bin_]) * width * 4)
            file.write(np.ascontiguousarray(piece, "<f4").data)
            following[bin_] += len(piece)
        progress("writing rows", first + len(block), len(bins))


def _require_finite(rows: NDArray[np.float32], encoding: Encoding) -> None:
    """Raise DataError, which names the column, if an encoded value is beyond float32."""
    for place in np.flatnonzero(~np.isfinite(rows).all(0))[:1]:
        inputs = rows.shape[1] - len(encoding.targets)
        steps = inputs // len(encoding.numeric) if encoding.series is not None else 1
        names = [*np.repeat(encoding.numeric, steps).tolist(), *encoding.targets]

        # Categorical inputs have no names here, so a target is counted from the end.
        behind = int(place) if place < inputs else len(names) - rows.shape[1] + int(place)
        cure = "scale it" if encoding.standardise != "none" else "scale it, or --set dataset.standardise=training"
        told = f"has a value that is too large for float32 beside the others; {cure}"
        raise DataError(f"column {names[behind]!r}: {told}")


def _tables(found: Gathered, encoding: Encoding) -> list[NDArray[np.int64]]:
    """For each categorical column, the place of each code's word in the encoding, or behind it for an unknown word."""
    places = {name: {value: place for place, value in enumerate(known)} for name, known in encoding.categorical.items()}
    return [
        np.array([places[name].get(value, len(places[name])) for value in found.values[name]], np.int64)
        for name in encoding.categorical
    ]
