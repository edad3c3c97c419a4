"""Answers of a learner query by query, in the first episodes of a part, for the pages behind a mean.

Legend: E episodes, W ways, N queries of an episode, Q queries of a class, S shots, C channels.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.core.meta import Answering, Meta, device_of
from metalearn_cli.core.tasks import Task
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.runtime.data.pixels import pictures_of_inputs
from metalearn_cli.runtime.data.sampling import Names, Sampler
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.evaluation import drawn_together, on_device
from metalearn_cli.runtime.use.answer_counts import NO_ANSWER

MOST = 200  # episodes that a page looks at


class Subject(NamedTuple):
    """A trained learner and the tasks on which it was measured, for a closer look at its answers.

    `names(step, number)` returns the classes of a task. `seen` is the preprocessing of the pictures; None if inputs are
    not pictures. `pictures` (only if inputs are features) draws the pictures of the same tasks, with the preprocessing
    `seen`. `table` (only for tables) is the encoding of their rows.
    """

    learner: Answering
    meta: Meta
    steps: int
    plan: Plan
    sampler: Sampler
    names: Names
    seen: Preprocessing | None
    pictures: Sampler | None = None
    table: Encoding | None = None


class ClassFacts(NamedTuple):
    """The results of a class: the episodes in which it was drawn, its queries there, and the right answers to them."""

    name: str
    episodes: int
    queries: int
    right: int


class Confusion(NamedTuple):
    """The number of times that queries of class `shown` were taken for class `taken_for`.

    `queries` counts all queries of `shown` in the episodes that have both classes.
    """

    shown: str
    taken_for: str
    times: int
    queries: int


class Answered(NamedTuple):
    """The answers in E episodes: class names, and for each query the true and the predicted class, both [E, N].

    Classes are positions in the episode's names. An answer may be NO_ANSWER, which counts as wrong and as no confusion.
    """

    names: list[list[str]]
    targets: NDArray[np.int64]
    answers: NDArray[np.int64]

    @property
    def accuracies(self) -> list[float]:
        """The share of right answers in each episode."""
        return [float(share) for share in (self.targets == self.answers).mean(1)]

    def classes(self) -> list[ClassFacts]:
        """The results of every class that was drawn, the hardest class first."""
        drawn, queries, right = Counter[str](), Counter[str](), Counter[str]()
        for names, targets, answers in zip(self.names, self.targets, self.answers, strict=True):
            drawn.update(names)
            queries.update(names[target] for target in targets)
            right.update(names[target] for target, answer in zip(targets, answers, strict=True) if target == answer)
        facts = [ClassFacts(name, drawn[name], queries[name], right[name]) for name in drawn]
        return sorted(facts, key=lambda fact: (fact.right / max(1, fact.queries), fact.name))

    def confusions(self) -> list[Confusion]:
        """Every pair of classes that was confused, the most frequent first."""
        times, queries = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for names, targets, answers in zip(self.names, self.targets, self.answers, strict=True):
            asked = Counter(names[target] for target in targets)
            queries.update({(shown, other): asked[shown] for shown in asked for other in names if shown != other})
            pairs = zip(targets, answers, strict=True)
            times.update(
                (names[target], names[answer]) for target, answer in pairs if answer not in (target, NO_ANSWER)
            )
        pairs_confused = [Confusion(*pair, count, queries[pair]) for pair, count in times.items()]
        return sorted(pairs_confused, key=lambda pair: (-pair.times, pair.shown, pair.taken_for))

    def telling(self) -> list[int]:
        """The numbers of the episodes with the lowest, the middle and the highest accuracy."""
        order = sorted(range(len(self.targets)), key=lambda number: (self.accuracies[number], number))
        return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))


class Shown(NamedTuple):
    """The pictures of one episode, uint8: support [classes, S, H, W, C] and query [classes, Q, H, W, C]."""

    support: NDArray[np.uint8]
    query: NDArray[np.uint8]


def answered(subject: Subject, episodes: int, tick: Callable[[int], None] = lambda _done: None) -> Answered:
    """The answers in episodes 0, 1, ... after the last inner step, on which the measured accuracy is based.

    `tick` gets the number of finished episodes.
    """
    learner, device = subject.learner, device_of(subject.meta)

    def outputs(meta: Meta, tasks: Task) -> Tensor:
        with torch.no_grad():
            return learner.answers(meta, tasks.support, tasks.query.inputs, [subject.steps])[0]

    targets, answers = [], []
    with running(subject.plan) as runner:
        for numbers in drawn_together(range(episodes), runner):
            tasks = subject.sampler(0, numbers)
            rows = torch.cat(runner.chunks(outputs, subject.meta, on_device(tasks, device)))
            answers.append(rows.argmax(-1).where(rows.isfinite().all(-1), NO_ANSWER).cpu().numpy())
            targets.append(tasks.query.targets.cpu().numpy())
            tick(numbers[-1] + 1)
    names = [subject.names(0, number) for number in range(episodes)]
    return Answered(names, np.concatenate(targets), np.concatenate(answers))


def episode_pictures(subject: Subject, number: int) -> Shown:
    """The pictures of an episode, in the size and colours that the network gets."""
    task, seen, ways = (subject.pictures or subject.sampler)(0, [number]), subject.seen, len(subject.names(0, number))
    assert seen is not None
    parts = (pictures_of_inputs(half.inputs[0], seen) for half in task)
    return Shown(*(part.reshape(ways, -1, *part.shape[1:]) for part in parts))
