"""Where the classifiers of `finetune` come from: a checkpoint, nothing trained, or a saved one that learns more."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.cli import answers, tables
from metalearn_cli.cli.outputs import require_writable
from metalearn_cli.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import device

    from metalearn_cli.runtime.use.adaptation import Adaptable
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled
    from metalearn_cli.storage.runs.checkpoints import Checkpoint


class Given(NamedTuple):
    """What a classifier is to come from: a checkpoint's file or a config's name, and its overrides; on which device.

    `output` is the file that it will be written to.
    """

    checkpoint: Path | None
    config: str | None
    overrides: list[str]
    device: str
    output: Path | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return str(self.checkpoint) if self.checkpoint is not None else f"--config {self.config}"


class Steps(NamedTuple):
    """Classifiers after 0..K inner steps, the pictures that were given to learn from, and the learner.

    `learned_from` are all pictures that they were adapted to; more than were given where a classifier grew. `told` are
    lines for a person.
    """

    classifiers: "list[Classifier]"
    shown: "Labelled | None" = None
    learner: "Adaptable | None" = None
    learned_from: "Labelled | None" = None
    told: tuple[str, ...] = ()


def steps_of(given: Given, support: Path | None, progress: "Progress") -> Steps:
    """The classifiers. Raises ConfigError, CheckpointError or DataError if they cannot be made."""
    from metalearn_cli.experiment import load
    from metalearn_cli.runtime.run import assembly
    from metalearn_cli.runtime.use import adaptation
    from metalearn_cli.storage.runs import checkpoints

    place = assembly.device_named(given.device)
    if given.checkpoint is None:
        assert given.config is not None
        assert support is not None
        learner = adaptation.untrained(load(given.config, given.overrides), place, given.config)
        return _adapted(learner, support, progress)
    file = checkpoints.load(given.checkpoint)
    if support is None or file.header.get("kind") == "adapted":
        return _again(given, file, support, place, progress)
    if given.output is not None:  # only a classifier may grow in its own file
        require_writable("--output", given.output, "mine.pt", [given.checkpoint])
    return _adapted(adaptation.adaptable_in(file, place, given.checkpoint, given.overrides), support, progress)


def _adapted(learner: "Adaptable", support: Path, progress: "Progress") -> Steps:
    from metalearn_cli.runtime.use import finetuning, reopened

    shown = finetuning.support_in(support, learner.interface, progress=tables.Stages(progress))
    steps = learner.classifiers(shown.inputs, shown.targets(shown.classes), shown.classes)
    reopened.require_finite(steps)
    return Steps(steps, shown, learner, shown)


def _again(
    given: Given, file: "Checkpoint", support: Path | None, place: "device", progress: "Progress"
) -> Steps:  # fmt: skip
    """A classifier that was saved, as it is or with more pictures."""
    from metalearn_cli.runtime.use import reopened

    assert given.checkpoint is not None
    if given.overrides:
        cure = "give --support to adapt again" if support is None else "adapt its checkpoint again"
        raise ConfigError(f"--set: an adapted classifier has nothing left to set; {cure}")
    before = reopened.classifier_in(file, place, given.checkpoint)
    return Steps([before]) if support is None else _grown(before, given.name, support, progress)


def _grown(before: "Classifier", name: str, support: Path, progress: "Progress") -> Steps:
    import torch

    from metalearn_cli.runtime.use import adaptation, finetuning, reopened

    learner, targets = adaptation.growable(before, name)
    named: dict[str, Any] = {str(label): label for label in before.classes}
    shown = finetuning.support_in(support, learner.interface, least=1, progress=tables.Stages(progress))
    shown = shown._replace(labels=[named.get(label, label) for label in shown.labels])
    new = [label for label in sorted(set(shown.labels), key=str) if str(label) not in named]
    classes = [*before.classes, *new]
    kept = finetuning.Labelled(
        [f"{name}: picture {number} of {before.classes[target]}" for number, target in enumerate(targets.tolist(), 1)],
        before.support, [before.classes[target] for target in targets.tolist()],
    )  # fmt: skip
    every = shown._replace(
        files=kept.files + shown.files,
        inputs=torch.cat([kept.inputs, shown.inputs]),
        labels=kept.labels + shown.labels,
        pictures=(),
        digests=(),
    )
    steps = learner.classifiers(every.inputs, every.targets(classes), classes)
    reopened.require_finite(steps)
    added = sum(label in new for label in shown.labels)
    told = f"{len(new)} classes added ({', '.join(map(str, new))}), with {added} pictures" if new else "no class added"
    line = f"{name}: {len(before.classes)} classes of {len(kept.files)} pictures; {told}"
    line += f", and {len(shown.files) - added} pictures to those that it had"
    return Steps(steps, shown, learner, every, (line,))


def converted(path: Path, output: Path, overrides: list[str], device: str) -> dict[str, Any]:
    """What a checkpoint holds, an adapted classifier or the initialisation of a learner, in the form of `output`."""
    from metalearn_cli.runtime.run import assembly
    from metalearn_cli.runtime.use import export, reopened
    from metalearn_cli.storage.runs import checkpoints

    if overrides:
        raise ConfigError("--set: has no effect without --support")
    file, classes = checkpoints.load(path), None
    if file.header.get("kind") == "adapted":
        found = reopened.classifier_in(file, assembly.device_named(device), path)
        found.save(output)
        classes = found.classes
    else:
        export.save_initialisation(file, path, output)
    return {"checkpoint": str(path), "classes": classes} | NOTHING_ASKED


NOTHING_ASKED: dict[str, Any] = {
    "support": None, **answers.NOTHING_MEASURED, "predictions": [], "coverage": None, "calibration": None,
    "temperature": None, "left_out": [], "remarks": [],
}  # fmt: skip
