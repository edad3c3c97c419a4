"""Computes the spread of the results of one experiment with several training seeds."""

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
    """The spread over checkpoints that differ only in their seed; None if they differ in anything else."""
    seeds = [result.seed for result in results]
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or len({result.recipe for result in results}) > 1:
        return None
    scores = [result.steps[-1].score for result in results]
    std = stdev(scores) if all(map(isfinite, scores)) else nan
    return Spread(seeds, mean(scores), std, mean(result.steps[-1].ci95 for result in results))
