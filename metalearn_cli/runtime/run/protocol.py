"""Protocol: the conditions of a measurement. It is made with the number and printed in the same words everywhere."""

from typing import Any, NamedTuple

from metalearn_cli.core.meta import Learner
from metalearn_cli.datasets import Mixture, Part, trains_on_val
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.opening import dataset_of
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.run.assembly import evaluation_spec, evaluation_statistics, evaluation_steps, training_spec
from metalearn_cli.settings import Choice


class Protocol(NamedTuple):
    """The tasks of a measurement, the way in which they were learned, and their number.

    `episodes` is None for training, whose tasks never repeat. `accuracy` is true for classification and false for
    regression. `augmentation` lists the random changes of the pictures. `trained_on`: the classes of a validation were
    trained on (dataset.trainval).
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
    trained_on: bool = False

    @property
    def spec(self) -> TaskSpec:
        """The size of the tasks, as a sampler takes it."""
        return TaskSpec(self.ways, self.shots, self.queries)

    @property
    def size(self) -> str:
        """The size of the support set in words: "5-way 1-shot"."""
        return f"{self.ways}-way {self.shots}-shot" if self.accuracy else f"{self.shots}-shot"

    @property
    def tasks(self) -> str:
        """The tasks in words: dataset, part and size."""
        augmented = f", augmented ({', '.join(self.augmentation)})" if self.augmentation else ""
        part = f"{self.part} (trained on)" if self.trained_on else self.part
        return f"{self.dataset} {part}, {self.size}, {self.queries} queries{augmented}"

    @property
    def how(self) -> str:
        """The number of tasks, statistics, inner steps and so on, in words."""
        parts = [] if self.episodes is None else [f"{self.episodes} episodes"]
        parts += [f"{self.statistics} statistics", steps(self.inner_steps)]
        parts += [f"chance {100 / self.ways:.1f} %"] if self.accuracy and self.episodes is not None else []
        return ", ".join(parts)

    def __str__(self) -> str:
        """The whole protocol in one line."""
        return f"{self.tasks}; {self.how}"

    def fields(self) -> dict[str, Any]:
        """The whole protocol as a dictionary for JSON."""
        return self._asdict() | {"augmentation": list(self.augmentation)}


def steps(count: int) -> str:
    """A number of inner steps in words: "1 inner step", "5 inner steps"."""
    return f"{count} inner step{'' if count == 1 else 's'}"


def evaluation_protocol(
    experiment: Experiment, interface: Interface, learner: Learner, part: Part, episodes: int
) -> Protocol:
    """The protocol by which the experiment's `eval` block measures a learner on `episodes` episodes of a part.

    Raises ConfigError if the learner cannot take that many inner steps (only MAML++ has a limit).
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
        trained_on=part == "val" and trains_on_val(experiment.dataset),
    )


def training_protocol(experiment: Experiment, interface: Interface, learner: Learner) -> Protocol:
    """The protocol of the training loss."""
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
    """The differences between two protocols that are compared, in words; the number of episodes does not count.

    If the algorithms differ, the number of inner steps does not count either, because each has its own.
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
    """The random changes that a dataset makes to the pictures of a part (only training has any)."""
    dataset = dataset_of(settings)
    # A mixture changes the pictures of each member as that member's block says.
    if isinstance(dataset, Mixture):
        return tuple(sorted({one for member in dataset.of for one in _augmentation(member, part)}))
    sampling = getattr(dataset, "sampling", None)
    if sampling is None:
        return ()
    turned = ("rotations",) if sampling.rotations != "none" and part in sampling.rotated else ()
    return turned + (tuple(sampling.augmentation) if part == "train" else ())
