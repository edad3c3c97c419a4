"""Tables as text and parquet: honest ones, and what a broken program or a person who means harm would write."""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np

from tests import tables

Made = Callable[[], Any]
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "classes": {},
    "labelled": {"task": "person", "label": "activity"},
    "regression": {"task": "machine", "target": ["force"]},
}


def honest_columns(kind: str) -> dict[str, list[Any]]:
    """The columns of a small table of a kind."""
    return {"classes": tables.kinds, "labelled": tables.people, "regression": tables.machines}[kind](6, 8)


def hostile_parquet(random: Random, columns: Mapping[str, list[Any]]) -> list[tuple[str, Made]]:
    """(what is wrong, parquet file) of tables whose last column, or a name, is not what a table of numbers has."""
    import pyarrow as pa
    from pyarrow import parquet

    rows, last = len(next(iter(columns.values()))), list(columns)[random.randrange(len(columns))]
    day = datetime(2024, 5, 17, 12, tzinfo=UTC)
    kinds: dict[str, Made] = {
        "lists": lambda: pa.array([[1.0, 2.0]] * rows),
        "structs": lambda: pa.array([{"a": 1, "b": [2]}] * rows),
        "maps": lambda: pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        "fixed lists": lambda: pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
        "timestamps": lambda: pa.array([day] * rows),
        "nanoseconds": lambda: pa.array([2**62] * rows, pa.timestamp("ns")),
        "dates": lambda: pa.array([date(2024, 5, 17)] * rows),
        "times": lambda: pa.array([time(1, 2, 3)] * rows),
        "durations": lambda: pa.array([timedelta(days=9)] * rows),
        "decimals": lambda: pa.array([Decimal("1.25")] * rows),
        "wide decimals": lambda: pa.array([Decimal(10) ** 60] * rows, pa.decimal256(70, 0)),
        "nulls": lambda: pa.nulls(rows),
        "null numbers": lambda: pa.array([None] * rows, pa.float64()),
        "some nulls": lambda: pa.array([None, 1.0] * (rows // 2)),
        "NaN": lambda: pa.array([float("nan")] * rows),
        "an infinity": lambda: pa.array([float("inf"), 1.0] * (rows // 2)),
        "1e300": lambda: pa.array([1e300] * rows),
        "words in a dictionary": lambda: pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
        "numbers in a dictionary": lambda: pa.array([1.5, 2.5] * (rows // 2)).dictionary_encode(),
        "nulls in a dictionary": lambda: pa.array([None, "b"] * (rows // 2)).dictionary_encode(),
        "bytes": lambda: pa.array([b"\xff\x00"] * rows),
        "large text": lambda: pa.array(["a", "b"] * (rows // 2), pa.large_string()),
        "fixed bytes": lambda: pa.array([b"ab"] * rows, pa.binary(2)),
        "escapes": lambda: pa.array(["\x1b[31m", "a\nb"] * (rows // 2)),
        "long text": lambda: pa.array(["a" * 1_000_000] * rows),
        "half floats": lambda: pa.array(np.ones(rows, np.float16)),
        "uint64": lambda: pa.array([2**64 - 1] * rows, pa.uint64()),
        "truths": lambda: pa.array([True, False] * (rows // 2)),
        "text of numbers": lambda: pa.array(["1.5", "2"] * (rows // 2)),
        "empty text": lambda: pa.array(["", " "] * (rows // 2)),
        "views": lambda: pa.array(["a", "b"] * (rows // 2)).cast(pa.string_view()),
    }
    plain = {name: pa.array(values) for name, values in columns.items()}

    def written(table: Any, **how: Any) -> bytes:
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, **how)
        return buffer.getvalue()

    def groups(sizes: list[int]) -> bytes:
        buffer, table = io.BytesIO(), pa.table(plain)
        with parquet.ParquetWriter(buffer, table.schema) as writer:
            for size in sizes:
                writer.write_table(table.slice(0, size))
        return buffer.getvalue()

    named = {"twice": last, "empty": "", "escapes": "\x1b[31m", "long": "a" * 100_000, "dotted": f"{last}.{last}"}
    return [
        *(
            (f"{last}: {what}", lambda made=made: written(pa.table({**plain, last: made()})))
            for what, made in kinds.items()
        ),
        *(
            (f"extra column: {what}", lambda made=made: written(pa.table({**plain, "more": made()})))
            for what, made in kinds.items()
        ),
        *(
            (
                f"a name: {what}",
                lambda name=name: written(pa.Table.from_arrays([*plain.values(), plain[last]], [*plain, name])),
            )
            for what, name in named.items()
        ),
        ("groups of no rows", lambda: groups([0, rows, 0, 0])),
        ("no rows", lambda: groups([0])),
        ("no groups", lambda: groups([])),
        ("no columns", lambda: written(pa.table({}))),
        ("many columns", lambda: written(pa.table({f"c{number}": [1.0] for number in range(3000)}))),
        ("huge metadata", lambda: written(pa.table(plain).replace_schema_metadata({"a": "b" * (20 << 20)}))),
        (
            "a constant of 2^32 values",
            lambda: written(
                pa.table({name: pa.repeat(pa.scalar(values[0]), 1 << 22) for name, values in columns.items()})
            ),
        ),
        ("pandas metadata", lambda: written(pa.table(plain).replace_schema_metadata({"pandas": "{not json"}))),
        ("nested twice", lambda: written(pa.table({**plain, "more": pa.array([[[[1.0]]]] * rows)}))),
        ("brotli", lambda: written(pa.table(plain), compression="brotli")),
        ("old pages", lambda: written(pa.table(plain), version="1.0", data_page_version="1.0")),
    ]


TEXTS: Mapping[str, Callable[[list[str]], bytes]] = {
    "empty": lambda _lines: b"",
    "NUL": lambda lines: "\0".join(lines).encode(),
    "UTF-16": lambda lines: "\n".join(lines).encode("utf-16"),
    "latin-1": lambda lines: "\n".join([*lines, lines[-1].replace(lines[-1][0], "\u00e9", 1)]).encode("latin-1"),
    "a mark twice": lambda lines: b"\xef\xbb\xbf" * 2 + "\n".join(lines).encode(),
    "an open quote": lambda lines: "\n".join([*lines[:9], '"' + lines[9], *lines[10:]]).encode(),
    "quotes inside": lambda lines: "\n".join([*lines[:9], 'a"b' + lines[9], *lines[10:]]).encode(),
    "old Mac lines": lambda lines: "\r".join(lines).encode(),
    "mixed lines": lambda lines: ("\r\n".join(lines[:9]) + "\n" + "\r".join(lines[9:])).encode(),
    "ragged": lambda lines: "\n".join([*lines[:9], lines[9] + ",1", *lines[10:]]).encode(),
    "a short row": lambda lines: "\n".join([*lines[:9], "a", *lines[10:]]).encode(),
    "blank rows": lambda lines: "\n\n \n".join(lines).encode(),
    "header alone": lambda lines: lines[0].encode(),
    "a header twice": lambda lines: "\n".join([lines[0], *lines]).encode(),
    "no header": lambda lines: "\n".join(lines[1:]).encode(),
    "a long line": lambda lines: "\n".join([*lines[:9], "9" * (5 << 20)]).encode(),
    "gzip": lambda _lines: b"\x1f\x8b\x08" + bytes(90),
    "a page": lambda _lines: b"<!DOCTYPE html><html>",
    "a name twice": lambda lines: "\n".join(line + "," + line for line in lines).encode(),
    "many columns": lambda _lines: (",".join(f"c{n}" for n in range(90_000)) + "\n").encode(),
    "a workbook": lambda _lines: b"PK\x03\x04" + bytes(300),
    "escapes": lambda lines: "\n".join([*lines[:9], "\x1b[31m" + lines[9]]).encode(),
    "unclosed last line": lambda lines: ("\n".join(lines) + "\n,").encode(),
}
CELLS = (
    "",
    " ",
    "nan",
    "NaN(1)",
    "inf",
    "-Infinity",
    "1e400",
    "1e-400",
    "1_000",
    "0x10",
    "1,5",
    "1.5.2",
    "--1",
    "1e",
    "\u0663",
    "\uff11",
    "=1+1",
    "@a",
    "12%",
    "1 000",
    "true",
    "None",
    "\u2212" + "1",
    "9" * 400,
    "a" * 5000,
    "\x07",
    "\u202e",
    "\ufeff1",
    "1\u00a0",
    "\u00bd",
    '""',
    "'1'",
    "2024-05-17",
    "1e308",
)
