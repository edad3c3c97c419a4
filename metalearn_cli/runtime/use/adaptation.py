"""Loads a checkpoint and adapts it to labelled pictures; the result is a classifier for their classes.

Legend: N pictures, W classes, K inner steps, F features.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.calibration import best_temperature
from metalearn_cli.core.heads import is_head
from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import CheckpointError, ConfigError, DataError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.view import View
from metalearn_cli.runtime.run.assembly import device_named, evaluation_steps, learner_for
from metalearn_cli.runtime.run.checkpoint_contents import trained_in
from metalearn_cli.runtime.run.growing import Origin, as_trained
from metalearn_cli.runtime.run.promises import Calibration, nearest
from metalearn_cli.runtime.run.stored_tensors import meta_of, on
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.folds import folds, others
from metalearn_cli.runtime.use.network_inputs import inputs_of, size_of
from metalearn_cli.runtime.use.python_arguments import Pictures, classes_in, labels_in
from metalearn_cli.runtime.use.reopened import classifier_in, require_finite
from metalearn_cli.storage.runs import checkpoints


class Learned(NamedTuple):
    """A learner with what it has learned, on its device; `source` is what a person calls it: a file, or a config."""

    experiment: Experiment
    interface: Interface
    learner: Learner
    meta: Meta
    device: torch.device
    source: str
    calibrations: Sequence[Calibration] = ()


class Adaptable:
    """A meta-trained checkpoint, or one that needs no training, ready to learn new classes from a few pictures each."""

    def __init__(self, learned: Learned) -> None:
        self.experiment, self.interface = learned.experiment, learned.interface
        self._learned = learned

    def __repr__(self) -> str:
        ways = "any number of" if self._learned.learner.traits.ways is None else self._learned.learner.traits.ways
        made_of = f"{self.experiment.algorithm.name} with {self.experiment.backbone.name}"
        return f"<Adaptable {self._learned.source!r}: {made_of}, {ways} classes, {size_of(self.interface)}>"

    def adapt(self, images: Pictures, labels: Iterable[Hashable]) -> Classifier:
        """A Classifier for the classes in `labels` [N], learned from `images` [N]; the learner itself does not change.

        Raises ConfigError if the learner can only learn another number of classes, DataError if pictures and labels do
        not match or there are none, DivergedError if the adapted learner's answers are not finite.
        """
        inputs, given = inputs_of(images, self.interface), labels_in(labels)
        classes = _classes_of(inputs, given, [])
        if len(classes) < 2:
            raise DataError(f"all labels are {classes[0]!r}; pictures of two or more classes are needed")
        places = {label: place for place, label in enumerate(classes)}
        steps = self.classifiers(inputs, torch.tensor([places[label] for label in given]), classes)
        require_finite(steps)
        return steps[-1]

    def classifiers(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """The classifiers after 0..K inner steps on prepared inputs [N, ...] with targets 0..W-1 [N].

        They may have diverged; `reopened.require_finite` checks this. If nothing was trained, there are no validation
        tasks: the temperature is then the best one for support pictures that are left out, and the answers are not
        calibrated.
        """
        found = self.adapted(inputs, targets, classes)
        if found[-1].calibration is None and self._costs_nothing and int(torch.bincount(targets).min()) > 1:
            found[-1].temperature = self._temperature(inputs, targets, classes)
        return found

    @property
    def _costs_nothing(self) -> bool:
        """Whether it adapts in closed form to inputs as they are, so that leaving pictures out takes no time."""
        return self._learned.learner.traits.inner_steps == 0 and all(map(is_head, self._learned.meta.params))

    def _temperature(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> float:
        """The best temperature for what pictures are taken for that were left out, one of each class at a time."""
        outputs, known = list[Tensor](), list[Tensor]()
        for left_out, first in folds(targets):
            rest = others(targets, left_out)
            learned = self.adapted(inputs[rest], targets[rest], classes)[-1]
            outputs.append(learned.outputs(inputs[left_out[first]]))
            known.append(targets[left_out[first]])
        return best_temperature(torch.cat(outputs).cpu(), torch.cat(known))

    def adapted(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """The same with nothing left out for a temperature."""
        experiment, interface, learner, meta, device, _source, _calibrations = self._learned
        ways = learner.traits.ways
        if ways is not None and len(classes) != ways:
            raise ConfigError(
                f"the support set has {len(classes)} classes, the checkpoint was trained for {ways}: "
                f"give {ways} classes, train with --set task.ways={len(classes)}, or train a learner of any number "
                "of classes, such as protonet"
            )
        shown, known = (values.to(device).unsqueeze(0) for values in (inputs, targets))
        support = Examples(shown, known, len(classes))
        states = learner.adapt(meta, support, evaluation_steps(experiment, learner))
        origin = Origin(meta, targets) if ways is None else None
        make = partial(Classifier, experiment, interface, learner, classes, origin=origin)
        fits = self._calibration(len(classes), len(targets))
        found = [make(adapted=state, steps=step) for step, state in enumerate(states[:-1])]
        return [*found, make(adapted=states[-1], steps=len(states) - 1, calibration=fits)]

    def _calibration(self, classes: int, pictures: int) -> Calibration | None:
        """What was found on validation tasks most like this one, if they took as many inner steps."""
        steps = evaluation_steps(self.experiment, self._learned.learner)
        alike = [one for one in self._learned.calibrations if one.inner_steps == steps]
        return nearest(alike, classes, pictures / classes)


def adaptable_in(
    checkpoint: checkpoints.Checkpoint, device: torch.device, path: Path, overrides: Sequence[str] = ()
) -> Adaptable:
    """The meta-trained learner in a checkpoint. Raises CheckpointError if it holds something else."""
    trained = trained_in(checkpoint, path)
    experiment, interface = with_overrides(trained.experiment, overrides), trained.interface
    if interface.preprocessing is None:
        raise CheckpointError(f"{path}: was trained on numbers, not on pictures; it cannot classify pictures")
    learner = learner_for(experiment, interface, "support")
    meta = meta_of(checkpoint, path, learner, device)
    calibrations = trained.header.calibration
    return Adaptable(Learned(experiment, interface, learner, meta, device, source=str(path), calibrations=calibrations))


def untrained(experiment: Experiment, device: torch.device, source: str) -> Adaptable:
    """The learner of an experiment that needs no training: frozen features, and a head made of the support set.

    Raises ConfigError for any other experiment, or if the extractor cannot be had.
    """
    chosen = asked_features(experiment.dataset)
    to_train = f"--config {source}: {experiment.algorithm.name} with {experiment.backbone.name}"
    cure = f"has to be trained first: metalearn train {source}, and then --checkpoint; or --config photos"
    if chosen is None:
        raise ConfigError(f"{to_train}, without dataset.features, {cure}")
    extractor = extractor_for(chosen)
    view = View(chosen, extractor.identity, extractor.about)
    shape = (extractor.features,)
    interface = Interface(shape, experiment.task.ways, classification, extractor.preprocessing, view)
    learner = learner_for(experiment, interface, "support")
    meta = learner.init()
    if learner.traits.ways is not None or not all(map(is_head, meta.params)):
        raise ConfigError(f"{to_train} {cure}")
    return Adaptable(Learned(experiment, interface, learner, on(meta, device), device, source=source))


def growable(classifier: Classifier, source: str) -> tuple[Adaptable, Tensor]:
    """The learner that a classifier was adapted from, and the place [N] in its classes of each support picture.

    Raises ConfigError if it is tied to its number of classes, or was saved before classifiers could grow.
    """
    origin = classifier.origin
    if origin is None:
        raise ConfigError(
            f"{source}: this classifier cannot grow: {classifier.experiment.algorithm.name} is tied to "
            f"{len(classifier.classes)} classes, or an older metalearn saved it; adapt its checkpoint to all of them"
        )
    experiment = classifier.experiment
    interface = as_trained(classifier.interface, experiment)
    learner = learner_for(experiment, interface, "support")
    learned = Learned(experiment, interface, learner, origin.meta, classifier.device, source=source)
    return Adaptable(learned), origin.targets


def grown(classifier: Classifier, images: Pictures, labels: Iterable[Hashable]) -> Classifier:
    """The classifier with more pictures of its classes, or of new ones: as if it had been adapted to all at once.

    New classes come after those that it has.

    Raises ConfigError if it cannot grow (`growable`), DataError or DivergedError as `Adaptable.adapt` does.
    """
    learner, before = growable(classifier, "the classifier")
    inputs, given = inputs_of(images, classifier.interface), labels_in(labels)
    classes = _classes_of(inputs, given, classifier.classes)
    places = {label: place for place, label in enumerate(classes)}
    targets = torch.cat([before, torch.tensor([places[label] for label in given])])
    steps = learner.classifiers(torch.cat([classifier.support, inputs]), targets, classes)
    require_finite(steps)
    return steps[-1]


def _classes_of(inputs: Tensor, labels: Sequence[Hashable], before: Sequence[Hashable]) -> list[Hashable]:
    """The different labels, after those that were there `before`."""
    if len(inputs) != len(labels):
        raise DataError(f"{len(inputs)} pictures and {len(labels)} labels; each picture needs one label")
    return classes_in([*before, *labels])


def load(source: str | Path | Experiment, device: str = "cpu") -> Adaptable:
    """The meta-trained learner in the checkpoint `source`, on `device` ("cpu", "cuda", "cuda:1", ...).

    In the place of a file an experiment will do whose learner needs no training: `load(load_experiment("photos"))`.

    >>> import numpy as np
    >>> from metalearn_cli import load
    >>> learner = load("runs/cats/checkpoints/best.pt")  # trained 2-way
    >>> pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    >>> classifier = learner.adapt(pictures, ["cat", "dog", "cat", "dog"])
    >>> classifier.predict_proba(pictures).shape
    (4, 2)
    >>> set(classifier.predict(pictures)) <= {"cat", "dog"}
    True

    Raises CheckpointError if the file is damaged or holds something else, and ConfigError for an experiment that has to
    be trained first or needs what is not installed.
    """
    if isinstance(source, Experiment):
        return untrained(source, device_named(device), source.name)
    return adaptable_in(checkpoints.load(Path(source)), device_named(device), Path(source))


def load_classifier(path: str | Path, device: str = "cpu") -> Classifier:
    """The adapted classifier in `path`, as `Classifier.save` or `metalearn finetune --output` wrote it.

    Raises CheckpointError if the file is damaged or holds something else.
    """
    return classifier_in(checkpoints.load(Path(path)), device_named(device), Path(path))
