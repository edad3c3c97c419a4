"""Loads a learner from a checkpoint or from an experiment that needs no training, and loads a saved classifier."""

from collections.abc import Sequence
from pathlib import Path

import torch

from metalearn_cli.core.heads import is_head
from metalearn_cli.core.objectives import classification
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.view import View
from metalearn_cli.runtime.run.assembly import device_named, learner_for
from metalearn_cli.runtime.run.checkpoint_contents import trained_in
from metalearn_cli.runtime.run.stored_tensors import meta_of, on
from metalearn_cli.runtime.use.adaptation import Adaptable, Learned
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.reopened import classifier_in
from metalearn_cli.storage.runs import checkpoints


def adaptable_in(
    checkpoint: checkpoints.Checkpoint, device: torch.device, path: Path, overrides: Sequence[str] = ()
) -> Adaptable:
    """The meta-trained learner in a checkpoint. Raises CheckpointError if it holds something else."""
    trained = trained_in(checkpoint, path)
    experiment, interface = with_overrides(trained.experiment, overrides), trained.interface
    if interface.preprocessing is None and interface.table is None:
        raise CheckpointError(
            f"{path}: was trained on functions that a program draws; it cannot learn from files or arrays"
        )
    learner = learner_for(experiment, interface, "support")
    meta = meta_of(checkpoint, path, learner, device)
    calibrations = trained.header.calibration
    return Adaptable(Learned(experiment, interface, learner, meta, device, source=str(path), calibrations=calibrations))


def untrained(experiment: Experiment, device: torch.device, source: str) -> Adaptable:
    """The learner of an experiment that needs no training: frozen features, and a head computed from the support set.

    Raises ConfigError for any other experiment, or if the extractor is missing.
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


def load(source: str | Path | Experiment, device: str = "cpu") -> Adaptable:
    """The meta-trained learner in the checkpoint `source`, on `device` ("cpu", "cuda", "cuda:1", ...).

    `source` may also be an experiment whose learner needs no training: `load(load_experiment("photos"))`.

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
    be trained first or needs a package that is not installed.
    """
    if isinstance(source, Experiment):
        return untrained(source, device_named(device), source.name)
    return adaptable_in(checkpoints.read_checkpoint(Path(source)), device_named(device), Path(source))


def load_classifier(path: str | Path, device: str = "cpu") -> Classifier:
    """The adapted classifier in `path`, as `Classifier.save` or `metalearn finetune --output` wrote it.

    >>> import numpy as np
    >>> from metalearn_cli import load, load_classifier
    >>> pictures = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    >>> load("runs/cats/checkpoints/best.pt").adapt(pictures, ["cat", "dog"]).save("cats.pt")
    >>> load_classifier("cats.pt").classes
    ['cat', 'dog']

    Raises CheckpointError if the file is damaged or holds something else.
    """
    return classifier_in(checkpoints.read_checkpoint(Path(path)), device_named(device), Path(path))
