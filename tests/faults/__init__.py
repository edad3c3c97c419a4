"""Fault campaigns: break something many times, count what survived. `python -m tests.faults` runs them all.

One file is one campaign. It exports SHORT and LONG, how many faults a quick and a thorough run try, and
`campaign(count, seed, scratch)`, which tries `count` faults in an empty folder and gives their Totals. The folder is
the list: test_campaigns.py runs each file's SHORT count, and its LONG one if slow tests are asked for.
"""

from typing import NamedTuple


class Totals(NamedTuple):
    """How many faults were `tried`, `survived` without harm, `lost` something, and ended in `tracebacks`.

    What is not lost and no traceback has survived. `details` says what else was counted.
    """

    tried: int
    survived: int
    lost: int
    tracebacks: int
    details: str = ""

    @property
    def good(self) -> bool:
        """Whether every fault was tried and did no harm."""
        return 0 < self.tried == self.survived and self.lost == self.tracebacks == 0
