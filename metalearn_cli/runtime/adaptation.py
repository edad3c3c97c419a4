"""A checkpoint and some labelled pictures become a classifier for those classes.

Every picture is answered by itself: the norms take their statistics from the support set, whatever the checkpoint
was trained with, so one query never changes another's answer.

Legend: N pictures, W classes, K inner steps.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from metalearn_cli.core.meta import Adapted, Learner
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import CheckpointError, ConfigError, DataError
from metalearn_cli.experiment import Experiment, from_mapping, with_overrides
from metalearn_cli.runtime.assembly import Interface, device_named, evaluation_steps, learner_for
from metalearn_cli.runtime.headers import interface_header, interface_of, require_kind, versions
from metalearn_cli.runtime.sampling import normalised
from metalearn_cli.runtime.state import fitted, meta_of
from metalearn_cli.storage import checkpoints
from metalearn_cli.storage.pictures import decode, from_array

Pictures = Sequence[Image] | NDArray[np.uint8]
"""PIL pictures of any size and mode, or a uint8 array [N, H, W, C] (or [N, H, W], grey)."""

_PICTURES_AT_ONCE = 256


class Classifier:
    """Tells the classes of one support set apart, after `steps` inner steps.

    `classes` are its labels, in the order of the probabilities; `adapted` is a batch of one task.
    """

    def __init__(
        self,
        experiment: Experiment,
        interface: Interface,
        learner: Learner,
        classes: Sequence[Any],
        adapted: Adapted,
        steps: int,
    ) -> None:
        self.classes = list(classes)
        self.steps = steps
        self._experiment = experiment
        self._interface = interface
        self._learner = learner
        self._adapted = adapted

    def predict(self, images: Pictures) -> list[Any]:
        """The most probable label of each picture."""
        return [self.classes[best] for best in self.predict_proba(images).argmax(1)]

    def predict_proba(self, images: Pictures) -> NDArray[np.float32]:
        """The probability of each class for each picture, [N, W]; rows sum to 1."""
        return self.probabilities(inputs_of(images, self._interface))

    def probabilities(self, inputs: Tensor) -> NDArray[np.float32]:
        """The same for pictures that `inputs_of` has prepared."""
        inputs = inputs.to(self._adapted.support.device)
        starts = range(0, len(inputs), _PICTURES_AT_ONCE)
        parts = [inputs[start : start + _PICTURES_AT_ONCE] for start in starts]
        with torch.no_grad():
            rows = [self._learner.predict(self._adapted, part.unsqueeze(0))[0].softmax(-1) for part in parts]
        found: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
        return found

    @property
    def interface(self) -> Interface:
        """What its network sees."""
        return self._interface

    def save(self, path: str | Path) -> None:
        """`path` is an adapted classifier that `load_classifier` reads.

        Raises ConfigError if a label is neither a string nor a number.
        """
        odd = [label for label in self.classes if not isinstance(label, str | int | float)]
        if odd:
            raise ConfigError(f"a label is {odd[0]!r}; only strings and numbers can be saved")
        header: Mapping[str, Any] = {
            "kind": "adapted",
            "experiment": self._experiment.model_dump(mode="json"),
            "interface": interface_header(self._interface._replace(outputs=len(self.classes))),
            "classes": self.classes,
            "inner_steps": self.steps,
            "versions": versions(),
        }
        tensors = {f"adapted.{name}": value[0] for name, value in self._adapted.params.items()}
        checkpoints.save(Path(path), checkpoints.Checkpoint(header, tensors | {"support": self._adapted.support[0]}))


class Adaptable:
    """A meta-trained checkpoint, ready to learn new classes from a few pictures of each."""

    def __init__(
        self,
        checkpoint: checkpoints.Checkpoint,
        device: torch.device,
        path: Path,
        overrides: Sequence[str] = (),
    ) -> None:
        require_kind(checkpoint, "meta", path)
        self.experiment = with_overrides(from_mapping(checkpoint.header["experiment"], str(path)), overrides)
        self.interface = interface_of(checkpoint, path)
        if self.interface.preprocessing is None:
            raise CheckpointError(f"{path}: was trained on numbers, not on pictures; it cannot classify pictures")
        self._learner = learner_for(self.experiment, self.interface, "support")
        self._meta = meta_of(checkpoint, path, self._learner, device)
        self._device = device

    def adapt(self, images: Pictures, labels: Sequence[Hashable]) -> Classifier:
        """A Classifier of the classes in `labels` [N], learned from `images` [N].

        Raises ConfigError if the number of classes is not the one the checkpoint is tied to, DataError if pictures
        and labels do not match.
        """
        inputs = inputs_of(images, self.interface)
        classes = list(dict.fromkeys(labels))
        if len(inputs) != len(labels):
            raise DataError(f"{len(inputs)} pictures and {len(labels)} labels; each picture needs one label")
        return self.classifiers(inputs, torch.tensor([classes.index(label) for label in labels]), classes)[-1]

    def classifiers(self, inputs: Tensor, targets: Tensor, classes: Sequence[Any]) -> list[Classifier]:
        """Classifiers after 0..K inner steps on prepared inputs [N, C, H, W] with targets 0..W-1 [N]."""
        ways = self._learner.ways
        if ways is not None and len(classes) != ways:
            raise ConfigError(
                f"the support set has {len(classes)} classes, the checkpoint was trained for {ways}: "
                f"give {ways} classes, or train with --set task.ways={len(classes)}"
            )
        support = Examples(inputs.to(self._device).unsqueeze(0), targets.to(self._device).unsqueeze(0))
        states = self._learner.adapt(self._meta, support, evaluation_steps(self.experiment, self._learner))
        make = partial(Classifier, self.experiment, self.interface, self._learner, classes)
        return [make(state, step) for step, state in enumerate(states)]


def load(path: str | Path, device: str = "cpu") -> Adaptable:
    """The meta-trained checkpoint in `path`.

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


def classifier_in(checkpoint: checkpoints.Checkpoint, device: torch.device, path: Path) -> Classifier:
    """The adapted classifier in a checkpoint."""
    require_kind(checkpoint, "adapted", path)
    experiment = from_mapping(checkpoint.header["experiment"], str(path))
    interface = interface_of(checkpoint, path)
    learner = learner_for(experiment, interface, "support")
    support = checkpoint.tensors.get("support", torch.empty(0))
    if support.shape[1:] != interface.input_shape or len(support) < interface.outputs:
        raise CheckpointError(f"{path}: holds no support set; metalearn did not write it")
    # What an adapted learner holds is the learner's own affair: so it says, for the same pictures of any classes.
    like = Examples(support.unsqueeze(0), (torch.arange(len(support)) % interface.outputs).unsqueeze(0))
    unadapted = {name: value[0] for name, value in learner.adapt(learner.init(), like, 0)[0].params.items()}
    stored = fitted(checkpoint.below("adapted."), unadapted, path)
    adapted = Adapted({name: value.to(device).unsqueeze(0) for name, value in stored.items()}, like.inputs.to(device))
    header = checkpoint.header
    return Classifier(experiment, interface, learner, header["classes"], adapted, header["inner_steps"])


def inputs_of(images: Pictures, interface: Interface) -> Tensor:
    """Pictures as network inputs [N, C, H, W], through exactly what `prepare` did to the training pictures.

    Raises DataError for a picture that cannot be read.
    """
    preprocessing = interface.preprocessing
    assert preprocessing is not None
    pictures = from_array(images) if isinstance(images, np.ndarray) else images
    stored = [decode(picture, preprocessing, f"picture {number}") for number, picture in enumerate(pictures)]
    if not stored:
        raise DataError("no pictures given")
    return normalised(np.stack(stored), preprocessing.mean, preprocessing.std)
