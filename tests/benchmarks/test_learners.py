"""The plain learners that ours are measured against find the same."""

from contextlib import ExitStack

import pytest
import torch

from benchmarks.learners import PAIRS, rows_of
from benchmarks.step import Shape, relative

STRIDED = Shape(ways=3, shots=2, queries=3, steps=3, tasks=2, channels=4)
POOLED = STRIDED._replace(size=(3, 32, 32), pool=True)


@pytest.mark.parametrize("shape", [STRIDED, POOLED], ids=["strided", "pooled"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_plain_learner_and_ours_find_the_same(name, shape):
    with ExitStack() as stack:
        plain, ours = rows_of(name, shape, stack, torch.float64)
        plain.step()
        ours.step()
    expected, found = plain.gradient(), ours.gradient()
    assert sum(float(value.abs().sum()) for value in expected) > 0
    assert relative(found, expected) < 1e-9
