"""Reads tables stored as arrays: an npz file, or npy files in one folder. The array `x` holds the inputs.

Legend: N rows, C channels, L steps, V values of a row.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import MOST_INPUTS, LengthFit
from metalearn_cli.errors import DataError, reason
from metalearn_cli.storage.inputs.holders import most_unpacked
from metalearn_cli.storage.tabular.blocks import VALUES_AT_ONCE, Block, Numbers, TableReader, printable_words, shown
from metalearn_cli.storage.tabular.resampling import brought_to

_BESIDE = ("label", "task", "target", "split", "lengths")
_MOST_WHOLE = 1 << 32  # bytes; the arrays beside x, which have few numbers for each row, are held in memory
_READ_AT_ONCE = 1 << 26  # bytes
_NUMERIC = "biuf"  # numpy's kinds bool, int, unsigned int and float; complex numbers and dates are refused

Opener = Callable[[], BinaryIO]


class _Stream(NamedTuple):
    """The array x, read from the front: its shape [N, ...], its type, and the file, positioned at the next row."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: BinaryIO

    def taken(self, rows: int, name: str) -> Numbers:
        """The next `rows` rows, [rows, ...], as float64."""
        count = rows * math.prod(self.shape[1:])
        content = _read(self.file, count * self.dtype.itemsize)
        if len(content) < count * self.dtype.itemsize:
            raise DataError(f"{name}: array x is cut short")
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:]).astype(np.float64)


def _read(file: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, or fewer at the end. Python would allocate all that a forged header claims at once."""
    parts = []
    while size > 0 and (part := file.read(min(size, _READ_AT_ONCE))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def npz_members(name: str, file: BinaryIO, stack: ExitStack) -> dict[str, Opener]:
    """A function for each array of an npz file, by name, that opens the array; `stack` closes what was opened.

    Raises DataError if the file is damaged, or would unpack to far more bytes than arrays do (a zip bomb).
    """
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        size = file.seek(0, 2)
        if sum(entry.file_size for entry in archive.infolist()) > most_unpacked(size):
            raise DataError(f"{name}: unpacks to far more than arrays of numbers would")
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{name}: is no npz file, or damaged: {reason(error)}") from error

    for key, entry in entries.items():
        if entry.flag_bits & 1:
            raise DataError(f"{name}: array {shown(key)[1:-1]} is encrypted; save it without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            told = f"is compressed by method {entry.compress_type} of zip; use numpy.savez or numpy.savez_compressed"
            raise DataError(f"{name}: array {shown(key)[1:-1]} {told}")

    def opener(entry: zipfile.ZipInfo) -> Opener:
        return lambda: cast(BinaryIO, stack.enter_context(archive.open(entry)))

    return {key: opener(entry) for key, entry in entries.items()}


def array_reader(name: str, members: Mapping[str, Opener], length: int | None, fit: LengthFit) -> TableReader:
    """The table in the arrays `members`; with a `length`, every series is brought to that many steps.

    `x` is [N, V] or series [N, C, L]. Series of several lengths stand behind one another in an `x` [sum of L, C], with
    their `lengths` [N]. `label`, `task` and `split` are [N], `target` is [N] or [N, targets].

    Raises DataError, which names the array, if a shape or a type does not fit.
    """
    if "x" not in members:
        found = ", ".join(shown(key)[1:-1] for key in sorted(members)[:8]) or "nothing"
        raise DataError(f"{name}: has no array x, the inputs [N, ...]; found {found}")
    beside = {key: _whole(name, key, members[key]) for key in _BESIDE if key in members}
    stream = _opened(name, members["x"])
    lengths = beside.pop("lengths", None)
    rows = stream.shape[0] if lengths is None else lengths.size
    cells = {key: cell for given in beside.items() for key, cell in _cells(name, *given, rows).items()}
    if lengths is None:
        shape, ready = _even(name, stream, length, fit)
        inputs = _in_blocks(name, stream, ready)
    else:
        shape, inputs = _uneven(name, stream, lengths, (length, fit))
    if (inputs_of_row := math.prod(shape)) > MOST_INPUTS:
        raise DataError(f"{name}: array x has {inputs_of_row:,} inputs in a row, expected at most {MOST_INPUTS:,}")
    return TableReader(name, list(cells), lambda: _blocks(name, cells, inputs), shape)


def _opened(name: str, opener: Opener) -> _Stream:
    """The array x, opened after its header; no row is read yet."""
    file, (shape, in_order_of_fortran, dtype) = _after_header(name, "x", opener)
    if dtype.kind not in _NUMERIC or len(shape) < 2 or min(shape) < 1:
        raise DataError(f"{name}: array x is {dtype} {shape}, expected numbers [N, ...]")
    if in_order_of_fortran:  # numpy saves a transposed array column by column; its rows are there only as a whole
        whole = np.ascontiguousarray(_whole(name, "x", opener))
        return _Stream(shape, dtype, io.BytesIO(whole.tobytes()))
    return _Stream(shape, dtype, file)


def _after_header(name: str, key: str, opener: Opener) -> tuple[BinaryIO, tuple[tuple[int, ...], bool, np.dtype[Any]]]:
    """The file of the array `key`, read up to its first row; the array's shape, order and type."""
    try:
        file = opener()
        version = npy.read_magic(file)
    except Exception as error:  # zipfile raises errors of many kinds here
        raise DataError(f"{name}: array {key} cannot be read: {reason(error)}") from error
    try:
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return file, read(file)
    except Exception as error:  # numpy quotes the header in its errors, or names the objects of Python's parser
        raise DataError(f"{name}: array {key} cannot be read: its header is none that numpy writes") from error


def _whole(name: str, key: str, opener: Opener) -> NDArray[Any]:
    """The array `key`, read into memory."""
    # The header is read first: numpy would allocate whatever size a forged one names.
    file, (shape, _, dtype) = _after_header(name, key, opener)
    file.close()
    if dtype.hasobject:
        raise DataError(f"{name}: array {key} holds Python objects, expected numbers or text")
    if (size := math.prod(shape) * dtype.itemsize) > _MOST_WHOLE:
        raise DataError(
            f"{name}: array {key} has shape {shape}, {size >> 20:,} MB, expected few values for each row of x"
        )
    try:
        with opener() as file:
            return npy.read_array(file, allow_pickle=False)
    except Exception as error:
        raise DataError(f"{name}: array {key} cannot be read: {reason(error)}") from error


def _cells(name: str, key: str, values: NDArray[Any], rows: int) -> dict[str, NDArray[Any]]:
    """The array `key` as columns [N]: one, or for `target` [N, targets] one for each target."""
    wide = key == "target" and values.ndim == 2
    if not (wide or values.ndim == 1) or len(values) != rows:
        raise DataError(f"{name}: array {key} has shape {values.shape}, expected [{rows}], one value for each of x")
    if key == "target" and values.dtype.kind not in _NUMERIC:
        raise DataError(f"{name}: array target is {values.dtype}, expected numbers")
    return {f"target[{place}]": values[:, place] for place in range(values.shape[1])} if wide else {key: values}


def _even(
    name: str, stream: _Stream, length: int | None, fit: LengthFit
) -> tuple[tuple[int, ...], Callable[[Numbers], Numbers]]:
    """For inputs of one shape: the shape of a row, and a function that brings rows [n, ...] to it."""
    shape = stream.shape[1:]
    if length is None or len(shape) != 2:
        if length is not None:
            raise DataError(f"{name}: array x has shape {stream.shape}; dataset.length is for series [N, C, L]")
        return shape, lambda values: values
    channels = shape[0]
    return (channels, length), lambda values: np.stack([brought_to(series, length, fit) for series in values])


def _in_blocks(name: str, stream: _Stream, ready: Callable[[Numbers], Numbers]) -> Iterator[Numbers]:
    most = max(1, VALUES_AT_ONCE // math.prod(stream.shape[1:]))
    for start in range(0, stream.shape[0], most):
        yield ready(stream.taken(min(most, stream.shape[0] - start), name))


def _uneven(
    name: str, stream: _Stream, lengths: NDArray[Any], wanted: tuple[int | None, LengthFit]
) -> tuple[tuple[int, ...], Iterator[Numbers]]:
    """For series of several lengths: the shape of a row [C, L], and blocks of rows [n, C, L]."""
    length, fit = wanted
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or len(lengths) == 0 or int(lengths.min()) < 1:
        raise DataError(
            f"{name}: array lengths is {lengths.dtype} {lengths.shape}, expected whole numbers of 1 or more"
        )
    steps_in_all = sum(lengths.tolist())  # in Python's integers: those of numpy could overflow to the right sum
    if len(stream.shape) != 2 or steps_in_all != stream.shape[0]:
        told = f"array x has shape {stream.shape}, expected [{steps_in_all}, channels], as lengths says"
        raise DataError(f"{name}: {told}")
    if length is None:
        if len(set(lengths.tolist())) > 1:
            spread = f"{int(lengths.min())} to {int(lengths.max())} steps"
            raise DataError(f"{name}: its series have {spread}; give dataset.length, to which all are brought")
        length = int(lengths[0])
    channels, steps = stream.shape[1], length
    most = max(1, VALUES_AT_ONCE // (channels * steps))

    def blocks() -> Iterator[Numbers]:
        for start in range(0, len(lengths), most):
            batch = [stream.taken(int(own), name).T for own in lengths[start : start + most]]  # [L, C] turned to [C, L]
            yield np.stack([brought_to(series, steps, fit) for series in batch])

    return (channels, steps), blocks()


def _blocks(name: str, cells: Mapping[str, NDArray[Any]], inputs: Iterator[Numbers]) -> Iterator[Block]:
    start = 0
    for values in inputs:
        yield _block(name, {key: cell[start : start + len(values)] for key, cell in cells.items()}, values, start)
        start += len(values)


def _block(name: str, cells: Mapping[str, NDArray[Any]], values: Numbers, start: int) -> Block:
    def place(row: int) -> str:
        return f"{name}, row {start + row}"

    def words(wanted: str) -> Sequence[str]:
        values = cells[wanted]
        try:
            found = values.astype(str).tolist()
        except Exception as error:  # bytes that are not ASCII, or numpy's SystemError for a number that is no character
            told = f"array {wanted} holds text that cannot be read: {reason(error)}"
            raise DataError(f"{name}: {told}; save it as Unicode") from error
        if values.dtype.kind == "f":  # NaN is an empty cell, and no name
            found = ["" if empty else word for word, empty in zip(found, np.isnan(values).tolist(), strict=True)]
        return printable_words(found, wanted, place)

    def numbers(wanted: str) -> Numbers:
        return cells[wanted].astype(np.float64)

    return Block(len(values), place, words, numbers, values.reshape(len(values), -1))
