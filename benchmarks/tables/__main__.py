"""Run what the page about tables lacks, and write it: `python -m benchmarks.tables`.

One row after the other, on one thread; what was interrupted goes on where it was. `--list` shows what is missing,
`--only functions-2-maml-0` runs some rows, `--minutes 60` begins no row after that time, `--page` writes TABLES.md
alone, `--preparing` measures how fast a csv of a million rows is prepared.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.tables import preparing
from benchmarks.tables.page import PAGE, results, written
from benchmarks.tables.rows import load
from benchmarks.tables.running import run
from metalearn_cli.errors import MetalearnError


def main() -> int:
    """Run the missing rows and write the page after each; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--list", action="store_true", help="show the rows that have no result")
    parser.add_argument("--page", action="store_true", help="write the page and run nothing")
    parser.add_argument("--preparing", action="store_true", help="measure how a large csv is prepared, and no row")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after that time")
    parser.add_argument("--work", type=Path, default=Path("runs/tables"), help="where run folders are kept")
    options = parser.parse_args()
    table, failed, began = load(), 0, time.monotonic()
    known = {row.name: row for row in table.rows}
    if unknown := sorted(set(options.only or ()) - set(known)):
        parser.error(f"--only: {', '.join(unknown)}: no such row; --list names them")
    chosen = [known[name] for name in options.only or known if not known[name].result.exists()]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.preparing:
        print(preparing.measure(options.work))
    for row in [] if options.page or options.preparing else chosen:
        if time.monotonic() - began > 60 * options.minutes:
            break
        try:
            result = run(table, row, options.work)
        except (subprocess.CalledProcessError, MetalearnError) as error:
            failed += 1
            print(f"{row.name}: failed: {error}", file=sys.stderr, flush=True)
            continue
        mean = sum(result["scores"]) / len(result["scores"])
        print(f"{row.name}: {mean:.4g}, {result['core_seconds']} s of a core", file=sys.stderr, flush=True)
        PAGE.write_text(written(table, results()))
    PAGE.write_text(written(table, results()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
