"""How a number was measured: made where it is measured, and told in the same words wherever the number stands."""

from typing import Any, NamedTuple

from metalearn_cli.core.meta import Learner
from metalearn_cli.datasets import Mixture, Part
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.opening import Interface, dataset_of
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.run.assembly import evaluation_spec, evaluation_statistics, evaluation_steps, training_spec
from metalearn_cli.settings import Choice


class Protocol(NamedTuple):
    """The tasks that something was measured on, how they were learned, and how many there were.

    `episodes` is None for the tasks of training, which never come twice; `accuracy` says whether classes are told
    apart, and not numbers predicted; `augmentation` is what was done to the pictures besides.
    """

    dataset: str
    part: Part
    ways: int
    shots: int
    queries: int
    statistics: str
    inner_steps: int
    episodes: int | None
    accuracy: bool
    augmentation: tuple[str, ...] = ()

    @property
    def spec(self) -> TaskSpec:
        """The size of its tasks, to draw them."""
        return TaskSpec(self.ways, self.shots, self.queries)

    @property
    def size(self) -> str:
        """The size of the support set: 5-way 1-shot."""
        return f"{self.ways}-way {self.shots}-shot" if self.accuracy else f"{self.shots}-shot"

    @property
    def tasks(self) -> str:
        """Which tasks."""
        augmented = f", augmented ({', '.join(self.augmentation)})" if self.augmentation else ""
        return f"{self.dataset} {self.part}, {self.size}, {self.queries} queries{augmented}"

    @property
    def how(self) -> str:
        """How many tasks, and how they were learned and judged."""
        parts = [] if self.episodes is None else [f"{self.episodes} episodes"]
        parts += [f"{self.statistics} statistics", steps(self.inner_steps)]
        parts += [f"chance {100 / self.ways:.1f} %"] if self.accuracy and self.episodes is not None else []
        return ", ".join(parts)

    def __str__(self) -> str:
        """All of it in a line."""
        return f"{self.tasks}; {self.how}"

    def fields(self) -> dict[str, Any]:
        """The same for JSON."""
        return self._asdict() | {"augmentation": list(self.augmentation)}


def steps(count: int) -> str:
    """So many inner steps in words."""
    return f"{count} inner step{'' if count == 1 else 's'}"


def evaluation_protocol(
    experiment: Experiment, interface: Interface, learner: Learner, part: Part, episodes: int
) -> Protocol:
    """How the experiment's `eval` block measures a learner on so many episodes of a part.

    Raises ConfigError if the learner cannot take as many inner steps.
    """
    return Protocol(
        experiment.dataset.name,
        part,
        *evaluation_spec(experiment),
        statistics=evaluation_statistics(experiment),
        inner_steps=evaluation_steps(experiment, learner),
        episodes=episodes,
        accuracy=interface.tells_classes_apart,
        augmentation=_augmentation(experiment.dataset, part),
    )


def training_protocol(experiment: Experiment, interface: Interface, learner: Learner) -> Protocol:
    """How training measures the loss that it makes smaller."""
    return Protocol(
        experiment.dataset.name,
        "train",
        *training_spec(experiment),
        statistics=experiment.task.statistics,
        inner_steps=learner.traits.inner_steps,
        episodes=None,
        accuracy=interface.tells_classes_apart,
        augmentation=_augmentation(experiment.dataset, "train"),
    )


def unlike(first: Protocol, other: Protocol, same_algorithm: bool) -> list[str]:
    """In what two measurements differ that are compared, in words; how many tasks there were is no difference.

    How many inner steps a learner takes is its own affair where the algorithms differ.
    """
    compared = [name for name in Protocol._fields if name not in ("episodes", "accuracy")]
    found = []
    for name in compared if same_algorithm else [name for name in compared if name != "inner_steps"]:
        one, two = getattr(first, name), getattr(other, name)
        if one != two:
            found.append(f"{name.replace('_', ' ')} {_text(two)} against {_text(one)}")
    return found


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _augmentation(settings: Choice, part: Part) -> tuple[str, ...]:
    """What a dataset does to the pictures of a part besides resizing them."""
    dataset = dataset_of(settings)
    if isinstance(dataset, Mixture):
        return tuple(sorted({one for member in dataset.of for one in _augmentation(member, part)}))
    sampling = getattr(dataset, "sampling", None)
    if sampling is None:
        return ()
    turned = ("rotations",) if sampling.rotations != "none" and part in sampling.rotated else ()
    return turned + (tuple(sampling.augmentation) if part == "train" else ())
