"""Reads tables in parquet files by pyarrow, a batch of rows at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from metalearn_cli.errors import DataError, reason
from metalearn_cli.storage.inputs.holders import most_unpacked
from metalearn_cli.storage.tabular.blocks import (
    LONGEST_WORD,
    VALUES_AT_ONCE,
    Block,
    Numbers,
    TableReader,
    column,
    number_in,
    printable_words,
    require_names,
    too_long,
)


def parquet_reader(name: str, file: BinaryIO) -> TableReader:
    """A reader for a parquet file. Raises DataError if the file is damaged or no parquet, or if pyarrow is missing."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{name}: reading parquet needs pyarrow: pip install 'metalearn-cli[parquet]'") from error
    try:
        first: Any = parquet.ParquetFile(file)
        # A column of text whose values repeat stays a dictionary, so that a small file cannot fill the memory.
        texts = [field.name for field in first.schema_arrow if _is_text(field.type)]
        opened: Any = parquet.ParquetFile(file, metadata=first.metadata, read_dictionary=texts)
        header = [str(field.name) for field in opened.schema_arrow]
    except Exception as error:  # pyarrow raises its own types and many others for a damaged file
        raise DataError(f"{name}: is no parquet file, or damaged: {reason(error)}") from error
    _require_modest(name, opened.metadata, file.seek(0, 2))
    require_names(name, header)
    if not header:
        raise DataError(f"{name}: has no columns")
    return TableReader(name, header, lambda: _blocks(name, header, opened))


def _require_modest(name: str, metadata: Any, size: int) -> None:
    """Raise DataError if a file of `size` bytes would unpack to far more than tables do."""
    groups = range(metadata.num_row_groups)
    unpacked = max(
        8 * metadata.num_rows * metadata.num_columns, sum(metadata.row_group(one).total_byte_size for one in groups)
    )
    if unpacked > most_unpacked(size):
        told = f"{metadata.num_rows:,} rows of {metadata.num_columns:,} columns, {unpacked >> 20:,} MB"
        raise DataError(f"{name}: unpacks to {told}, far more than tables of its size")


def _blocks(name: str, header: Sequence[str], opened: Any) -> Iterator[Block]:
    start = 0
    batches = opened.iter_batches(batch_size=max(1, VALUES_AT_ONCE // len(header)))
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:
            raise DataError(f"{name}: is damaged after row {start}: {reason(error)}") from error
        if batch is None:
            return
        yield _block(name, batch, start)
        start += batch.num_rows


def _block(name: str, batch: Any, start: int) -> Block:
    def place(row: int) -> str:
        return f"{name}, row {start + row + 1}"

    def words(wanted: str) -> Sequence[str]:
        cells = _decoded(name, wanted, batch.column(wanted))
        values = ["" if value is None or value != value else str(value) for value in cells.to_pylist()]  # NaN is empty
        return printable_words(values, wanted, place)

    def numbers(wanted: str) -> Numbers:
        import pyarrow as arrow

        cells = _decoded(name, wanted, batch.column(wanted))
        if not _is_text(cells.type):
            # Not safe: pyarrow would refuse an int64 beyond 2^53. zero_copy_only=False lets a null become NaN.
            values = np.asarray(cells.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            if not np.isinf(values).any():
                return values
        # A column of text, or one with an infinite value: each cell is read by itself, so that a message has its place.
        checked = (number_in(word, f"{place(row)}: {column(wanted)}") for row, word in enumerate(words(wanted)))
        return np.fromiter(checked, np.float64, batch.num_rows)

    return Block(batch.num_rows, place, words, numbers)


def _decoded(name: str, wanted: str, cells: Any) -> Any:
    """The cells of a column of text, numbers or truths, those of a dictionary in its place.

    Raises DataError for a column of another type, and for a text that is too long.
    """
    from pyarrow import compute, types

    values = cells.dictionary if types.is_dictionary(cells.type) else cells
    kind = values.type
    if _is_text(kind):
        if (longest := compute.max(compute.utf8_length(values)).as_py() or 0) > LONGEST_WORD:
            found = values.filter(compute.equal(compute.utf8_length(values), longest))[0].as_py()
            raise DataError(f"{name}: {column(wanted)}: {too_long(found)}")
    elif not any(
        fits(kind) for fits in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    ):
        told = f"is {str(kind)[:100]}, expected text or numbers; cast it, or leave it out of dataset.inputs"
        raise DataError(f"{name}: {column(wanted)} {told}")
    return cells.dictionary_decode() if types.is_dictionary(cells.type) else cells


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
