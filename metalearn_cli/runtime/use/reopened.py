"""Opens a saved classifier or regressor, and checks that classifiers give finite answers."""

from collections.abc import Sequence
from pathlib import Path

import torch

from metalearn_cli.core.meta import Adapted
from metalearn_cli.runtime.run.assembly import learner_for
from metalearn_cli.runtime.run.before_adaptation import BeforeAdaptation, as_trained
from metalearn_cli.runtime.run.checkpoint_contents import adapted_in, like_a_support_set
from metalearn_cli.runtime.run.divergence import adaptation_diverged
from metalearn_cli.runtime.run.stored_tensors import meta_of, tensors_like
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.regressor import Regressor
from metalearn_cli.storage.runs import checkpoints


def classifier_in(checkpoint: checkpoints.Checkpoint, device: torch.device, path: Path) -> Classifier:
    """The adapted classifier in a checkpoint, or the Regressor if the learner was trained on a regression.

    Raises CheckpointError if the checkpoint holds something else or does not fit its own header.
    """
    header, experiment, interface, support, targets = adapted_in(checkpoint, path)
    learner = learner_for(experiment, interface, "support")
    # Each algorithm decides which tensors an adapted learner has. An adaptation in 0 steps to the same inputs gives
    # their names and shapes.
    like = like_a_support_set(support.unsqueeze(0), interface)
    unadapted = {name: value[0] for name, value in learner.adapt(learner.init(), like, 0)[0].params.items()}
    stored = tensors_like(checkpoint.below("adapted."), unadapted, path)
    adapted = Adapted({name: value.to(device).unsqueeze(0) for name, value in stored.items()}, like.inputs.to(device))
    origin = None
    if targets is not None:
        before = learner_for(experiment, as_trained(interface, experiment), "support")
        origin = BeforeAdaptation(meta_of(checkpoint, path, before, device), targets)
    kind = Classifier if interface.tells_classes_apart else Regressor
    opened = kind(experiment, interface, learner, header.classes, adapted, steps=header.inner_steps, origin=origin)
    opened.calibration, opened.temperature = header.calibration, header.temperature
    return opened


def require_finite(steps: Sequence[Classifier]) -> None:
    """Raise DivergedError if the last of the classifiers after 0..K inner steps is not finite.

    The message names the first inner step that went wrong.
    """
    if steps[-1].lost:
        first = next(classifier for classifier in steps if classifier.lost)
        raise adaptation_diverged(first.steps, first.lost)
