"""Adapts a learner to labelled pictures or rows; the result is a classifier for their classes, or a regressor.

Legend: N examples, P targets, W classes, K inner steps, F features.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.calibration import best_temperature
from metalearn_cli.core.heads import is_head
from metalearn_cli.core.meta import Adapted, Learner, Meta
from metalearn_cli.core.tasks import Examples
from metalearn_cli.datasets.tabular.encoding import with_support_moments
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment
from metalearn_cli.nouns import Noun
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.torch_threads import torch_alone
from metalearn_cli.runtime.run.assembly import evaluation_steps
from metalearn_cli.runtime.run.before_adaptation import BeforeAdaptation
from metalearn_cli.runtime.run.promises import Calibration, nearest
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.folds import folds, others
from metalearn_cli.runtime.use.given_rows import RowsGiven, rebased
from metalearn_cli.runtime.use.network_inputs import inputs_of, size_of
from metalearn_cli.runtime.use.python_arguments import Pictures, classes_in, labels_in, targets_in
from metalearn_cli.runtime.use.regressor import Regressor
from metalearn_cli.runtime.use.reopened import require_finite


class Learned(NamedTuple):
    """A learner and its meta-parameters on their device; `source` is the file or configuration that messages name."""

    experiment: Experiment
    interface: Interface
    learner: Learner
    meta: Meta
    device: torch.device
    source: str
    calibrations: Sequence[Calibration] = ()


def standardised_by_task(interface: Interface, experiment: Experiment) -> bool:
    """Whether each task is standardised by its own support set (`dataset.standardise=task`)."""
    return interface.table is not None and getattr(experiment.dataset, "standardise", None) == "task"


class Adaptable:
    """A learner that is ready to learn classes or values from few examples: meta-trained, or in need of no training.

    >>> from metalearn_cli import load
    >>> load("runs/cats/checkpoints/best.pt")
    <Adaptable 'runs/cats/checkpoints/best.pt': maml with conv4, 2 classes, 28 x 28 pixels, grey>
    """

    def __init__(self, learned: Learned) -> None:
        self.experiment, self.interface = learned.experiment, learned.interface
        self._learned = learned

    def __repr__(self) -> str:
        ways = "any number of" if self._learned.learner.traits.ways is None else self._learned.learner.traits.ways
        made_of = f"{self.experiment.algorithm.name} with {self.experiment.backbone.name}"
        return f"<Adaptable {self._learned.source!r}: {made_of}, {ways} classes, {size_of(self.interface)}>"

    def adapt(self, images: Pictures | RowsGiven, labels: Iterable[Any]) -> Classifier:
        """A Classifier for the classes in `labels` [N], learned from `images` [N], which are pictures or rows.

        If the learner was trained on a regression, a Regressor for `labels` [N] or [N, P], which are then targets in
        their own units. The learner itself does not change.

        Raises ConfigError if the learner can only learn another number of classes, DataError if examples and labels do
        not match or are empty, DivergedError if the adapted learner's answers are not finite.
        """
        inputs = inputs_of(images, self.interface)
        if not self.interface.tells_classes_apart:
            steps: Sequence[Classifier] = self.regressors(
                inputs, targets_in(labels, len(inputs), self.interface.encoding)
            )
        else:
            given = labels_in(labels)
            classes = self.classes_of(labelled_classes(inputs, given, [], self.interface.noun))
            places = {label: place for place, label in enumerate(classes)}
            steps = self.classifiers(inputs, torch.tensor([places[label] for label in given]), classes)
        require_finite(steps)
        return steps[-1]

    def classes_of(self, found: Sequence[Any]) -> Sequence[Any]:
        """The classes of a task whose labels are `found`. For a table of kind "labelled" they are always all classes.

        Raises DataError if `found` is a single class, or has one that such a table does not know.
        """
        fixed = self.interface.table.classes if self.interface.table is not None else []
        unknown = [label for label in found if fixed and label not in fixed]
        if unknown:
            raise DataError(f"label {unknown[0]!r}: expected one of the classes of all tasks: {', '.join(fixed[:8])}")
        if len(found) < 2:
            noun = self.interface.noun
            raise DataError(f"all labels are {found[0]!r}; {noun.many} of two or more classes are needed")
        return fixed or found

    def regressors(self, inputs: Tensor, values: Tensor) -> list[Regressor]:
        """The regressors after 0..K inner steps on prepared inputs [N, ...] with standardised targets [N, P].

        They may have diverged; `reopened.require_finite` checks this.
        """
        interface, inputs = self._based(inputs)
        # A batch of one task: [N, ...] -> [1, N, ...].
        shown, known = (tensor.to(self._learned.device).unsqueeze(0) for tensor in (inputs, values))
        states = self._states(Examples(shown, known))
        make = partial(Regressor, self.experiment, interface, self._learned.learner, self.interface.encoding.targets)
        return [make(state, step) for step, state in enumerate(states)]

    def classifiers(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """The classifiers after 0..K inner steps on prepared inputs [N, ...] with targets 0..W-1 [N].

        They may have diverged; `reopened.require_finite` checks this. A learner without training has no calibration on
        validation tasks. It gets the temperature that fits support pictures best when they are left out, if each class
        has two or more.
        """
        # Only a closed form is adapted once more for each fold; inner steps would take many times as long.
        if not self._costs_nothing:
            return self.adapted(inputs, targets, classes)
        with torch_alone():
            classifiers = self.adapted(inputs, targets, classes)
            if classifiers[-1].calibration is None and self._has_spares(targets, classes):
                classifiers[-1].temperature = self._temperature(inputs, targets, classes)
        return classifiers

    def _has_spares(self, targets: Tensor, classes: Sequence[Any]) -> bool:
        return int(torch.bincount(targets, minlength=len(classes)).min()) > 1

    @property
    def _costs_nothing(self) -> bool:
        """Whether adaptation is a closed form on raw inputs, so that adapting again for each fold takes no time."""
        return self._learned.learner.traits.inner_steps == 0 and all(map(is_head, self._learned.meta.params))

    def _temperature(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> float:
        """The best temperature for the answers to support pictures that are left out, one of each class at a time."""
        outputs, known = list[Tensor](), list[Tensor]()
        for left_out, first in folds(targets):
            rest = others(targets, left_out)
            learned = self.adapted(inputs[rest], targets[rest], classes)[-1]
            own = rebased(inputs[left_out[first]], self.interface.table, learned.interface.table)
            outputs.append(learned.outputs(own))
            known.append(targets[left_out[first]])
        return best_temperature(torch.cat(outputs).cpu(), torch.cat(known))

    def adapted(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """As `classifiers`, without the temperature from left-out pictures."""
        experiment, _interface, learner, meta, device, _source, _calibrations = self._learned
        ways = learner.traits.ways
        if ways is not None and len(classes) != ways:
            raise ConfigError(
                f"the support set has {len(classes)} classes, the checkpoint was trained for {ways}: "
                f"give {ways} classes, train with --set task.ways={len(classes)}, or train a learner of any number "
                "of classes, such as protonet, or maml with zero_head=true"
            )
        interface, inputs = self._based(inputs)
        shown, known = (values.to(device).unsqueeze(0) for values in (inputs, targets))
        states = self._states(Examples(shown, known, len(classes)))
        origin = (
            BeforeAdaptation(meta, targets)
            if ways is None and not standardised_by_task(interface, experiment)
            else None
        )
        make = partial(Classifier, experiment, interface, learner, classes, origin=origin)
        fits = self._calibration(len(classes), len(targets))
        # The calibration was measured after the last inner step, so earlier states have none.
        earlier = [make(adapted=state, steps=step) for step, state in enumerate(states[:-1])]
        return [*earlier, make(adapted=states[-1], steps=len(states) - 1, calibration=fits)]

    def _states(self, support: Examples) -> list[Adapted]:
        learner = self._learned.learner
        return learner.adapt(self._learned.meta, support, evaluation_steps(self.experiment, learner))

    def _based(self, inputs: Tensor) -> tuple[Interface, Tensor]:
        """The interface and inputs [N, ...] for adaptation; with `standardise: task` both use the inputs' moments."""
        table = self.interface.table
        if table is None or table.standardise != "task":
            return self.interface, inputs
        own = with_support_moments(table, inputs.cpu().numpy())
        return self.interface._replace(table=own), rebased(inputs, table, own)

    def _calibration(self, classes: int, pictures: int) -> Calibration | None:
        """The Calibration whose size is nearest to this task's, among those with as many inner steps; None if none."""
        steps = evaluation_steps(self.experiment, self._learned.learner)
        alike = [calibration for calibration in self._learned.calibrations if calibration.inner_steps == steps]
        return nearest(alike, classes, pictures / classes)


def labelled_classes(
    inputs: Tensor, labels: Sequence[Hashable], before: Sequence[Hashable], noun: Noun
) -> list[Hashable]:  # fmt: skip
    """The different labels, in order of appearance, behind the classes `before`. `noun` is for the message.

    Raises DataError if inputs and labels differ in number.
    """
    if len(inputs) != len(labels):
        raise DataError(f"{noun.counted(len(inputs))} and {len(labels)} labels; each {noun.one} needs one label")
    return classes_in([*before, *labels])
