"""Lets an adapted classifier learn more: new classes, or more examples of its classes.

Legend: N examples.
"""

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.run.assembly import learner_for
from metalearn_cli.runtime.run.before_adaptation import as_trained
from metalearn_cli.runtime.use.adaptation import Adaptable, Learned, labelled_classes, standardised_by_task
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.given_rows import RowsGiven
from metalearn_cli.runtime.use.network_inputs import inputs_of
from metalearn_cli.runtime.use.python_arguments import Pictures, labels_in
from metalearn_cli.runtime.use.regressor import Regressor
from metalearn_cli.runtime.use.reopened import require_finite


def growable(classifier: Classifier, source: str) -> tuple[Adaptable, Tensor]:
    """The learner from which a classifier was adapted, and for each support picture the index of its class, int64 [N].

    Raises ConfigError if the classifier cannot grow: it is a regressor, is tied to its number of classes or to the
    moments of its support set, or was saved by a version without growth.
    """
    origin = classifier.origin
    if isinstance(classifier, Regressor):
        told = f"a regressor cannot learn more {classifier.interface.noun.many}"
        raise ConfigError(f"{source}: {told}; adapt its checkpoint to all of them")
    if standardised_by_task(classifier.interface, classifier.experiment):
        told = f"its {classifier.interface.noun.many} were standardised by the support set (dataset.standardise)"
        raise ConfigError(f"{source}: this classifier cannot grow: {told}; adapt its checkpoint to all of them")
    if origin is None:
        raise ConfigError(
            f"{source}: this classifier cannot grow: {classifier.experiment.algorithm.name} is tied to "
            f"{len(classifier.classes)} classes, or an older metalearn saved it; adapt its checkpoint to all of them"
        )
    experiment = classifier.experiment
    interface = as_trained(classifier.interface, experiment)
    learner = learner_for(experiment, interface, "support")
    return Adaptable(
        Learned(experiment, interface, learner, origin.meta, classifier.device, source=source)
    ), origin.targets


def grown(classifier: Classifier, images: Pictures | RowsGiven, labels: Iterable[Hashable]) -> Classifier:
    """The classifier after learning more examples, of its classes or of new ones.

    It equals a classifier that was adapted to all examples at once. New classes stand behind its old ones.

    >>> import numpy as np
    >>> from metalearn_cli import grown, load, load_experiment, train
    >>> settings = "algorithm={name: protonet}", "outer.iterations=1", "eval={val_episodes: 2}"
    >>> reports = list(train(load_experiment("quickstart", *settings), "runs/growing"))
    >>> two = load("runs/growing/checkpoints/best.pt").adapt(np.zeros((2, 28, 28), np.uint8), ["cat", "dog"])
    >>> grown(two, np.full((1, 28, 28), 255, np.uint8), ["owl"]).classes
    ['cat', 'dog', 'owl']

    Raises ConfigError if it cannot grow (`growable`), DataError or DivergedError as `Adaptable.adapt` does.
    """
    learner, before = growable(classifier, "the classifier")
    inputs, given = inputs_of(images, classifier.interface), labels_in(labels)
    classes = learner.classes_of(labelled_classes(inputs, given, classifier.classes, classifier.interface.noun))
    places = {label: place for place, label in enumerate(classes)}
    targets = torch.cat([before, torch.tensor([places[label] for label in given])])
    steps = learner.classifiers(torch.cat([classifier.support, inputs]), targets, classes)
    require_finite(steps)
    return steps[-1]
