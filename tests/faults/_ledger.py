"""What became of each fault of a campaign, and the real command with a limit on its time and memory."""

import os
import re
import resource
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from metalearn_cli.errors import MetalearnError, printable
from tests.faults import Totals

_ROOT = Path(__file__).parents[2]
_MOST_ADDRESSES = 12 << 30
_LONGEST_LINE = 2000
_SHOWN_LETTERS = 400


class Ledger:
    """Counts of outcomes; what did harm is told on stderr, with what it takes to see it again."""

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._seed = name, seed
        self._tried = self._lost = self._tracebacks = 0
        self._outcomes: Counter[str] = Counter()

    def random(self) -> Random:
        """The random numbers of the next fault: the same for the same campaign, seed and number of the fault."""
        return Random(f"{self._name}/{self._seed}/{self._tried}")

    @contextmanager
    def fault(self, what: Callable[[], str]) -> Iterator[None]:
        """One fault. What the block raises is no survival; `what()` says what had been done."""
        self._tried += 1
        try:
            yield
        except Lost as lost:
            self._lost += 1
            self._tell(f"lost: {lost}", what())
        except Exception:
            self._tracebacks += 1
            self._tell(traceback.format_exc(), what())

    def count(self, outcome: str) -> None:
        """One more of what is said about the survivors."""
        self._outcomes[outcome] += 1

    def totals(self) -> Totals:
        """The sum of it."""
        details = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self._outcomes.items()))
        survived = self._tried - self._lost - self._tracebacks
        return Totals(self._tried, survived, self._lost, self._tracebacks, details)

    def _tell(self, harm: str, what: str) -> None:
        print(f"{self._name}, seed {self._seed}, fault {self._tried - 1}: {what!r:.{_SHOWN_LETTERS}}", file=sys.stderr)
        print(harm, file=sys.stderr, flush=True)


class Lost(Exception):  # noqa: N818 (it is an outcome)
    """A fault did harm that was no traceback."""


def require_one_plain_line(error: MetalearnError, beginning: str = "") -> None:
    """Raise Lost unless each line of the message starts so, can be printed, and is not overlong."""
    for line in str(error).split("\n"):
        if not line.startswith(beginning) or printable(line) != line or not 0 < len(line) < _LONGEST_LINE:
            raise Lost(f"the message is {line!r:.{_LONGEST_LINE}}, expected one that starts with {beginning!r}")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def require_answered(self) -> None:
        """Raise Lost unless it did its work, or said in one `error:` line what the person can mend."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if self.code not in (0, 2, 4) or "Traceback" in self.err or (self.code == 0) != (not errors):
            raise Lost(f"exit code {self.code}: {self.err[-_LONGEST_LINE:]}")
        if unprinted := re.search(r"[^\n\r -\uffff]", self.err):
            raise Lost(f"{unprinted[0]!r} on the terminal: {self.err[-_LONGEST_LINE:]!r}")


def environment(data: Path) -> dict[str, str]:
    """The variables for a command that works on this data folder, and prints nothing that is not text."""
    return {**os.environ, "METALEARN_DATA": str(data), "PYTHONPATH": str(_ROOT), "NO_COLOR": "1", "TERM": "dumb"}


MODULE = ("-m", "metalearn_cli")
SCRIPT = ("-P", "-c", "from metalearn_cli.__main__ import main; main()")
"""What the installed `metalearn` runs; with -P, as a script has its own folder on its path and not the current one."""


def command(
    data: Path, *arguments: object, folder: Path | None = None, how: Sequence[str] = MODULE, seconds: float = 120
) -> Ended:
    """`metalearn` with these arguments and this data folder, run in `folder`. Raises Lost if it does not end soon."""
    try:
        done = subprocess.run(
            [sys.executable, *how, *map(str, arguments)], env=environment(data), cwd=folder or data.parent,
            capture_output=True, timeout=seconds, preexec_fn=_limited, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Lost(f"has not ended after {seconds} s") from error
    return Ended(done.returncode, *(stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr)))


def _limited() -> None:
    """Nothing that a campaign starts may take the machine's memory away from others."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    os.nice(5)
