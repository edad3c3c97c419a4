"""Sines of random amplitude and phase: the regression benchmark of Finn et al. 2017, section 5.1."""

from typing import Literal

import numpy as np

from metalearn_cli.datasets import Floats, TaskSource
from metalearn_cli.settings import Choice


class Config(Choice):
    """This dataset has no settings."""

    name: Literal["sinusoid"] = "sinusoid"


def build(_config: Config) -> TaskSource:
    """Regressions y = A sin(x - phase), with x and y of shape [examples, 1]."""
    return TaskSource(input_shape=(1,), outputs=1, draw=draw_sine)


def draw_sine(generator: np.random.Generator, examples: int) -> tuple[Floats, Floats]:
    """Inputs x and targets y of one random sine: A from [0.1, 5], phase from [0, pi], x from [-5, 5], all uniform."""
    amplitude, phase = generator.uniform(0.1, 5.0), generator.uniform(0.0, np.pi)
    inputs = generator.uniform(-5.0, 5.0, (examples, 1))
    return inputs.astype(np.float32), (amplitude * np.sin(inputs - phase)).astype(np.float32)
