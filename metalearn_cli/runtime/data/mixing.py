"""Mixtures: each task is from one of several datasets, whose pictures get the same size and normalisation."""

from collections.abc import Sequence

import numpy as np
import torch

from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.datasets import Mixture, Part, Preprocessing
from metalearn_cli.runtime.data.random_streams import generator_for
from metalearn_cli.runtime.data.sampling import Names, Sampler
from metalearn_cli.storage.prepared.dataset import Manifest


def common_preprocessing(mixture: Mixture, members: Sequence[tuple[Manifest, str]]) -> Preprocessing:
    """The preprocessing for all members (each with its split): the mixture's shape, and the mean and standard deviation
    of a picture that is drawn by the mixture's weights.
    """
    channels, height, width = mixture.shape
    chosen = [manifest.preprocessing_for(split, mixture.normalisation, channels) for manifest, split in members]
    shares = np.array(mixture.weights) / sum(mixture.weights)
    mean = shares @ np.array([member.mean for member in chosen])
    # The variance of a mixture is E[x^2] - E[x]^2, and a member's E[x^2] is std^2 + mean^2.
    square = shares @ np.array([np.square(member.std) + np.square(member.mean) for member in chosen])
    std = np.sqrt(square - np.square(mean))
    return Preprocessing(
        channels=channels, height=height, width=width, invert=all(member.invert for member in chosen),
        mean=tuple(mean.round(4).tolist()), std=tuple(std.round(4).tolist()),
    )  # fmt: skip


def mixture_sampler(samplers: Sequence[Sampler], weights: Sequence[float], part: Part, seed: int) -> Sampler:
    """A Sampler whose task i of step s comes from one of the `samplers`, which s and i draw by the `weights`."""

    def sampler(step: int, numbers: Sequence[int]) -> Task:
        choices = [_member(weights, part, seed, step, number) for number in numbers]
        tasks = [samplers[choice](step, [number]) for choice, number in zip(choices, numbers, strict=True)]
        return Task(*(_together(halves) for halves in zip(*tasks, strict=True)))

    return sampler


def _together(parts: Sequence[Examples]) -> Examples:
    inputs, targets = torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    keys = [part.keys for part in parts if part.keys is not None]
    return Examples(inputs, targets, parts[0].ways, torch.cat(keys) if keys else None)


def mixture_names(members: Sequence[tuple[str, Names]], weights: Sequence[float], part: Part, seed: int) -> Names:
    """The class names in the tasks of `mixture_sampler`, each with the name of its dataset."""

    def names(step: int, number: int) -> list[str]:
        dataset, of_member = members[_member(weights, part, seed, step, number)]
        return [f"{dataset}: {name}" for name in of_member(step, number)]

    return names


def _member(weights: Sequence[float], part: Part, seed: int, step: int, number: int) -> int:
    """The number of the member from which a task of a mixture comes."""
    shares = np.array(weights, dtype=np.float64) / np.sum(weights)
    return int(generator_for(seed, f"{part} mixture", step, number).choice(len(shares), p=shares))
