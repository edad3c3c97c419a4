"""How fast `metalearn prepare table` turns a large csv into a prepared table, beside those who only read it."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.rows import RESULTS

RESULT = RESULTS / "preparing.json"
_ROWS, _NUMBERS, _TASKS = 1_000_000, 48, 2000
_READERS = {
    "pyarrow": "from pyarrow import csv; csv.read_csv({path!r}, csv.ReadOptions(use_threads=False))",
    "pandas": "import pandas; pandas.read_csv({path!r})",
    "pandas with pyarrow": "import pandas; pandas.read_csv({path!r}, engine='pyarrow')",
}
_OPENING = """
import time, pathlib
from metalearn_cli.storage.tabular.stored import open_table
seconds = []
for _ in range(20):
    began = time.perf_counter()
    open_table(pathlib.Path({path!r}))
    seconds.append(time.perf_counter() - began)
print(min(seconds))
"""


def measure(work: Path) -> dict[str, Any]:
    """Make the csv, prepare it and read it, each in a process of its own; the result file says what they took."""
    source, data = work / "million.csv", work / "million"
    if not source.exists():
        _write_csv(source)
    settings = ["--set", "dataset.title=million", "--set", "dataset.task=machine", "--data-dir", str(data), "--force"]
    prepare = ["-m", "metalearn_cli", "prepare", "table", "--source", str(source), *settings, "--quiet"]
    found = {"metalearn prepare table": _spent(prepare)}
    for name, script in _READERS.items():
        spent = _spent(["-c", script.format(path=str(source))])
        if spent is not None:
            found[name] = spent
    folder = data / "table-million"
    opening = [sys.executable, "-c", _OPENING.format(path=str(folder))]
    opened = float(subprocess.run(opening, capture_output=True, text=True, check=True).stdout)
    result = {
        "rows": _ROWS, "columns": _NUMBERS + 2, "csv_bytes": source.stat().st_size,
        "array_bytes": (folder / "rows.npy").stat().st_size, "opened_seconds": round(opened, 5), "processes": found,
        "python": platform.python_version(), "busy": os.getloadavg()[0],
    }  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return result


def found() -> dict[str, Any] | None:
    """What was measured; None if it was not."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else None


def _write_csv(path: Path) -> None:
    """One column of names and 49 of numbers of five decimals, written by pyarrow; the last is the target."""
    import pyarrow as arrow
    from pyarrow import csv

    generator, at_once = np.random.default_rng(0), 10_000
    names = np.sort(generator.integers(0, _TASKS, _ROWS))
    header = ["machine", *(f"c{number}" for number in range(_NUMBERS)), "target"]
    kinds = [arrow.string(), *[arrow.float64()] * (_NUMBERS + 1)]
    with csv.CSVWriter(path, arrow.schema(list(zip(header, kinds, strict=True)))) as file:
        for start in range(0, _ROWS, at_once):
            columns = [*generator.normal(size=(_NUMBERS + 1, at_once)).round(5)]
            machines = [f"m{name}" for name in names[start : start + at_once]]
            file.write_table(arrow.table(dict(zip(header, [machines, *columns], strict=True))))


def _spent(arguments: list[str]) -> dict[str, float] | None:
    """Processor seconds and peak memory of a Python process; None where it fails, as without its library."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        return None
    return {
        "core_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
    }
