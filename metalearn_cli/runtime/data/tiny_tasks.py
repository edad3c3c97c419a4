"""The smallest tasks on which an experiment's learner can be tested."""

import torch

from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.runtime.data.interface import Interface

_CLASSES, _LEAST = 5, 4  # a batch norm needs several examples for its variance


def tiny_tasks(interface: Interface) -> Task:
    """Two tasks of random numbers in float64, the same in every call, with a few examples of a few classes.

    Support and query set differ in size, and both have enough examples for a batch norm.
    """
    generator = torch.Generator().manual_seed(0)

    def examples(classes: int, each: int) -> Examples:
        inputs = torch.rand(2, classes * each, *interface.input_shape, generator=generator, dtype=torch.float64)
        if interface.objective is classification:
            return Examples(inputs, torch.arange(classes).repeat_interleave(each).expand(2, -1))
        values = torch.rand(2, classes * each, interface.outputs, generator=generator, dtype=torch.float64)
        return Examples(inputs, values)

    classes = min(interface.outputs, _CLASSES) if interface.objective is classification else _LEAST
    return Task(examples(classes, 1 if classes >= _LEAST else 2), examples(min(classes, 3), 2))
