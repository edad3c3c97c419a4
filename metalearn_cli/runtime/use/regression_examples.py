"""Measures a regression beyond its error: the explained share of the variance, the error for each number of examples,
and the fitted functions of one input before and after inner steps.

Legend: E episodes, T tasks, N examples, K inner steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Scores, device_of
from metalearn_cli.core.objectives import Objective
from metalearn_cli.core.tasks import Task
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.runtime.data.interface import Families
from metalearn_cli.runtime.data.sampling import Sampler
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, Step, on_device, scores_of, summary
from metalearn_cli.runtime.use.episode_answers import Subject

_MOST_EPISODES = 100
_MOST_COUNTS = 8


class Fit(NamedTuple):
    """One regression task of one input: its points, and the outputs on a grid after each of some inner steps.

    All values are in the units of the data. `axes` are the names of input and output, for a table those of its columns.
    """

    support: tuple[list[float], list[float]]
    query: tuple[list[float], list[float]]
    grid: list[float]
    steps: list[int]
    outputs: list[list[float]]
    axes: tuple[str, str] = ("input", "output")


def explained_shares(objective: Objective, sampler: Sampler, scores: Tensor) -> Tensor:
    """R2 of each episode after each of 0..K inner steps [E, K + 1], from squared errors `scores` [E, K + 1].

    R2 = 1 - error / variance. The variance is the error of a guess that is the mean of the episode's query targets.
    """
    variances = []
    for start in range(0, len(scores), EPISODES_AT_ONCE):
        targets = sampler(0, range(start, min(start + EPISODES_AT_ONCE, len(scores)))).query.targets
        variances.append(objective.score(targets.mean(1, keepdim=True).expand_as(targets), targets).cpu())
    # clamp: the targets of an episode may all be equal, and its variance 0.
    share = 1 - scores.cpu().double() / torch.cat(variances).double().clamp(min=1e-30).unsqueeze(1)
    return share.nan_to_num(nan=-torch.inf)


class FamilyResult(NamedTuple):
    """The result in the episodes of one family of functions: after each inner step, and the median R2 there."""

    name: str
    episodes: int
    steps: list[Step]
    explained: list[float]


def by_family(families: Families, scores: Scores, shares: Tensor) -> list[FamilyResult]:
    """The result in the episodes of each family, by name; `shares` [E, K + 1] are the R2 of all episodes."""
    names = [families(0, number) for number in range(len(scores.score))]
    found = []
    for name in sorted(set(names)):
        own = torch.tensor([place for place, other in enumerate(names) if other == name])
        steps = summary(Scores(*(values.cpu()[own] for values in scores)))
        found.append(FamilyResult(name, len(own), steps, medians(shares[own])))
    return found


def medians(shares: Tensor) -> list[float]:
    """The median over episodes of shares [E, K + 1], after each of 0..K inner steps."""
    found: list[float] = shares.median(0).values.tolist()
    return found


def by_examples(subject: Subject, most: int, episodes: int) -> list[tuple[int, Step]]:
    """The result after the last inner step, for up to nine numbers of support examples from 1 to `most`."""
    # Evenly spread, with both ends: for `most` = 20 they are 1, 2, 5, 8, 10, 12, 15, 18 and 20.
    places = min(most, _MOST_COUNTS)
    counts = sorted({1, *(round(most * place / places) for place in range(1, places + 1))})
    results = []
    with running(subject.plan) as runner:
        for count in counts:
            sampler = _of_first(subject.sampler, count)
            given = subject.learner, runner, subject.meta, sampler, subject.steps
            scores = scores_of(*given, episodes=min(episodes, _MOST_EPISODES))
            results.append((count, summary(scores)[-1]))
    return results


def _of_first(sampler: Sampler, count: int) -> Sampler:
    def shorter(step: int, numbers: Sequence[int]) -> Task:
        support, query = sampler(step, numbers)
        first = support._replace(inputs=support.inputs[:, :count], targets=support.targets[:, :count])
        return Task(first, query)

    return shorter


def fitted_functions(subject: Subject, numbers: Sequence[int]) -> list[Fit]:
    """The functions that the learner fits to regression tasks `numbers` of one input and one output."""
    return [_fit(subject, number) for number in numbers]


def _fit(subject: Subject, number: int) -> Fit:
    learner, device = subject.learner, device_of(subject.meta)
    task = on_device(subject.sampler(0, [number]), device)
    grid = grid_over([half.inputs for half in task]).to(device).unsqueeze(0)
    steps = told_steps(subject.steps)
    with torch.no_grad():
        outputs = learner.answers(subject.meta, task.support, grid, steps)
    table = subject.table
    support, query = ((_inputs(half.inputs, table), _outputs(half.targets, table)) for half in task)
    axes = ("input", "output") if table is None else (table.numeric[0], table.targets[0])
    shown = [_outputs(of_step, table) for of_step in outputs]
    return Fit(support, query, _inputs(grid, table), steps, outputs=shown, axes=axes)


def grid_over(inputs: Sequence[Tensor]) -> Tensor:
    """101 evenly spaced inputs [101, 1], from the smallest to the largest of all one-dimensional `inputs`."""
    every = torch.cat([values.flatten() for values in inputs])
    return torch.linspace(float(every.min()), float(every.max()), 101).view(-1, 1)


def told_steps(steps: int) -> list[int]:
    """The inner steps that a chart has room for: 0 to 3, and the last."""
    return sorted({*range(min(steps, 4)), steps})


def _inputs(values: Tensor, table: Encoding | None) -> list[float]:
    mean, std = (table.mean[0], table.std[0]) if table is not None else (0.0, 1.0)
    return [float(value) * std + mean for value in values.flatten().cpu()]


def _outputs(values: Tensor, table: Encoding | None) -> list[float]:
    mean, std = (table.target_mean[0], table.target_std[0]) if table is not None else (0.0, 1.0)
    return [float(value) * std + mean for value in values.flatten().cpu()]
