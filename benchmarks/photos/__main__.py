"""Run what the table lacks, and write its page: `python -m benchmarks.photos`.

METALEARN_TEST_DATA names a folder with grocery/grocery84.zip and grocery/grocery224.zip. `--list` shows what is
missing, `--only prototypes-224` runs some rows, `--page` writes PHOTOS.md and runs nothing.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.photos.page import PAGE, results, written
from benchmarks.photos.rows import rows
from benchmarks.photos.running import run


def main() -> int:
    """Run the missing rows one after the other, and write the page after each; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="show the rows that have no result")
    parser.add_argument("--page", action="store_true", help="write the page and run nothing")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone, such as prototypes-224")
    parser.add_argument("--work", type=Path, default=Path("runs/photos"), help="where run folders are kept")
    options = parser.parse_args()
    every = rows()
    if unknown := set(options.only or ()) - {row.name for row in every}:
        parser.error(f"--only: {', '.join(sorted(unknown))}: no such row; --list names them")
    chosen = [row for row in every if not row.result.exists() and row.name in (options.only or [row.name])]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return 0
    failed = 0
    for row in [] if options.page else chosen:
        data = os.environ.get("METALEARN_TEST_DATA") or parser.error("METALEARN_TEST_DATA: names no folder")
        print(row.name, file=sys.stderr)
        try:
            run(row, options.work, Path(str(data)) / "grocery")
        except subprocess.CalledProcessError as error:
            failed = 1
            print(f"{row.name}: exit code {error.returncode}", file=sys.stderr)
        PAGE.write_text(written(every, results()))
    PAGE.write_text(written(every, results()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
