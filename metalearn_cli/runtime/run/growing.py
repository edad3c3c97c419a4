"""What a classifier keeps so that it can learn more: what it was adapted from, and the class of each picture.

Legend: N pictures.
"""

from typing import NamedTuple

from torch import Tensor

from metalearn_cli.core.meta import Meta
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.run.outer_step import leaves

TARGETS = "targets"


def as_trained(interface: Interface, experiment: Experiment) -> Interface:
    """What the learner before it was adapted sees and gives: as many outputs as a training task has classes."""
    return interface._replace(outputs=experiment.task.ways)


class BeforeAdaptation(NamedTuple):
    """The learner before it was adapted, and the place [N] in its classes of each support picture."""

    meta: Meta
    targets: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps of it, by name."""
        return leaves(self.meta) | {TARGETS: self.targets}
