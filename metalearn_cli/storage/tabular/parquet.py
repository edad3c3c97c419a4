"""Reads tables in parquet files by pyarrow, a batch of rows at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from metalearn_cli.errors import DataError, reason
from metalearn_cli.storage.tabular.blocks import VALUES_AT_ONCE, Block, Numbers, TableReader, column, number_in, shown


def parquet_reader(name: str, file: BinaryIO) -> TableReader:
    """A reader for a parquet file. Raises DataError if the file is damaged or no parquet, or if pyarrow is missing."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{name}: reading parquet needs pyarrow: pip install 'metalearn-cli[parquet]'") from error
    try:
        opened: Any = parquet.ParquetFile(file)
        header = [str(field.name) for field in opened.schema_arrow]
    except Exception as error:  # pyarrow raises its own types and many others for a damaged file
        raise DataError(f"{name}: is no parquet file, or damaged: {reason(error)}") from error
    twice = [word for word in header if header.count(word) > 1] if len(set(header)) < len(header) else []
    if twice or not header:
        raise DataError(f"{name}: {f'{column(twice[0])} is there twice' if twice else 'has no columns'}")
    return TableReader(name, header, lambda: _blocks(name, header, opened))


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
        values = batch.column(wanted).to_pylist()
        for row, value in enumerate(values):
            if value is not None and (not isinstance(value, str | int | float) or not str(value).isprintable()):
                where = f"{place(row)}: {column(wanted)}"
                raise DataError(f"{where}: found {shown(str(value))}, expected text or a number")
        return ["" if value is None else str(value).strip() for value in values]

    def numbers(wanted: str) -> Numbers:
        import pyarrow as arrow

        cells = batch.column(wanted)
        kind = cells.type
        if arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_boolean(kind):
            # Not safe: pyarrow would refuse an int64 beyond 2^53. zero_copy_only=False lets a null become NaN.
            values = np.asarray(cells.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            if not np.isinf(values).any():
                return values
        # A column of text, or one with an infinite value: each cell is read by itself, so that a message has its place.
        checked = (number_in(word, f"{place(row)}: {column(wanted)}") for row, word in enumerate(words(wanted)))
        return np.fromiter(checked, np.float64, batch.num_rows)

    return Block(batch.num_rows, place, words, numbers)
