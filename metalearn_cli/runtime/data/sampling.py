"""Samples tasks without state: task i of step s is a function of (seed, part, s, i) and of nothing else.

Legend: T tasks, W ways, E examples per class (shots + queries).
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.core.tasks import Examples, Task, keyed
from metalearn_cli.datasets import Part, Preprocessing, Sampling
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.runtime.data.augmentation import augmented, chances_for, per_channel, resized_to
from metalearn_cli.runtime.data.pixels import Pixels, normalised, sent, turned
from metalearn_cli.runtime.data.random_streams import generator_for, keys_for
from metalearn_cli.storage.prepared.dataset import Prepared

Sampler = Callable[[int, Sequence[int]], Task]
"""`sampler(step, numbers)` returns the tasks `numbers` of meta-batch `step`, on the device of the opened data."""

Names = Callable[[int, int], list[str]]
"""`names(step, number)` returns the class names of task `number` of meta-batch `step`, in the order of its targets."""


class TaskSpec(NamedTuple):
    """The size of a task: W classes, K shots and Q queries of each."""

    ways: int
    shots: int
    queries: int

    def values(self, input_shape: tuple[int, ...]) -> int:
        """The number of input values in a task."""
        return self.ways * (self.shots + self.queries) * math.prod(input_shape)


class Pool(NamedTuple):
    """The classes of one part, and the changes of their pictures.

    Class c has `counts[c]` images, from number `starts[c]` on, turned by `turns[c]` times 90 degrees. With
    `turn_per_task`, each class of a task is turned by a random multiple of 90 degrees instead. Pictures are resized to
    `shape` (C, H, W), changed by the `augmentation`s, and then normalised: (pixel / 255 - mean) / std.

    With `shape` (F,) the images are stored features: `views` rows for each picture, the first one of the picture
    itself. Training draws one of them; validation and test take the first.
    """

    part: Part
    images: Pixels
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    turns: NDArray[np.int64]
    turn_per_task: bool
    augmentation: Sequence[str]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: Sequence[str] = ()
    views: int = 1


class Draw(NamedTuple):
    """The pictures of one task: image numbers [W, E] (shots first), and turns [W] in units of 90 degrees.

    `chances` [W, E, R]: R random numbers for the augmentation of each image. `view` [W, E] (only for features): the
    stored version to take of each image; None takes the first.
    """

    images: NDArray[np.int64]
    turns: NDArray[np.int64]
    chances: NDArray[np.float32] | None = None
    view: NDArray[np.int64] | None = None

    def rows(self, views: int) -> NDArray[np.int64]:
        """The numbers [W, E] of the rows in a store that has `views` rows for each image."""
        return self.images * views + (0 if self.view is None else self.view)


def pool_of(prepared: Prepared, images: Pixels, sampling: Sampling, part: Part, seen: Preprocessing) -> Pool:
    """The classes of `part` in the split that `sampling` names, prepared for a network that expects `seen`.

    `images` are the pictures of the prepared dataset.

    Raises DataError if the prepared dataset has no such split.
    """
    manifest = prepared.manifest
    names = manifest.class_names(sampling.split, part)
    if not names:
        raise DataError(
            f"{manifest.dataset} has no part '{part}' of split '{sampling.split}'; prepare it again with --force"
        )
    index = {entry.name: number for number, entry in enumerate(manifest.classes)}
    chosen = np.array([index[name] for name in names], dtype=np.int64)
    rotated = part in sampling.rotated
    copies = 4 if rotated and sampling.rotations == "classes" else 1
    counts = np.array([entry.count for entry in manifest.classes], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return Pool(
        part=part,
        images=images,
        starts=np.tile(starts[chosen], copies),
        counts=np.tile(counts[chosen], copies),
        turns=np.repeat(np.arange(copies), len(chosen)),
        turn_per_task=rotated and sampling.rotations == "task",
        augmentation=sampling.augmentation if part == "train" else (),
        shape=(seen.channels, seen.height, seen.width),
        mean=seen.mean,
        std=seen.std,
        names=[f"{name}{f', turned by {90 * turn}°' if turn else ''}" for turn in range(copies) for name in names],
    )


def check(pool: Pool, spec: TaskSpec, dataset: str) -> None:
    """Raise ConfigError if the part has too few classes for a task, DataError if a class has too few images."""
    if spec.ways > len(pool.counts):
        raise ConfigError(
            f"task.ways: {spec.ways} asked, but part '{pool.part}' of {dataset} has {len(pool.counts)} classes"
        )
    needed, fewest = spec.shots + spec.queries, int(pool.counts.min())
    if needed > fewest:
        raise DataError(
            f"{dataset}: a class of part '{pool.part}' has {fewest} images, "
            f"{needed} are needed ({spec.shots} shots + {spec.queries} queries)"
        )


def draw(pool: Pool, spec: TaskSpec, seed: int, step: int, number: int) -> Draw:
    """Draw task `number` of meta-batch `step`: distinct classes in random order, distinct images of each.

    Episodes as in Vinyals et al. 2016, section 4.1 (https://arxiv.org/abs/1606.04080).
    """
    generator = generator_for(seed, pool.part, step, number)
    classes = classes_of(pool, spec, generator)
    examples = spec.shots + spec.queries
    images = [pool.starts[c] + generator.choice(pool.counts[c], examples, replace=False) for c in classes]
    turns = generator.integers(0, 4, spec.ways) if pool.turn_per_task else pool.turns[classes]
    # These are drawn last, so that a task has the same pictures with and without augmentation.
    each = (spec.ways, examples, chances_for(pool.augmentation))
    chances = generator.random(each, dtype=np.float32) if pool.augmentation else None
    several = pool.views > 1 and pool.part == "train"
    view = generator.integers(0, pool.views, (spec.ways, examples)) if several else None
    return Draw(np.stack(images), turns, chances, view)


def classes_of(pool: Pool, spec: TaskSpec, generator: np.random.Generator) -> NDArray[np.int64]:
    """The places [W] of a task's classes in the pool. They are the first numbers drawn from the task's generator."""
    return generator.choice(len(pool.starts), spec.ways, replace=False)


def gather(pool: Pool, spec: TaskSpec, draws: Sequence[Draw]) -> Task:
    """The tensors of the tasks that `draws` describe.

    Shapes: support.inputs [T, W * shots, C, H, W], query.inputs [T, W * queries, C, H, W], class after class;
    targets 0..W-1 as int64. Inputs are float32.
    """
    pixels = pool.images.taken(torch.from_numpy(np.stack([task.rows(pool.views) for task in draws])))
    inputs = _seen(pool, turned(pixels, np.stack([task.turns for task in draws])), draws)
    return Task(_examples(inputs[:, :, : spec.shots]), _examples(inputs[:, :, spec.shots :]))


def _seen(pool: Pool, pixels: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Pixels [T, W, E, H, W, C] or features [T, W, E, F] as network inputs [T, W, E, *shape]."""
    if len(pool.shape) == 1:
        return pixels.to(torch.float32)
    height, width = pool.shape[1:]
    stored = (pixels.shape[-1], *pixels.shape[3:5])
    if stored == pool.shape and not pool.augmentation:
        return normalised(pixels, pool.mean, pool.std)
    plain = normalised(pixels, (0.0,) * stored[0], (1.0,) * stored[0])
    pictures = resized_to(plain.flatten(0, 2), (pool.shape[0], height, width))
    if pool.augmentation:
        chances = torch.from_numpy(np.stack([task.chances for task in draws if task.chances is not None]))
        pictures = augmented(pictures, sent(chances, pixels.device).flatten(0, 2), pool.augmentation)
    mean, std = (per_channel(tuple(values), pixels.device) for values in (pool.mean, pool.std))
    return ((pictures - mean) / std).reshape(*plain.shape[:3], *pool.shape)


def picture_sampler(pool: Pool, spec: TaskSpec, seed: int) -> Sampler:
    """A Sampler of classification tasks."""

    def sampler(step: int, numbers: Sequence[int]) -> Task:
        tasks = gather(pool, spec, [draw(pool, spec, seed, step, number) for number in numbers])
        return keyed(tasks, keys_for(seed, pool.part, step, numbers))

    return sampler


def picture_names(pool: Pool, spec: TaskSpec, seed: int) -> Names:
    """The names of the classes in the tasks of `picture_sampler`."""
    return lambda step, number: [
        pool.names[place] for place in classes_of(pool, spec, generator_for(seed, pool.part, step, number))
    ]


def numbered_sampler(pool: Pool, spec: TaskSpec, seed: int, most: int) -> Sampler:
    """The tasks of `picture_sampler`, but with the classes' numbers in the pool as targets (only the baselines).

    Raises ConfigError if the pool has more classes than `most`.
    """
    if (classes := len(pool.counts)) > most:
        found = f"found {most}, but part '{pool.part}' has {classes} classes"
        raise ConfigError(f"algorithm.classes: {found}; set it to {classes} or more")
    tasks = picture_sampler(pool, spec, seed)

    def sampler(step: int, numbers: Sequence[int]) -> Task:
        places = [classes_of(pool, spec, generator_for(seed, pool.part, step, number)) for number in numbers]
        drawn = tasks(step, numbers)
        chosen = sent(torch.from_numpy(np.stack(places)), drawn.support.targets.device)
        # chosen [T, W] maps the targets 0..W-1 of a task to the numbers of its classes in the pool.
        return Task(*(half._replace(targets=chosen.gather(1, half.targets), ways=most) for half in drawn))

    return sampler


def episodes_fingerprint(sampler: Sampler, episodes: int) -> str:
    """A digest of the first 16 episodes and of their number; equal digests mean equal episodes."""
    tasks = sampler(0, range(min(episodes, 16)))
    digest = hashlib.sha256(str(episodes).encode())
    for tensor in (tensor for half in tasks for tensor in (half.inputs, half.targets)):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _examples(inputs: Tensor) -> Examples:
    tasks, ways, each = inputs.shape[:3]
    targets = torch.arange(ways, device=inputs.device).repeat_interleave(each).expand(tasks, -1)
    return Examples(inputs.reshape(tasks, ways * each, *inputs.shape[3:]), targets, ways)
