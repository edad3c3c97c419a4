"""What one pass through a network must know besides its parameters and inputs.

It is handed from the network to its layers as an argument; nothing of it is kept anywhere.

Legend: T tasks, N examples, C channels.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

Params = dict[str, Tensor]
Moments = tuple[Tensor, Tensor]
"""A mean and a variance, [C]."""


class Pass(NamedTuple):
    """How norms and random layers behave in one pass of T tasks; by default norms see the batch, nothing is random.

    `reference`: norms take their statistics from the first so many examples alone (statistics "support").
    `moments`: norms take these instead, "NAME.mean" and "NAME.variance" [C] by their name (statistics "running").
    `collected`: norms add the moments of the batches that they see to this dictionary, by the same names, and how many
        there were as "NAME.batches" (only training with running statistics).
    `keys`: random layers draw by these keys of the tasks, [T] int64 (only training).
    `before`: so many examples of each task were in an earlier pass: random layers number those at hand after them.
    `name`: the layer at hand, by its name in the network.
    `first_names`: of layers that stand in several places of the network, the name of the first by that of each other.
    """

    reference: int | None = None
    moments: Params | None = None
    collected: Params | None = None
    keys: Tensor | None = None
    before: int = 0
    name: str = ""
    first_names: Mapping[str, str] = {}

    @property
    def by_batch(self) -> bool:
        """Whether norms take the statistics of all of their batch, and nobody wants to see them."""
        return self.reference is None and self.moments is None and self.collected is None

    def at(self, child: str) -> "Pass":
        """The same for a child of the module at hand."""
        return self._replace(name=f"{self.name}.{child}" if self.name else child)

    def of_task(self, number: int) -> "Pass":
        """The same for one of the T tasks alone."""
        return self if self.keys is None else self._replace(keys=self.keys[number : number + 1])

    def moments_here(self) -> Moments | None:
        """The mean and the variance that the norm at hand is to take; None where it takes others."""
        if self.moments is None:
            return None
        name = self.first_names.get(self.name, self.name)
        return self.moments[f"{name}.mean"], self.moments[f"{name}.variance"]

    def collect(self, batches: int, moments: Moments) -> None:
        """Add the moments [C] of so many batches that the norm at hand has seen."""
        assert self.collected is not None
        name = self.first_names.get(self.name, self.name)
        count = moments[0].new_tensor(float(batches))
        for kind, value in zip(("batches", "mean", "variance"), (count, *moments), strict=True):
            key = f"{name}.{kind}"
            self.collected[key] = self.collected[key] + value if key in self.collected else value


BY_BATCH = Pass()
"""Norms see all of their batch, and nothing is random."""
