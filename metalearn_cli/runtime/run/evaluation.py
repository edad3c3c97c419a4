"""Measures accuracy (or squared error) before and after every inner step, with a 95 % interval over episodes.

Legend: E episodes, K inner steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from metalearn_cli.core.meta import Answering, Meta, Scores, device_of, scores_per_step
from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.runtime.data.pixels import sent
from metalearn_cli.runtime.data.sampling import Sampler
from metalearn_cli.runtime.machine.distributed import ALONE, Group
from metalearn_cli.runtime.machine.execution import Runner, joined_scores

EPISODES_AT_ONCE = 32  # for each process; `enough` is asked after each such block


class Step(NamedTuple):
    """The result after `step` inner steps: mean score, half-width of its 95 % interval, mean loss and median score.

    Means and median are over episodes. `diverged` is the share of episodes whose loss is not finite, or is larger than
    before the first step.
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
    """The loss and the score [E, K + 1] of the sampler's episodes 0, 1, ..., with K = `steps`.

    It ends after `episodes` episodes, or as soon as `enough(scores so far)` is true. Episode i is the same for every
    learner. The processes of `group` share the episodes, and each returns all scores. `meta` does not change.
    """
    device = device_of(meta)
    score_task = partial(scores_per_step, learner, steps)
    collected: list[Scores] = []
    at_once = EPISODES_AT_ONCE * group.size
    for start in range(0, episodes, at_once):
        block = range(start, min(start + at_once, episodes))
        # A process without a share of the block runs its last episode as well, so that all processes take part in the
        # exchange; that copy is not counted.
        mine = group.share(block) or block[-1:]
        parts = [
            runner.each(score_task, meta, on_device(sampler(0, part), device)) for part in drawn_together(mine, runner)
        ]
        scores = joined_scores(parts)
        collected.append(group.gathered(scores, len(block)))
        if enough(joined_scores(collected)):
            break
    return joined_scores(collected)


def drawn_together(episodes: Sequence[int], runner: Runner) -> Iterator[Sequence[int]]:
    """Yield the episodes in parts that are drawn and computed at the same moment: 32 of photos take too much memory.

    Parts are whole chunks of the runner's plan, so the numbers are those of all episodes in one piece.
    """
    size = min(runner.plan.at_once, EPISODES_AT_ONCE)
    for first in range(0, len(episodes), size):
        yield episodes[first : first + size]


def summary(scores: Scores) -> list[Step]:
    """One Step for each number of inner steps 0..K; ci95 = 1.96 * s / sqrt(E) with the sample standard deviation s."""
    episodes = scores.score.shape[0]
    loss, score = scores.loss.double(), scores.score.double()
    half = 1.96 * score.std(0) / math.sqrt(episodes) if episodes > 1 else torch.full_like(score[0], math.inf)
    diverged = (~loss.isfinite() | (loss > loss[:, :1])).double().mean(0)
    median = score.nan_to_num(math.inf).median(0).values  # a squared error of NaN counts as infinitely large
    columns = (score.mean(0), half, loss.mean(0), median, diverged)
    return [Step(step, *(float(column[step]) for column in columns)) for step in range(score.shape[1])]


def lost(scores: Scores) -> list[int]:
    """The number of episodes without a finite loss after each of 0..K inner steps.

    In such an episode, answers that are not finite count as wrong in the accuracy; the squared error is NaN.
    """
    counts: list[int] = (~scores.loss.isfinite()).sum(0).tolist()
    return counts


def narrow(width: float) -> Callable[[Scores], bool]:
    """A rule for `enough`: stop when the half-width after the last step is at most `width`, after 100 episodes."""

    def enough(scores: Scores) -> bool:
        return scores.score.shape[0] >= 100 and summary(scores)[-1].ci95 <= width

    return enough


def on_device(tasks: Task, device: torch.device) -> Task:
    """The same tasks on a device."""
    return with_each(tasks, lambda tensor: sent(tensor, device))
