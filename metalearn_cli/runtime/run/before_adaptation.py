"""The tensors that a saved classifier needs to learn more: the learner before adaptation, and its support's classes.

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
    """The interface of the learner before adaptation: it has as many outputs as a training task has classes."""
    return interface._replace(outputs=experiment.task.ways)


class BeforeAdaptation(NamedTuple):
    """The meta-parameters before adaptation, and for each support picture the index of its class, int64 [N]."""

    meta: Meta
    targets: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """These tensors under the names that they have in a checkpoint."""
        return leaves(self.meta) | {TARGETS: self.targets}
