"""Several learners that answer together: the mean of their outputs, each adapted to the task by itself.

As MAML++ does with its best checkpoints (Antoniou et al. 2019, https://arxiv.org/abs/1810.09502), where it is the mean
of the logits. It can be measured, and is not trained.

Legend: T tasks, N examples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta, Objective
from metalearn_cli.core.tasks import Examples


class Ensemble(NamedTuple):
    """Learners whose outputs mean the same; the Meta that it reads is that of `together`, in the same order."""

    members: tuple[Learner, ...]

    @property
    def objective(self) -> Objective:
        """How answers are judged: as those of a single member."""
        return self.members[0].objective

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """The mean over members of their outputs [T, N, outputs] after each of these numbers of inner steps.

        One member after the other is adapted, so that it takes no more memory than one.
        """
        each = [one.answers(_part(meta, number), support, inputs, steps) for number, one in enumerate(self.members)]
        return [torch.stack(outputs).mean(0) for outputs in zip(*each, strict=True)]


def together(metas: Sequence[Meta]) -> Meta:
    """The meta-parameters of all members as one, each name below its member's number."""
    numbered = list(enumerate(metas))
    return Meta(
        *(
            {f"{number}.{name}": value for number, one in numbered for name, value in one[part].items()}
            for part in range(len(Meta._fields))
        )
    )


def _part(meta: Meta, number: int) -> Meta:
    prefix = f"{number}."
    own = (
        {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        for values in meta
    )
    return Meta(*own)
