"""Tables that are damaged or hostile: each becomes a whole prepared table, or one line, and leaves nothing.

A fault is a csv, a tsv, a parquet file, an npz file or a folder of npy files. A cell, a column, an array, a header or
the whole file is one of those that _table_arrays.py and _table_files.py make, or bits are turned, cut, spliced. It goes
through `prepare_table`, every fifth also through what `finetune` does with --support and --query, and every twentieth
through the command itself. A refusal names the file, or the column. Whatever happens, no code in the file may have run,
and the process may not have grown beyond what honest tables need.
"""

import resource
import shutil
import time
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as arrow
from pyarrow import parquet

from metalearn_cli.datasets import table
from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular.given import rows_given
from metalearn_cli.storage.tabular.preparing import prepare_table
from metalearn_cli.storage.tabular.stored import open_checked_table, verify_table
from tests import tables
from tests.faults import Totals
from tests.faults._damage import damaged
from tests.faults._ledger import Ledger, Lost, command, require_one_plain_line
from tests.faults._table_arrays import Arrays, honest_arrays, hostile_arrays, zipped
from tests.faults._table_files import CELLS, SETTINGS, TEXTS, honest_columns, hostile_parquet

SHORT, LONG = 60, 600
_MOST_GROWTH = 1 << 30
_LONGEST_SECONDS = 60.0


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` tables."""
    ledger = Ledger("tables", seed)
    honest = _honest_encodings(scratch / "honest")
    for number in range(count):
        random, folder, told = ledger.random(), scratch / str(number), list[str]()
        folder.mkdir()
        marker = folder / "ran"
        with ledger.fault(lambda told=told: " + ".join(told)):
            source, settings = _source(random, folder, str(marker), told)
            before, began = _peak(), time.monotonic()
            done = _prepared(source, settings, folder / "data")
            if number % 5 == 0:
                _given(source, honest)
            if number % 20 == 0:
                _commanded(source, settings, folder, done)
            if marker.exists():
                raise Lost("code in the file was run")
            if _peak() - before > _MOST_GROWTH or time.monotonic() - began > _LONGEST_SECONDS:
                raise Lost(f"took {(_peak() - before) >> 20} MB and {time.monotonic() - began:.0f} s")
            ledger.count("prepared" if done else "refused")
        shutil.rmtree(folder)
    return ledger.totals()


def _prepared(source: Path, settings: dict[str, Any], data: Path) -> bool:
    """Whether a table was made of it. Raises Lost for one that does not verify, or for what a refusal leaves."""
    tabular = table.build(table.Config(title="t", **settings))
    try:
        manifest, made = prepare_table("table", tabular, data, source, False, tables.silent)
    except DataError as error:
        _require_named(error, source)
        if left := [path.name for path in data.iterdir() if path.suffix != ".lock"] if data.exists() else []:
            raise Lost(f"refused, and left {left}") from error
        return False
    verify_table(made)
    opened = open_checked_table(made, tables.silent)
    if len(opened.rows.all_floats()) != manifest.rows or not opened.rows.all_floats().size:
        raise Lost(f"has {len(opened.rows.all_floats())} rows, and its manifest says {manifest.rows}")
    return True


def _require_named(error: DataError, source: Path) -> None:
    """Raise Lost unless the message is one line that names the file, the column or the setting."""
    require_one_plain_line(error)
    if "\n" in str(error) or not any(word in str(error) for word in (source.name, "column ", "task '", "class '")):
        raise Lost(f"the message does not say where: {error}")


def _given(source: Path, honest: list[Any]) -> None:
    for encoding in honest:
        try:
            rows_given([source], encoding)
        except DataError as error:
            _require_named(error, source)


def _commanded(source: Path, settings: dict[str, Any], folder: Path, done: bool) -> None:
    words = [f"dataset.{key}={_yaml(value)}" for key, value in {"title": "t", **settings}.items()]
    data = folder / "again"
    data.mkdir()
    ended = command(data, "prepare", "table", "--source", source, *(one for word in words for one in ("--set", word)))
    ended.require_answered()
    if (ended.code == 0) != done:
        raise Lost(f"the command ended with {ended.code}: {ended.err}")


def _yaml(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _honest_encodings(folder: Path) -> list[Any]:
    """What a learner of each kind of table would know of its columns."""
    found = []
    for kind, settings in SETTINGS.items():
        source = tables.written(folder / f"{kind}.csv", honest_columns(kind))
        found.append(tables.prepared(table.Config(title=kind, **settings), folder / "data", source).manifest.encoding)
    return found


def _source(random: Random, folder: Path, marker: str, told: list[str]) -> tuple[Path, dict[str, Any]]:
    """A table in `folder`, and the settings with which it is prepared; `told` then says what is wrong with it."""
    kind = random.choice(sorted(SETTINGS))
    settings = dict(SETTINGS[kind])
    if random.random() < 0.2:
        settings["missing"] = "mean"
    if random.random() < 0.2:
        settings["standardise"] = random.choice(["none", "task"])
    told.append(f"{kind} {settings}")
    form = random.choice((_of_arrays, _of_arrays, _of_parquet, _of_text, _of_cells, _damaged))
    if form is _of_arrays:
        settings = {key: value for key, value in settings.items() if key in ("missing", "standardise")}
        settings |= (
            {"length": random.choice([2, 5, 65_536]), "fit": random.choice(["pad", "resample"])}
            if random.random() < 0.4
            else {}
        )
    return form(random, folder, marker, told, honest_columns(kind)), settings


def _of_arrays(random: Random, folder: Path, marker: str, told: list[str], _columns: dict[str, list[Any]]) -> Path:
    what, made = random.choice(hostile_arrays(random, marker))
    told.append(what)
    return _written_arrays(random, folder, made(), told)


def _written_arrays(random: Random, folder: Path, arrays: Arrays, told: list[str]) -> Path:
    if random.random() < 0.3:
        told.append("npy files")
        for name, content in arrays.items():
            _file(folder / "source" / f"{name.removeprefix('../')}.npy", content)
        return folder / "source"
    return _file(folder / "source.npz", zipped(arrays, random))


def _of_parquet(random: Random, folder: Path, _marker: str, told: list[str], columns: dict[str, list[Any]]) -> Path:
    what, made = random.choice(hostile_parquet(random, columns))
    told.append(f"parquet, {what}")
    return _file(folder / "source.parquet", made())


def _of_text(random: Random, folder: Path, _marker: str, told: list[str], columns: dict[str, list[Any]]) -> Path:
    suffix, what = random.choice([".csv", ".tsv"]), random.choice(sorted(TEXTS))
    told.append(f"{suffix}, {what}")
    plain = tables.written(folder / f"plain{suffix}", columns).read_text().splitlines()
    return _file(folder / f"source{suffix}", TEXTS[what](plain))


def _of_cells(random: Random, folder: Path, _marker: str, told: list[str], columns: dict[str, list[Any]]) -> Path:
    """One to three cells, or names of columns, are strange."""
    for _change in range(random.choice([1, 1, 3])):
        name, cell = random.choice(sorted(columns)), random.choice(CELLS)
        told.append(f"{cell!r:.40} in {name}")
        if random.random() < 0.15:
            columns = {(cell if other == name else other): cells for other, cells in columns.items()}
        else:
            columns[name][random.randrange(len(columns[name]))] = cell
    return tables.written(folder / f"source{random.choice(['.csv', '.tsv'])}", columns)


def _damaged(random: Random, folder: Path, _marker: str, told: list[str], columns: dict[str, list[Any]]) -> Path:
    """An honest file with damage, sometimes under another suffix, or in a zip."""
    suffix = random.choice([".csv", ".tsv", ".parquet", ".npz"])
    path = folder / f"plain{suffix}"
    if suffix == ".npz":
        path.write_bytes(zipped(honest_arrays(random), random))
    elif suffix == ".parquet":
        parquet.write_table(arrow.table(columns), path)
    else:
        tables.written(path, columns)
    content = damaged(random, path.read_bytes(), told)
    suffix = random.choice((suffix, suffix, suffix, ".csv", ".parquet", ".npz", ".zip", ".gz"))
    told.append(f"as {suffix}")
    return _file(folder / f"source{suffix}", content)


def _file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
