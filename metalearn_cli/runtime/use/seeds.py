"""One experiment with several training seeds: how far their results spread."""

from collections.abc import Sequence
from math import isfinite, nan
from statistics import mean, stdev
from typing import NamedTuple

from metalearn_cli.runtime.use.measurement import Result


class Spread(NamedTuple):
    """One experiment with several training seeds: mean and sample standard deviation of the last step's score.

    `ci95` is the mean of the half-widths of the single runs. It covers the draw of episodes, not that of seeds.
    """

    seeds: list[int]
    mean: float
    std: float
    ci95: float


def over_seeds(results: Sequence[Result]) -> Spread | None:
    """The spread of checkpoints that differ in their seed and in nothing else; None for any others."""
    seeds = [one.seed for one in results]
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or len({one.recipe for one in results}) > 1:
        return None
    scores = [one.steps[-1].score for one in results]
    std = stdev(scores) if all(map(isfinite, scores)) else nan
    return Spread(seeds, mean(scores), std, mean(one.steps[-1].ci95 for one in results))
