"""`python -m tests.faults [NAME ...] [--short] [--seed N]`: one line of totals each; exits 1 if one did harm."""

import argparse
import pkgutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

HERE = str(Path(__file__).parent)
NAMES = sorted(module.name for module in pkgutil.iter_modules([HERE]) if not module.name.startswith(("_", "test_")))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default all")
    parser.add_argument("--short", action="store_true", help="the counts that the tests run")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(NAMES)):
        parser.error(f"no campaign {', '.join(unknown)}; there are {', '.join(NAMES)}")
    good = True
    for name in asked.names or NAMES:
        module = import_module(f"tests.faults.{name}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            totals = module.campaign(module.SHORT if asked.short else module.LONG, asked.seed, Path(scratch))
        good &= totals.good
        print(
            f"{name}: tried {totals.tried}, survived {totals.survived}, lost {totals.lost}, "
            f"tracebacks {totals.tracebacks} ({totals.details}; {time.monotonic() - started:.0f} s)",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
