import subprocess
import sys

import pytest

# In a process of its own: what other tests have left in memory decides where the next block comes from.
TOUCH = """
import resource, torch
from metalearn_cli.runtime.machine.memory import keep_freed_memory
torch.set_num_threads(1)
known, faults = keep_freed_memory(), []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16 << 20).sum()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(known, *faults)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be asked")
def test_what_was_freed_is_used_again_without_asking_the_system():
    known, *faults = subprocess.check_output([sys.executable, "-c", TOUCH], text=True).split()
    if known == "False":
        pytest.skip("the C library is not glibc")
    # Every time 16,384 pages of 4 KiB otherwise; now and then something small still lies in the way of a large block.
    assert sorted(map(int, faults))[10] < 1000, faults
