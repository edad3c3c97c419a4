import resource
import sys

import pytest
import torch

from metalearn_cli.runtime.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be asked")
def test_what_was_freed_is_used_again_without_asking_the_system():
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")

    def touch() -> None:
        torch.zeros(16 << 20).sum()

    for _ in range(3):
        touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000  # 16,384 pages of 4 KiB otherwise
