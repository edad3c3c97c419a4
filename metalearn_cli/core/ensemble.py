"""Ensembles: several learners adapt to a task one by one, and the mean of their outputs is the answer.

MAML++ reports such a mean over the logits of its best checkpoints (Antoniou et al. 2019,
https://arxiv.org/abs/1810.09502). An ensemble can only be measured; each member was trained alone.

Legend: T tasks, N examples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.core.objectives import Objective
from metalearn_cli.core.tasks import Examples


class Ensemble(NamedTuple):
    """Members with the same classes in the same order; `answers` takes the Meta that `together` made of theirs."""

    members: tuple[Learner, ...]

    @property
    def objective(self) -> Objective:
        """The objective of the first member; all members have the same."""
        return self.members[0].objective

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """The outputs [T, N, outputs], averaged over the members, after each number of inner steps in `steps`.

        The members adapt one after the other, so an ensemble needs no more memory for adaptation than one learner.
        """
        members = enumerate(self.members)
        by_member = [member.answers(_part(meta, number), support, inputs, steps) for number, member in members]
        return [torch.stack(outputs).mean(0) for outputs in zip(*by_member, strict=True)]


def together(metas: Sequence[Meta]) -> Meta:
    """One Meta that holds those of all members; the parameter `w` of member 2 is named `2.w`."""
    numbered = list(enumerate(metas))
    # Meta is a NamedTuple of dictionaries: part 0 is params, 1 coefficients, 2 statistics.
    return Meta(
        *(
            {f"{number}.{name}": value for number, meta in numbered for name, value in meta[part].items()}
            for part in range(len(Meta._fields))
        )
    )


def _part(meta: Meta, number: int) -> Meta:
    """The Meta of member `number` alone: the inverse of `together`."""
    prefix = f"{number}."
    own = (
        {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        for values in meta
    )
    return Meta(*own)
