"""Measures how far two computations of the same meta-gradient may differ by rounding, on the problem itself.

A rounding error is a relative change of about 1e-16. So the problem is computed again with all its numbers changed by
1e-10 of themselves; 1e-6 times the change of the result is the effect that one rounding can have. Long inner loops,
many norms or a badly conditioned system change the result more, and get a larger allowance. If sums cancel completely,
as the gradient of a bias before a norm does, such a change does not show what rounding leaves of them. So the problem
is computed once more with numbers changed by little more than a rounding; the result then differs by roundings alone.
"""

from collections.abc import Callable

import torch

from metalearn_cli.core.meta import Meta
from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.testing.problems import flat

Gradient = Callable[[Meta, Task], Meta]

_CHANGE, _SMALLEST_CHANGE, _DRAWS = 1e-10, 1e-15, 2
_EPSILON = torch.finfo(torch.float64).eps
_MOST = 1e-7
"""The largest difference, relative to the gradient, that counts as equal for any problem."""
_REPEATED = 30
"""A factor on differences by roundings alone, as a few draws do not show the largest one; chosen too."""
_ROUNDINGS = 1000
"""The number of roundings that may add up: a margin that was chosen, not measured."""


def rounding_of(gradient: Gradient, meta: Meta, tasks: Task) -> float:
    """The largest distance between two meta-gradients of this problem that rounding can explain."""
    at = flat(gradient(meta, tasks))

    def away(by: float) -> float:
        moved = [flat(gradient(*_changed(meta, tasks, seed, by))) for seed in range(_DRAWS)]
        return max(float((gradient_there - at).norm()) for gradient_there in moved)

    # So many roundings, each as large as the result itself or enlarged as the problem enlarges changes; and what
    # roundings alone were seen to do.
    size = float(at.norm())
    allowed = _ROUNDINGS * _EPSILON * (away(_CHANGE) / _CHANGE + size) + _REPEATED * away(_SMALLEST_CHANGE)
    return min(allowed, _MOST * size)


def require_equal(found: Meta, expected: Meta, allowed: float, what: str) -> None:
    """Raise AssertionError, which starts with `what`, if two Metas differ by more than `allowed`."""
    for part, ours, theirs in zip(Meta._fields, found, expected, strict=True):
        assert list(ours) == list(theirs), f"{what}: {part} are {list(ours)}, expected {list(theirs)}"
        for name, value in theirs.items():
            away = float((ours[name] - value).norm())
            assert away <= allowed, (
                f"{what}: {part} {name} differ by {away:.2e}; rounding explains {allowed:.2e} in this problem"
            )


def _changed(meta: Meta, tasks: Task, seed: int, by: float) -> tuple[Meta, Task]:
    generator = torch.Generator().manual_seed(seed)

    def change(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        return value * (1 + by * torch.randn(value.shape, generator=generator, dtype=value.dtype))

    return Meta(*({name: change(value) for name, value in part.items()} for part in meta)), with_each(tasks, change)
