"""Accuracy (or squared error) before and after every inner step, with a 95 % interval over episodes.

Legend: E episodes, K inner steps.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from metalearn_cli.core.meta import Answering, Meta, Scores, scores_per_step
from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.runtime.data.pixels import sent
from metalearn_cli.runtime.data.sampling import Sampler
from metalearn_cli.runtime.machine.distributed import ALONE, Group
from metalearn_cli.runtime.machine.execution import Runner, joined

EPISODES_AT_ONCE = 32


class Step(NamedTuple):
    """Over episodes: mean score and the half-width of its 95 % interval, mean loss, median score.

    `diverged` is the share of episodes whose loss is not finite or is larger than before the first step.
    """

    step: int
    score: float
    ci95: float
    loss: float
    median: float
    diverged: float


def scores_of(
    learner: Answering,
    runner: Runner,
    meta: Meta,
    sampler: Sampler,
    steps: int,
    episodes: int,
    enough: Callable[[Scores], bool] = lambda _scores: False,
    group: Group = ALONE,
) -> Scores:
    """Loss and score [E, K + 1] of episodes 0, 1, ... of a sampler, until `episodes` or until `enough` of them.

    `meta` stays as it is. Episode i is the same whichever learner is evaluated. The processes of `group` share the
    episodes, and each gets all scores.
    """
    device = next(iter(meta.params.values())).device
    one = partial(scores_per_step, learner, steps)
    collected: list[Scores] = []
    at_once = EPISODES_AT_ONCE * group.size
    for start in range(0, episodes, at_once):
        block = range(start, min(start + at_once, episodes))
        # A process without a share does the block's last episode, which nobody reads twice.
        mine = group.share(block) or block[-1:]
        found = runner.each(one, meta, on_device(sampler(0, mine), device))
        collected.append(group.gathered(found, len(block)))
        if enough(joined(collected)):
            break
    return joined(collected)


def summary(scores: Scores) -> list[Step]:
    """One Step for each of 0..K; the interval is 1.96 * s / sqrt(E), with s the sample standard deviation."""
    episodes = scores.score.shape[0]
    loss, score = scores.loss.double(), scores.score.double()
    half = 1.96 * score.std(0) / math.sqrt(episodes) if episodes > 1 else torch.full_like(score[0], math.inf)
    diverged = (~loss.isfinite() | (loss > loss[:, :1])).double().mean(0)
    median = score.nan_to_num(math.inf).median(0).values  # of an error that is no number: as of one that is too large
    columns = (score.mean(0), half, loss.mean(0), median, diverged)
    return [Step(step, *(float(column[step]) for column in columns)) for step in range(score.shape[1])]


def lost(scores: Scores) -> list[int]:
    """In how many episodes the answers after each of 0..K inner steps have no finite loss.

    Such an episode's accuracy counts as it is, with the answers that are not finite as wrong; its squared error is no
    number.
    """
    found: list[int] = (~scores.loss.isfinite()).sum(0).tolist()
    return found


def narrow(width: float) -> Callable[[Scores], bool]:
    """A stopping rule: the last step's half-width is at most `width`, over 100 episodes or more."""

    def enough(scores: Scores) -> bool:
        return scores.score.shape[0] >= 100 and summary(scores)[-1].ci95 <= width

    return enough


def on_device(tasks: Task, device: torch.device) -> Task:
    """The same tasks on a device."""
    return with_each(tasks, lambda tensor: sent(tensor, device))
