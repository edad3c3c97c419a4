"""Classifier: an adapted learner that turns pictures or rows into probabilities, and the files in which it is stored.

Every picture is answered by itself: the norms use the statistics of the support set, whatever statistics the training
had, so one query never changes the answer to another.

Legend: N pictures, W classes.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metalearn_cli.core.heads import HEAD, CosineHead, is_head
from metalearn_cli.core.meta import Adapted, Learner
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.layers.passing import under_prefix
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.run.assembly import backbone_for
from metalearn_cli.runtime.run.before_adaptation import BeforeAdaptation
from metalearn_cli.runtime.run.checkpoint_headers import interface_header, versions
from metalearn_cli.runtime.run.divergence import adaptation_diverged
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.use import export
from metalearn_cli.runtime.use.answer_counts import NO_ANSWER
from metalearn_cli.runtime.use.given_rows import RowsGiven
from metalearn_cli.runtime.use.network_inputs import inputs_of, size_of, with_extractor
from metalearn_cli.runtime.use.plain_network import plain, without_body
from metalearn_cli.runtime.use.python_arguments import Pictures
from metalearn_cli.storage.runs import checkpoints
from metalearn_cli.storage.runs.classifier_forms import require_form

_PICTURES_AT_ONCE = 256  # bounds the memory; support statistics make the answers independent of it
NOT_CALIBRATED = "validation tasks, on which a promise could be tried, belong to training, and its checkpoint has none"


class Classifier:
    """A classifier for the classes of one support set, after `steps` inner steps.

    `classes` are its labels, in the order of the probabilities. `adapted` is a batch of one task. `calibration` is None
    if the probabilities are not calibrated. `origin` is the learner before adaptation; None if the classifier cannot
    learn more classes.

    >>> import metalearn_cli
    >>> learner = metalearn_cli.load("runs/cats/checkpoints/best.pt")
    >>> learner.adapt(np.zeros((2, 28, 28), np.uint8), ["cat", "dog"])
    <Classifier of ['cat', 'dog'] after 2 inner steps on 2 support pictures of 28 x 28 pixels, grey>
    """

    def __init__(
        self, experiment: Experiment, interface: Interface, learner: Learner, classes: Sequence[Any],
        adapted: Adapted, steps: int, calibration: Calibration | None = None, temperature: float = 1.0,
        origin: BeforeAdaptation | None = None,
    ) -> None:  # fmt: skip
        self.classes = list(classes)
        self.calibration = calibration
        self.temperature = temperature if calibration is None else calibration.temperature
        self.steps, self.origin = steps, origin
        self._experiment, self._interface = experiment, interface
        self._learner, self._adapted = learner, adapted

    def __repr__(self) -> str:
        examples = f"support {self._interface.noun.many} of {size_of(self._interface)}"
        pictures = f"{self._adapted.support.shape[1]} {examples}"
        return f"<Classifier of {reprlib.repr(self.classes)} after {self.steps} inner steps on {pictures}>"

    def predict(self, images: Pictures | RowsGiven) -> list[Any]:
        """The most probable label of each picture, or row, as a list; a single one gives a list of one label.

        Raises DivergedError if the answers are not finite, DataError if something given is not a picture or row.
        """
        return [self.classes[best] for best in self.predict_proba(images).argmax(1)]

    def predict_proba(self, images: Pictures | RowsGiven) -> NDArray[np.float32]:
        """The probability of each class for each picture, [N, W]; rows sum to 1.

        Raises as `predict` does.
        """
        return self.probabilities(inputs_of(images, self._interface))

    def probabilities(self, inputs: Tensor) -> NDArray[np.float32]:
        """As `predict_proba`, for inputs [N, ...] that `inputs_of` has prepared."""
        rows: NDArray[np.float32] = (self._answers(inputs) / self.temperature).softmax(-1).cpu().numpy()
        return rows

    def predict_sets(self, images: Pictures | RowsGiven, coverage: float = 0.9) -> list[list[Any]]:
        """For each picture a list of labels that contains the right one with probability `coverage` in a new task.

        The most probable label comes first; a list may be empty. Raises ConfigError without a calibration.
        """
        rows = self.predict_proba(images)
        return [[self.classes[place] for place in places] for places in self.sets(rows, coverage)]

    def sets(self, rows: NDArray[np.float32], coverage: float) -> list[list[int]]:
        """As `predict_sets`, from probabilities [N, W]; the sets hold places in `classes`."""
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage: found {coverage}, expected a fraction between 0 and 1, such as 0.9 for 90 %")
        floor = self._promised().floor(coverage)
        return [[int(place) for place in (-row).argsort(kind="stable") if row[place] >= floor] for row in rows]

    def none_of_these(self, images: Pictures | RowsGiven) -> list[bool]:
        """For each picture whether it shows none of the classes. Of pictures that do show one, 95 % get False.

        Raises ConfigError if the classifier is not calibrated.
        """
        return self.strangers(inputs_of(images, self._interface))

    def strangers(self, inputs: Tensor) -> list[bool]:
        """As `none_of_these`, for inputs [N, ...] that `inputs_of` has prepared."""
        turned_away: list[bool] = self._promised().strangers(self._answers(inputs)).tolist()
        return turned_away

    def _promised(self) -> Calibration:
        if self.calibration is None:
            raise ConfigError(f"this classifier is not calibrated: {NOT_CALIBRATED}")
        return self.calibration

    def _answers(self, inputs: Tensor) -> Tensor:
        """Outputs [N, W] for prepared pictures. Raises DivergedError if one is not finite."""
        outputs = self.outputs(inputs)
        if not bool(outputs.isfinite().all()):
            raise adaptation_diverged(self.steps, "answers")
        return outputs

    def places(self, inputs: Tensor) -> NDArray[np.int64]:
        """For each picture the place in `classes` of the most probable class; NO_ANSWER if an output is not finite."""
        outputs = self.outputs(inputs)
        best: NDArray[np.int64] = outputs.argmax(-1).where(outputs.isfinite().all(-1), NO_ANSWER).cpu().numpy()
        return best

    def outputs(self, inputs: Tensor) -> Tensor:
        """The outputs [N, W] of the adapted learner for prepared pictures, before temperature and softmax."""
        inputs = inputs.to(self._adapted.support.device)
        starts = range(0, len(inputs), _PICTURES_AT_ONCE)
        parts = [inputs[start : start + _PICTURES_AT_ONCE] for start in starts]
        with torch.no_grad():
            return torch.cat([self._learner.predict([self._adapted], part.unsqueeze(0))[0][0] for part in parts])

    @property
    def lost(self) -> str:
        """The part that is not finite: "weights", or "answers" to its own support set; "" if everything is finite."""
        if not all(bool(value.isfinite().all()) for value in self._adapted.params.values()):
            return "weights"
        return "" if bool(self.outputs(self._adapted.support[0]).isfinite().all()) else "answers"

    @property
    def interface(self) -> Interface:
        """The interface of its network: input shape, outputs, preprocessing."""
        return self._interface

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the user on the way in which its network runs."""
        return self._learner.traits.remarks

    @property
    def experiment(self) -> Experiment:
        """The experiment by which its learner was trained."""
        return self._experiment

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""
        return self._adapted.support.device

    @property
    def support(self) -> Tensor:
        """The support inputs [N, C, H, W] that it was adapted to, on the CPU."""
        return self._adapted.support[0].cpu()

    def module(self) -> nn.Module:
        """The same classifier as plain torch layers on the CPU: normalised inputs [N, C, H, W] to logits [N, W].

        Its parameters have the names of the backbone's parameters. Its norms hold the statistics of the support set as
        constants, so it does not need the support pictures.

        Raises ConfigError if the classifier has no such form.
        """
        adapted = Adapted(*({n: v.cpu() for n, v in self._adapted.params.items()}, self._adapted.support.cpu()))
        params = {name: value[0] for name, value in adapted.params.items()}
        with torch.no_grad():
            outputs = self._learner.predict([adapted], adapted.support)[0][0]
        reads = self._learner.traits.reads
        if reads == "pixels":
            network = without_body(math.prod(self._interface.input_shape))
            params = {name: value for name, value in params.items() if is_head(name)}
            return plain(network, params, adapted.support[0], outputs)
        network = backbone_for(self._experiment, self._interface)
        if reads == "directions":
            network.head = CosineHead(1, 1)  # only a placeholder; `plain` gives it the size of the parameters
        if self._learner.traits.head is not None:
            network.head = self._learner.traits.head(under_prefix(HEAD, params))
            params = {name: value for name, value in params.items() if name in dict(network.named_parameters())}
        return plain(network, params, adapted.support[0], outputs)

    def save(self, path: str | Path) -> None:
        """Write the classifier to `path`, in the form that the suffix chooses.

        `.pt` is a checkpoint for `load_classifier`. `.safetensors` holds the parameters of `module()`. `.pt2` is a
        `torch.export` program from uint8 pictures [N, H, W, C], or rows, to logits (docs/export.md).

        Raises ConfigError for another suffix, for a label that is neither a string nor a number, or if the classifier
        has no such form; DivergedError if its answers are not finite; RunError if the disk refuses.
        """
        path = Path(path)
        require_form(path)
        if lost := self.lost:
            raise adaptation_diverged(self.steps, lost)
        odd = [label for label in self.classes if not isinstance(label, str | int | float)]
        if odd:
            raise ConfigError(f"a label is {odd[0]!r}; only strings and numbers can be saved")
        if path.suffix == ".pt":
            checkpoints.save(path, self._checkpoint())
            return
        network, seen = self.module(), self._interface.preprocessing
        about = export.export_header(self._experiment, self._interface._replace(outputs=len(self.classes)), "adapted")
        about |= {"classes": self.classes, "inner_steps": self.steps, "network": str(network)} | self._promise_header()
        if path.suffix == ".safetensors":
            export.write_weights(path, network.state_dict(), about)
        elif self._interface.table is not None:
            export.write_rows_program(path, network, self._interface.table, about)
        else:
            assert seen is not None
            export.write_program(path, with_extractor(network, self._interface), seen, about)

    def _promise_header(self) -> dict[str, Any]:
        promised = None if self.calibration is None else self.calibration.model_dump(mode="json")
        return {"calibration": promised, "temperature": self.temperature}

    def _checkpoint(self) -> checkpoints.Checkpoint:
        header: Mapping[str, Any] = {
            "kind": "adapted",
            "experiment": self._experiment.model_dump(mode="json"),
            "interface": interface_header(self._interface._replace(outputs=len(self.classes))),
            "classes": self.classes,
            "inner_steps": self.steps,
            **self._promise_header(),
            "versions": versions(),
        }
        tensors = {f"adapted.{name}": value[0] for name, value in self._adapted.params.items()}
        tensors |= {} if self.origin is None else self.origin.tensors()
        return checkpoints.Checkpoint(header, tensors | {"support": self._adapted.support[0]})
