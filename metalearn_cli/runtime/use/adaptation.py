"""Loads a checkpoint and adapts it to labelled pictures; the result is a classifier for their classes.

Legend: N pictures, W classes, K inner steps.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalearn_cli.core.calibration import best_temperature
from metalearn_cli.core.heads import is_body
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import CheckpointError, ConfigError, DataError
from metalearn_cli.experiment import with_overrides
from metalearn_cli.runtime.run.assembly import device_named, evaluation_steps, learner_for
from metalearn_cli.runtime.run.checkpoint_contents import trained_in
from metalearn_cli.runtime.run.promises import Calibration, nearest
from metalearn_cli.runtime.run.state import meta_of
from metalearn_cli.runtime.use.classifier import Classifier, classifier_in, inputs_of, require_finite, size_of
from metalearn_cli.runtime.use.folds import folds, others
from metalearn_cli.runtime.use.python_arguments import Pictures, classes_in, labels_in
from metalearn_cli.storage.runs import checkpoints


class Adaptable:
    """A meta-trained learner that can learn new classes from a few pictures of each (from `load`)."""

    def __init__(
        self,
        checkpoint: checkpoints.Checkpoint,
        device: torch.device,
        path: Path,
        overrides: Sequence[str] = (),
    ) -> None:
        trained = trained_in(checkpoint, path)
        self._calibrations = trained.header.calibration
        self.experiment, self.interface = with_overrides(trained.experiment, overrides), trained.interface
        if self.interface.preprocessing is None:
            raise CheckpointError(f"{path}: was trained on numbers, not on pictures; it cannot classify pictures")
        self._learner = learner_for(self.experiment, self.interface, "support")
        self._meta = meta_of(checkpoint, path, self._learner, device)
        self._device = device
        self._path = path

    def __repr__(self) -> str:
        ways = "any number of" if self._learner.traits.ways is None else self._learner.traits.ways
        made_of = f"{self.experiment.algorithm.name} with {self.experiment.backbone.name}"
        return f"<Adaptable {str(self._path)!r}: {made_of}, {ways} classes, {size_of(self.interface)}>"

    def adapt(self, images: Pictures, labels: Iterable[Hashable]) -> Classifier:
        """A Classifier for the classes in `labels` [N], learned from `images` [N]; the learner itself does not change.

        Raises ConfigError if the learner can only learn another number of classes, DataError if pictures and labels do
        not match or there are none, DivergedError if the adapted learner's answers are not finite.
        """
        inputs, given = inputs_of(images, self.interface), labels_in(labels)
        if len(inputs) != len(given):
            raise DataError(f"{len(inputs)} pictures and {len(given)} labels; each picture needs one label")
        classes = classes_in(given)
        if len(classes) < 2:
            raise DataError(f"all labels are {classes[0]!r}; pictures of two or more classes are needed")
        places = {label: place for place, label in enumerate(classes)}
        steps = self.classifiers(inputs, torch.tensor([places[label] for label in given]), classes)
        require_finite(steps)
        return steps[-1]

    def classifiers(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """The classifiers after 0..K inner steps on prepared inputs [N, C, H, W] with targets 0..W-1 [N].

        They may have diverged; `classifier.require_finite` checks this.
        """
        found = self.adapted(inputs, targets, classes)
        if found[-1].calibration is None and self._costs_nothing and int(torch.bincount(targets).min()) > 1:
            found[-1].temperature = self._temperature(inputs, targets, classes)
        return found

    @property
    def _costs_nothing(self) -> bool:
        """Whether it adapts in closed form to inputs as they are, so that leaving pictures out takes no time."""
        return self._learner.traits.inner_steps == 0 and not any(map(is_body, self._meta.params))

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
        ways = self._learner.traits.ways
        if ways is not None and len(classes) != ways:
            raise ConfigError(
                f"the support set has {len(classes)} classes, the checkpoint was trained for {ways}: "
                f"give {ways} classes, train with --set task.ways={len(classes)}, or train a learner of any number "
                "of classes, such as protonet"
            )
        shown, known = (values.to(self._device).unsqueeze(0) for values in (inputs, targets))
        support = Examples(shown, known, len(classes))
        states = self._learner.adapt(self._meta, support, evaluation_steps(self.experiment, self._learner))
        make = partial(Classifier, self.experiment, self.interface, self._learner, classes)
        fits = self._calibration(len(classes), len(targets))
        found = [make(state, step) for step, state in enumerate(states[:-1])]
        return [*found, make(states[-1], len(states) - 1, fits)]

    def _calibration(self, classes: int, pictures: int) -> Calibration | None:
        """What was found on validation tasks most like this one, if they took as many inner steps."""
        steps = evaluation_steps(self.experiment, self._learner)
        return nearest([one for one in self._calibrations if one.inner_steps == steps], classes, pictures / classes)


def load(path: str | Path, device: str = "cpu") -> Adaptable:
    """The meta-trained learner in the checkpoint `path`, on `device` ("cpu", "cuda", "cuda:1", ...).

    >>> import numpy as np
    >>> from metalearn_cli import load
    >>> learner = load("runs/cats/checkpoints/best.pt")  # trained 2-way
    >>> pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    >>> classifier = learner.adapt(pictures, ["cat", "dog", "cat", "dog"])
    >>> classifier.predict_proba(pictures).shape
    (4, 2)
    >>> set(classifier.predict(pictures)) <= {"cat", "dog"}
    True

    Raises CheckpointError if the file is damaged or holds something else.
    """
    return Adaptable(checkpoints.load(Path(path)), device_named(device), Path(path))


def load_classifier(path: str | Path, device: str = "cpu") -> Classifier:
    """The adapted classifier in `path`, as `Classifier.save` or `metalearn finetune --output` wrote it.

    Raises CheckpointError if the file is damaged or holds something else.
    """
    return classifier_in(checkpoints.load(Path(path)), device_named(device), Path(path))
