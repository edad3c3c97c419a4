"""The calibration of a learner: found on validation tasks, kept in checkpoints, measured on test tasks.

Each answer is independent of the other queries (support statistics), as in `finetune`.

Legend: E episodes, M queries of one episode, S strangers, N pictures, W classes.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from metalearn_cli.core import calibration as found_by
from metalearn_cli.core.calibration import SCORES, Reliability, Score, half_width, half_width_over_groups, reliability
from metalearn_cli.settings import Settings, Size, Steps

LEVELS = tuple(percent / 100 for percent in range(50, 100))
"""The coverages with a threshold of their own, 0.50 to 0.99; any other uses the threshold of the next higher one."""
COVERAGES = (0.8, 0.9, 0.95)
"""The coverages that `eval` measures."""
KEPT = 0.95
"""The share of pictures of a task's own classes that should not be turned away as strangers."""

_Probability = Annotated[float, Field(ge=0, le=1)]


class Calibration(Settings):
    """A calibration on validation tasks of one size. It holds for new tasks of that size and number of inner steps.

    `episodes`, `classes`: the number of tasks, and of the classes from which they were drawn. A promise for new classes
        depends on how much classes differ, so few classes make it less certain than the number of tasks suggests.
    `temperature`: outputs are divided by it before the softmax makes them probabilities.
    `floors`: for each of `LEVELS`, the smallest probability of a class in a set; 0 puts all classes into it.
    `score`: the kind of score that detects pictures of other classes; null if the validation part has no other classes.
    `least`: a picture with a smaller score (of outputs divided by the temperature) is turned away; null keeps all.
    """

    ways: Size
    shots: Size
    queries: Size
    episodes: Size
    classes: Size
    inner_steps: Steps
    temperature: Annotated[float, Field(ge=1e-5, le=1e7)]
    floors: Annotated[tuple[_Probability, ...], Field(min_length=len(LEVELS), max_length=len(LEVELS))]
    score: Score | None
    least: float | None

    @property
    def size(self) -> str:
        """The size of its tasks in words: "5-way 1-shot"."""
        return f"{self.ways}-way {self.shots}-shot"

    @property
    def mistake(self) -> str:
        """A text on a field that cannot be true; empty if there is none."""
        if list(self.floors) != sorted(self.floors, reverse=True):
            return "floors: found some that rise, expected a higher coverage to have a lower one"
        if self.least is not None and (self.score is None or not math.isfinite(self.least)):
            return f"least: found {self.least}, but there is no score"
        return ""

    def floor(self, coverage: float) -> float:
        """The smallest probability of a class in a set with this coverage; 0 (all classes) for coverages above 0.99."""
        return next((floor for level, floor in zip(LEVELS, self.floors, strict=True) if level >= coverage - 1e-9), 0.0)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities [..., W] of outputs [..., W]: softmax(outputs / temperature)."""
        return (outputs / self.temperature).softmax(-1)

    def fit(self, outputs: Tensor) -> Tensor:
        """The score [...] of pictures with outputs [..., W]; a larger score fits the task's classes better."""
        return found_by.fit_of(outputs.double() / self.temperature, self.score or "probability")

    def strangers(self, outputs: Tensor) -> Tensor:
        """Whether each picture [...] is turned away as a stranger: its score is below `least`."""
        if self.least is None:
            return torch.zeros(outputs.shape[:-1], dtype=torch.bool, device=outputs.device)
        return self.fit(outputs) < self.least


class TaskSize(NamedTuple):
    """The size of tasks, the inner steps with which they were learned, and the number of classes to draw them from."""

    ways: int
    shots: int
    queries: int
    inner_steps: int
    classes: int


class Observed(NamedTuple):
    """The outputs of a learner in E tasks [E, M, W], the right classes [E, M], and outputs for strangers [E, S, W].

    Strangers are pictures of classes outside the task. Outputs that are not finite count as if all were equal.
    `groups` [E, W]: the numbers of a task's classes among all that were drawn. If all tasks have the same classes, but
    each of another person, a class has the number of its task's person.
    """

    outputs: Tensor
    targets: Tensor
    strangers: Tensor | None
    groups: Tensor


def calibrated(observed: Observed, size: TaskSize) -> Calibration:
    """The Calibration fitted to the observed tasks, for new tasks of the same size."""
    outputs, targets, strangers, _ = observed
    temperature = found_by.best_temperature(outputs.flatten(0, 1), targets.flatten())
    right = (outputs / temperature).softmax(-1).double().gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    # Scores are those of tempered outputs, as `Calibration.fit` computes them later.
    score = None if strangers is None else _telling(outputs / temperature, strangers / temperature)
    members = found_by.fit_of(outputs.double() / temperature, score or "probability")
    least = found_by.keeping(members, KEPT) if score else math.inf
    return Calibration(
        ways=size.ways, shots=size.shots, queries=size.queries, episodes=len(outputs), inner_steps=size.inner_steps,
        classes=size.classes,
        temperature=temperature, floors=tuple(found_by.floor_for(right, level) for level in LEVELS), score=score,
        least=least if math.isfinite(least) else None,
    )  # fmt: skip


def _telling(outputs: Tensor, strangers: Tensor) -> Score:
    """The score that separates strangers from members best, by the area under the ROC curve."""

    def area(score: Score) -> float:
        return found_by.area_under_curve(*(found_by.fit_of(rows.double(), score) for rows in (outputs, strangers)))

    return max(SCORES, key=area)


class Sets(NamedTuple):
    """A measurement of sets of classes: `target`, the share that should contain the right class; `coverage`, the share
    that did; `ci95`, its 95 % half-width over tasks of these classes; `ci95_classes`, that over groups (None if all
    tasks have the same), which is much larger for few classes and is the one for new classes; `size`, the mean number
    of classes; `empty`, the share of empty sets.
    """

    target: float
    coverage: float
    ci95: float
    ci95_classes: float | None
    size: float
    empty: float


class Strangers(NamedTuple):
    """The share of strangers that were turned away, with its 95 % half-width over tasks, and of members that were kept.

    `auroc`: the share of pairs in which the member has the better score than the stranger.
    """

    score: Score
    turned_away: float
    ci95: float
    kept: float
    auroc: float


class Promise(NamedTuple):
    """A Calibration measured on tasks of new classes; `raw` is the reliability without temperature."""

    calibration: Calibration
    episodes: int
    raw: Reliability
    tempered: Reliability
    sets: Sequence[Sets]
    strangers: Strangers | None


def measured_promise(calibration: Calibration, observed: Observed) -> Promise:
    """The measurement of a Calibration in E tasks."""
    outputs, targets, strangers, groups = observed
    rows, known = outputs.flatten(0, 1), targets.flatten()
    probabilities = calibration.probabilities(outputs)
    judged = calibration.score is not None
    return Promise(
        calibration,
        len(outputs),
        reliability(rows.softmax(-1), known),
        reliability(probabilities.flatten(0, 1), known),
        [_sets(calibration, probabilities, targets, groups, coverage=coverage) for coverage in COVERAGES],
        strangers=_strangers(calibration, outputs, strangers) if judged and strangers is not None else None,
    )


def _sets(calibration: Calibration, probabilities: Tensor, targets: Tensor, groups: Tensor, *, coverage: float) -> Sets:
    sets = found_by.sets_of(probabilities, calibration.floor(coverage))
    held = sets.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double()
    # If all tasks have the same groups, none were drawn, and an interval over draws of groups has no meaning.
    each = groups.sort(1).values
    drawn = groups.gather(1, targets).flatten() if bool((each != each[:1]).any()) else None
    sizes = sets.sum(-1).double()
    return Sets(
        coverage, float(held.mean()), half_width(held.mean(1)),
        None if drawn is None else half_width_over_groups(held.flatten(), drawn), float(sizes.mean()),
        empty=float((sizes == 0).double().mean()),
    )  # fmt: skip


def _strangers(calibration: Calibration, outputs: Tensor, strangers: Tensor) -> Strangers:
    away = calibration.strangers(strangers).double().mean(1)
    kept = 1 - float(calibration.strangers(outputs).double().mean())
    auroc = found_by.area_under_curve(calibration.fit(outputs), calibration.fit(strangers))
    return Strangers(calibration.score or "probability", float(away.mean()), half_width(away), kept, auroc)


def nearest(calibrations: Sequence[Calibration], ways: int, shots: float) -> Calibration | None:
    """The Calibration whose tasks are nearest in ways and shots; None if there is no Calibration."""

    def distance(calibration: Calibration) -> float:
        # In logarithms 1 and 2 shots are as far apart as 5 and 10. Ways count twice: a choice, which nothing measures.
        return 2 * abs(math.log(calibration.ways / ways)) + abs(math.log(calibration.shots / shots))

    return min(calibrations, key=distance, default=None)
