"""Pass: the settings of one pass through a network, besides its parameters and inputs.

The network hands it to its layers as an argument. No layer keeps it after the call.

Legend: T tasks, N examples, C channels.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from metalearn_cli.layers.cpu.kernels import Kernels

Params = dict[str, Tensor]
Moments = tuple[Tensor, Tensor]
"""A mean and a variance, [C]."""


class KeptInputs:
    """The form in which a first block needs its inputs, kept for the next pass of the same inputs."""

    made: tuple[Tensor, Hashable, Any] | None = None

    def of(self, inputs: Tensor, kind: Hashable, make: Callable[[], Any]) -> Any:
        """`make()`, or what it made the last time, if that was of the same inputs and kind."""
        if self.made is None or self.made[1] != kind or not self.made[0].is_set_to(inputs):
            self.made = (inputs, kind, make())
        return self.made[2]


class Pass(NamedTuple):
    """The behaviour of norms and random layers in one pass of T tasks.

    By default, norms use the statistics of the whole batch, and nothing is random.

    `reference`: norms use the statistics of the first `reference` examples only (statistics "support").
    `moments`: norms use these means and variances [C], found by "NAME.mean" and "NAME.variance" (statistics "running").
    `collected`: norms add the moments of their batches to this dictionary, under the same names, and the number of
        batches under "NAME.batches" (only training with running statistics).
    `keys`: random layers are functions of these keys, one for each task, int64 [T] (only training).
    `small`: a single small task, which torch's own functions run (layers/one_task.py).
    `before`: the number of examples of each task in earlier passes. Random layers number the examples of this pass
        from there, so that queries do not get the random numbers of the support set.
    `kernels`: compiled functions for convolutions and the layers after them (cpu/kernels.py); None is torch alone.
    `kept`: the first block keeps here what it made of its inputs, because they come again with other parameters
        (cpu/first_block.py); None keeps nothing.
    `name`: the name of the current layer in the network.
    `first_names`: for a layer that stands in several places of the network: its first name, by each other name.
    """

    reference: int | None = None
    moments: Params | None = None
    collected: Params | None = None
    keys: Tensor | None = None
    small: bool = False
    before: int = 0
    kernels: Kernels | None = None
    kept: "KeptInputs | None" = None
    name: str = ""
    first_names: Mapping[str, str] = {}

    @property
    def by_batch(self) -> bool:
        """Whether norms use the statistics of their whole batch and need not report them."""
        return self.reference is None and self.moments is None and self.collected is None

    @property
    def by_reference(self) -> bool:
        """Whether norms use the statistics of the first examples and need not report them."""
        return self.reference is not None and self.moments is None and self.collected is None

    def at(self, child: str) -> "Pass":
        """The same pass with the name of a child of the current module."""
        return self._replace(name=f"{self.name}.{child}" if self.name else child)

    def of_task(self, number: int) -> "Pass":
        """The same pass for task `number` alone."""
        return self if self.keys is None else self._replace(keys=self.keys[number : number + 1])

    def moments_here(self) -> Moments | None:
        """The mean and the variance in `moments` for the current norm; None if `moments` is None."""
        if self.moments is None:
            return None
        # A norm that stands in several places has one pair of running statistics, under its first name.
        name = self.first_names.get(self.name, self.name)
        return self.moments[f"{name}.mean"], self.moments[f"{name}.variance"]

    def collect(self, batches: int, moments: Moments) -> None:
        """Add `moments`, each [C] and summed over `batches` batches, to those that `collected` has of this norm."""
        assert self.collected is not None
        name = self.first_names.get(self.name, self.name)
        count = moments[0].new_tensor(float(batches))
        for kind, value in zip(("batches", "mean", "variance"), (count, *moments), strict=True):
            key = f"{name}.{kind}"
            self.collected[key] = self.collected[key] + value if key in self.collected else value


BY_BATCH = Pass()
"""The default pass: norms use the statistics of their whole batch, and nothing is random."""


def under_prefix(prefix: str, params: Params) -> Params:
    """The parameters whose names start with `prefix`, under their names without it.

    >>> import torch
    >>> list(under_prefix("body.", {"body.0.weight": torch.ones(2), "head.weight": torch.ones(3)}))
    ['0.weight']
    """
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
