"""Functions of several families: the multi-modal regression benchmark of Vuorio et al. 2019 (arXiv 1910.13616).

Inputs are uniform in [-5, 5], targets have Gaussian noise of standard deviation 0.3, and every task is of one family,
each as often as another. The ranges are those of the authors' code (github.com/vuoristo/MMAML-Regression): two modes
are sine and line; three have quadratic, five have tanh and absolute besides.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from metalearn_cli.datasets import Floats, TaskSource
from metalearn_cli.settings import Choice

Family = Literal["sine", "line", "quadratic", "tanh", "absolute"]
Values = NDArray[np.float64]


class Config(Choice):
    """Families to draw from.

    `of`: their names, each once.
    `noise`: the standard deviation of what is added to the targets, of both halves of a task.
    """

    name: Literal["functions"] = "functions"
    of: list[Family] = Field(default=["sine", "line", "quadratic", "tanh", "absolute"], min_length=1)
    noise: float = Field(default=0.3, ge=0, le=100)

    @field_validator("of")
    @classmethod
    def _each_once(cls, of: list[Family]) -> list[Family]:
        if len(set(of)) < len(of):
            raise ValueError(f"found {of}, expected each family once")
        return of


def build(config: Config) -> TaskSource:
    """Tasks with inputs [examples, 1] and targets alike."""
    return TaskSource(
        input_shape=(1,),
        outputs=1,
        draw=lambda *given: draw_function(config, *given),
        family=lambda generator: drawn_family(config, generator),
    )


def drawn_family(config: Config, generator: np.random.Generator) -> Family:
    """The family of a task, which is the first that its generator draws."""
    return config.of[int(generator.integers(len(config.of)))]


def draw_function(config: Config, generator: np.random.Generator, examples: int) -> tuple[Floats, Floats]:
    """One function of one family, at `examples` places."""
    function = FAMILIES[drawn_family(config, generator)](generator)
    inputs = generator.uniform(-5.0, 5.0, (examples, 1))
    targets = function(inputs) + config.noise * generator.normal(size=inputs.shape)
    return inputs.astype(np.float32), targets.astype(np.float32)


def sine(generator: np.random.Generator) -> Callable[[Values], Values]:
    """A sin(x - phase), A from [0.1, 5], phase from [0, pi]."""
    amplitude, phase = generator.uniform(0.1, 5.0), generator.uniform(0.0, np.pi)
    return lambda x: amplitude * np.sin(x - phase)


def line(generator: np.random.Generator) -> Callable[[Values], Values]:
    """A x + b, both from [-3, 3]."""
    slope, bias = generator.uniform(-3.0, 3.0, 2)
    return lambda x: slope * x + bias


def quadratic(generator: np.random.Generator) -> Callable[[Values], Values]:
    """±a (x - c)^2 + b, a from [0.02, 0.15], b and c from [-3, 3]."""
    steepness = generator.uniform(0.02, 0.15) * generator.choice([-1.0, 1.0])
    centre, bias = generator.uniform(-3.0, 3.0, 2)
    return lambda x: steepness * (x - centre) ** 2 + bias


def smooth_step(generator: np.random.Generator) -> Callable[[Values], Values]:
    """The slope times tanh(x - c), plus b, all from [-3, 3]."""
    slope, centre, bias = generator.uniform(-3.0, 3.0, 3)
    return lambda x: slope * np.tanh(x - centre) + bias


def absolute(generator: np.random.Generator) -> Callable[[Values], Values]:
    """A |x - c| + b, all from [-3, 3]."""
    slope, centre, bias = generator.uniform(-3.0, 3.0, 3)
    return lambda x: slope * np.abs(x - centre) + bias


FAMILIES: Mapping[str, Callable[[np.random.Generator], Callable[[Values], Values]]] = {
    "sine": sine, "line": line, "quadratic": quadratic, "tanh": smooth_step, "absolute": absolute,
}  # fmt: skip
