"""Run what the table lacks, and write its pages: `python -m benchmarks.accuracy`.

One run takes one core; what was interrupted (Ctrl-C, or SIGTERM) goes on where it was. `--list` shows what is missing,
`--only maml-5w1s-0 '*-photos-*'` runs some rows, `--minutes 60` begins no row after that time, `--page` writes the
pages and runs nothing.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from queue import Queue
from threading import Event, Lock

from benchmarks.accuracy import curves_figure, hours_figure
from benchmarks.accuracy.page import PAGE, written
from benchmarks.accuracy.results import results
from benchmarks.accuracy.rows import Row, Table, load
from benchmarks.accuracy.running import UNDER_WAY, run
from benchmarks.accuracy.summary import SUMMARY, summary

_WRITING = Lock()
_STOPPED = Event()


def main() -> int:
    """Run the missing rows, one a core, and write the pages after each; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--list", action="store_true", help="show the rows that have no result")
    parser.add_argument("--page", action="store_true", help="write the pages and run nothing")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone, such as maml-5w1s-0")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="how many runs at once")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after that time")
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="where run folders are kept")
    options = parser.parse_args()
    table = load()
    named = options.only or ["*"]
    if unknown := [pattern for pattern in named if not any(fnmatch(row.name, pattern) for row in table.rows)]:
        parser.error(f"--only: {', '.join(unknown)}: no such row; --list names them")
    missing = [row for row in table.rows if not row.result.exists()]
    chosen = [row for row in missing if any(fnmatch(row.name, pattern) for pattern in named)]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return 0
    if not options.page and any("prepare" in table.domain(row.setting) for row in chosen):
        os.environ.get("METALEARN_TEST_DATA") or parser.error("METALEARN_TEST_DATA: names no folder of photos")
    failed = [] if options.page else _run_all(table, chosen, options)
    _write(table)
    return 1 if failed else 0


def _write(table: Table) -> None:
    """Write ACCURACY.md, docs/results.md and its figures from the result files; one thread at a time."""
    with _WRITING:
        measured = results()
        PAGE.write_text(written(table, measured))
        SUMMARY.write_text(summary(table, measured))
        for figure in (hours_figure, curves_figure):
            figure.FIGURE.write_text(figure.drawn(table, measured))


def _stop(_number: int, _frame: object) -> None:
    """Begin no further row, and let the runs that are under way write a checkpoint and end."""
    _STOPPED.set()
    for process in list(UNDER_WAY):
        process.terminate()


def _run_all(table: Table, rows: list[Row], options: argparse.Namespace) -> list[Row]:
    cores: Queue[int] = Queue()
    for core in sorted(os.sched_getaffinity(0))[: options.cores]:
        cores.put(core)
    begun, failed = time.monotonic(), []

    def one(row: Row) -> None:
        core = cores.get()
        try:
            if time.monotonic() - begun > 60 * options.minutes or _STOPPED.is_set():
                return
            print(f"{row.name}: begun on core {core}", file=sys.stderr)
            result = run(table, row, options.work, core)
            shown = ", ".join(f"{name} {100 * found['accuracy']:.2f} %" for name, found in result["columns"].items())
            print(f"{row.name}: {shown}, {result['core_seconds'] / 3600:.2f} core-hours", file=sys.stderr)
            _write(table)
        except subprocess.CalledProcessError as error:
            failed.append(row)
            print(f"{row.name}: exit code {error.returncode}", file=sys.stderr)
        finally:
            cores.put(core)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    with ThreadPoolExecutor(options.cores) as pool:
        list(pool.map(one, rows))
    return failed


if __name__ == "__main__":
    sys.exit(main())
