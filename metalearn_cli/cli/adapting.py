"""Makes the classifier with which `finetune` answers, from a checkpoint, an experiment without training, or a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.cli import answers, tables
from metalearn_cli.cli.outputs import require_writable
from metalearn_cli.errors import ConfigError
from metalearn_cli.nouns import Noun

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import device

    from metalearn_cli.runtime.data.interface import Interface
    from metalearn_cli.runtime.use.adaptation import Adaptable
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled
    from metalearn_cli.storage.runs.checkpoints import Checkpoint


class Given(NamedTuple):
    """The source of a classifier: a checkpoint's file or a config's name, with its overrides, and the device.

    `output`: the file to which the classifier will be written, if any. `report`: the page of its answers, if any.
    """

    checkpoint: Path | None
    config: str | None
    overrides: list[str]
    device: str
    output: Path | None
    report: Path | None = None

    @property
    def name(self) -> str:
        """The name of the source in messages."""
        return str(self.checkpoint) if self.checkpoint is not None else f"--config {self.config}"


class Steps(NamedTuple):
    """Classifiers after 0..K inner steps, the support pictures or rows of this call (`shown`), and the learner.

    `learned_from`: all support examples, also those from which a saved classifier had learned before. `told`: lines to
    be printed. For a regression: only the learner, which `regressing` adapts, or a saved Regressor.
    """

    classifiers: "list[Classifier]"
    shown: "Labelled | None" = None
    learner: "Adaptable | None" = None
    learned_from: "Labelled | None" = None
    told: tuple[str, ...] = ()

    @property
    def interface(self) -> "Interface":
        """The form of the inputs and outputs."""
        if self.learner is not None:
            return self.learner.interface
        return self.classifiers[-1].interface


def steps_of(given: Given, support: Path | None, progress: "Progress") -> Steps:
    """The classifiers. Raises ConfigError, CheckpointError or DataError if they cannot be made."""
    from metalearn_cli.experiment import read_experiment
    from metalearn_cli.runtime.run import assembly
    from metalearn_cli.runtime.use import loading
    from metalearn_cli.storage.runs import checkpoints

    place = assembly.device_named(given.device)
    if given.checkpoint is None:
        assert given.config is not None
        assert support is not None
        learner = loading.untrained(read_experiment(given.config, given.overrides), place, given.config)
        return _adapted(learner, support, progress)
    file = checkpoints.read_checkpoint(given.checkpoint)
    if support is None or file.header.get("kind") == "adapted":
        return _again(given, file, support, place, progress)
    if given.output is not None:  # only a classifier may grow in its own file
        require_writable("--output", given.output, "mine.pt", [given.checkpoint])
    return _adapted(loading.adaptable_in(file, place, given.checkpoint, given.overrides), support, progress)


def _adapted(learner: "Adaptable", support: Path, progress: "Progress") -> Steps:
    from metalearn_cli.runtime.use import reopened

    if not learner.interface.tells_classes_apart:
        return Steps([], learner=learner)
    shown = _examples(support, learner, 2, progress)
    classes = learner.classes_of(shown.classes)
    steps = learner.classifiers(shown.inputs, shown.targets(classes), classes)
    reopened.require_finite(steps)
    return Steps(steps, shown, learner, shown)


def _examples(support: Path, learner: "Adaptable", least: int, progress: "Progress") -> "Labelled":
    """The examples of at least `least` classes, in a folder of class folders or a table. Raises DataError for fewer."""
    from metalearn_cli.runtime.use import finetuning, table_finetuning

    interface = learner.interface
    if interface.table is not None:
        return table_finetuning.labelled_rows([support], interface, support=True, least=least)
    return finetuning.support_in(support, interface, least, progress=tables.Stages(progress))


def _again(
    given: Given, file: "Checkpoint", support: Path | None, place: "device", progress: "Progress"
) -> Steps:  # fmt: skip
    """A classifier that was saved, as it is or with more pictures or rows."""
    from metalearn_cli.runtime.use import reopened

    assert given.checkpoint is not None
    if given.overrides:
        cure = "give --support to adapt again" if support is None else "adapt its checkpoint again"
        raise ConfigError(f"--set: an adapted classifier has nothing left to set; {cure}")
    before = reopened.classifier_in(file, place, given.checkpoint)
    return Steps([before]) if support is None else _grown(before, given.name, support, progress)


def _grown(before: "Classifier", name: str, support: Path, progress: "Progress") -> Steps:
    import torch

    from metalearn_cli.runtime.use import finetuning, growth, reopened

    learner, targets = growth.growable(before, name)
    named: dict[str, Any] = {str(label): label for label in before.classes}
    shown, noun = _examples(support, learner, 1, progress), learner.interface.noun
    shown = shown._replace(labels=[named.get(label, label) for label in shown.labels])
    new = [label for label in sorted(set(shown.labels), key=str) if str(label) not in named]
    classes = learner.classes_of([*before.classes, *new])
    kept = finetuning.Labelled(
        [
            f"{name}: {noun.one} {number} of {before.classes[target]}"
            for number, target in enumerate(targets.tolist(), 1)
        ],
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
    listed = ", ".join(map(str, new))
    told = f"{len(new)} classes added ({listed}), with {noun.counted(added)}" if new else "no class added"
    line = f"{name}: {len(before.classes)} classes of {noun.counted(len(kept.files))}; {told}"
    line += f", and {noun.counted(len(shown.files) - added)} to those that it had"
    return Steps(steps, shown, learner, every, (line,))


def converted(path: Path, output: Path, overrides: list[str], device: str) -> tuple[dict[str, Any], Noun]:
    """Write an adapted classifier or the initialisation of a learner in the format that the suffix of `output` names.

    Return the fields for JSON, and the word for the examples that it answers.
    """
    from metalearn_cli.runtime.run import assembly
    from metalearn_cli.runtime.use import export, reopened
    from metalearn_cli.storage.runs import checkpoints

    if overrides:
        raise ConfigError("--set: has no effect without --support")
    file, classes = checkpoints.read_checkpoint(path), None
    if file.header.get("kind") == "adapted":
        saved = reopened.classifier_in(file, assembly.device_named(device), path)
        saved.save(output)
        classes = saved.classes
        if not saved.interface.tells_classes_apart:
            return {"checkpoint": str(path), "classes": None, "targets": classes} | NOTHING_ASKED, saved.interface.noun
        interface = saved.interface
    else:
        interface = export.save_initialisation(file, path, output)
    return {"checkpoint": str(path), "classes": classes} | NOTHING_ASKED, interface.noun


NOTHING_ASKED: dict[str, Any] = {
    "support": None, **answers.NOTHING_MEASURED, "predictions": [], "coverage": None, "calibration": None,
    "temperature": None, "left_out": [], "remarks": [],
}  # fmt: skip
