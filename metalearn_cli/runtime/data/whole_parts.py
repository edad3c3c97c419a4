"""Draws pictures other than those of tasks: every picture of a part once, and pictures of classes outside a task."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.runtime.data.random_streams import generator_for
from metalearn_cli.runtime.data.sampling import Draw, Pool, Sampler, TaskSpec, classes_of, gather

_AT_ONCE = 128

Passes = Callable[[], Iterator[Examples]]
"""All pictures of the training classes, in batches of one task [1, N, ...] whose targets are class numbers."""


def every_picture(pool: Pool) -> Iterator[Examples]:
    """All pictures of a pool's classes, class after class, without augmentation and turned by its classes' turns."""
    plain, classes = pool._replace(augmentation=()), len(pool.counts)
    for number in range(classes):
        for start in range(0, int(pool.counts[number]), _AT_ONCE):
            stop = min(start + _AT_ONCE, int(pool.counts[number]))
            images = pool.starts[number] + np.arange(start, stop)[None]
            draw = Draw(images, np.asarray(pool.turns[number : number + 1]))
            batch = gather(plain, TaskSpec(1, stop - start, 0), [draw]).support
            yield Examples(batch.inputs, torch.full_like(batch.targets, number), classes)


def numbered_after(pools: Sequence[Callable[[], Iterator[Examples]]]) -> Iterator[Examples]:
    """The pictures of several pools; the class numbers of each pool continue after those of the pool before."""
    before = 0
    for passes in pools:
        classes = 0
        for batch in passes():
            classes = batch.ways or 0
            yield batch._replace(targets=batch.targets + before)
        before += classes


def draw_strangers(pool: Pool, spec: TaskSpec, seed: int, step: int, number: int) -> Draw:
    """Draw pictures [W * queries, 1] of classes that task `number` of meta-batch `step` does not have.

    The task is that of `picture_sampler`. Its other classes get equally many pictures, or one more than another.
    """
    own = classes_of(pool, spec, generator_for(seed, pool.part, step, number))
    others = np.setdiff1d(np.arange(len(pool.counts)), own)
    generator = generator_for(seed, f"{pool.part} strangers", step, number)
    count = spec.ways * spec.queries
    chosen = np.resize(generator.permutation(others), count)  # repeats the permutation until there are enough
    images = pool.starts[chosen] + generator.integers(0, pool.counts[chosen])
    turns = generator.integers(0, 4, count) if pool.turn_per_task else pool.turns[chosen]
    return Draw(images[:, None], turns)


def stranger_sampler(pool: Pool, spec: TaskSpec, seed: int) -> Sampler:
    """A Sampler whose task i has the pictures of `draw_strangers` as its support set.

    Their targets have no meaning, and the query set is empty.
    """
    plain = pool._replace(augmentation=())

    def sampler(step: int, numbers: Sequence[int]) -> Task:
        draws = [draw_strangers(pool, spec, seed, step, number) for number in numbers]
        return gather(plain, TaskSpec(spec.ways * spec.queries, 1, 0), draws)

    return sampler
