"""Regression tasks of a distribution over functions: task i of step s is a function of (seed, part, s, i)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from metalearn_cli.core.objectives import regression
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.datasets import Part, TaskSource
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.data.interface import Data, Families, Interface
from metalearn_cli.runtime.data.random_streams import generator_for, keys_for
from metalearn_cli.runtime.data.sampling import Sampler, TaskSpec


def function_data(name: str, source: TaskSource, ways: int) -> Data:
    """The Data of the dataset `name`. Raises ConfigError if tasks shall have `ways` classes, and not 1."""
    if ways != 1:
        raise ConfigError(f"task.ways: found {ways}, but {name} has no classes; set it to 1")
    family = source.family
    return Data(
        Interface(source.input_shape, source.outputs, regression, None),
        name,
        lambda part, spec, seed: function_sampler(source, part, spec, seed),
        lambda _part: frozenset(),
        lambda _part, _spec, _seed: lambda _step, _number: [],
        families=None if family is None else lambda part, seed: function_families(family, part, seed),
    )


def function_families(family: Callable[[np.random.Generator], str], part: Part, seed: int) -> Families:
    """The family of each task of `function_sampler`."""
    return lambda step, number: family(generator_for(seed, part, step, number))


def function_sampler(source: TaskSource, part: Part, spec: TaskSpec, seed: int) -> Sampler:
    """A Sampler of regression tasks: support [T, shots, ...], query [T, queries, ...]."""

    def sampler(step: int, numbers: Sequence[int]) -> Task:
        examples = spec.shots + spec.queries
        drawn = [source.draw(generator_for(seed, part, step, number), examples) for number in numbers]
        inputs, targets = (torch.from_numpy(np.stack(values)) for values in zip(*drawn, strict=True))
        keys = keys_for(seed, part, step, numbers)
        return Task(
            Examples(inputs[:, : spec.shots], targets[:, : spec.shots], keys=keys),
            Examples(inputs[:, spec.shots :], targets[:, spec.shots :], keys=keys),
        )

    return sampler
