"""Fits a learner to the training classes in closed form, before the first meta-step (`metaqda` and `prototypes`)."""

from collections.abc import Iterator

import torch

from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.pixels import sent
from metalearn_cli.runtime.run.assembly import evaluation_spec
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, on_device

EPISODES = 100
"""The most validation tasks that choose the settings of a fit. With more, the choice moved by less than a grid step."""


def first_meta(experiment: Experiment, learner: Learner, data: Data, device: torch.device) -> Meta:
    """The meta-parameters before the first meta-step, on a device: those of `init`, after the learner's fit if any.

    A fit reads every picture of the training classes once, and `eval.val_episodes` validation tasks, at most 100.

    Raises ConfigError if the learner has a fit and the dataset has no classes.
    """
    meta = Meta(*({name: value.to(device) for name, value in part.items()} for part in learner.init()))
    if learner.fit is None:
        return meta
    if data.passes is None:
        raise ConfigError(f"algorithm.name: {experiment.algorithm.name} is fitted to classes, and the dataset has none")
    classes = (_on(batch, device) for batch in data.passes())
    return learner.fit(meta, classes, _episodes(experiment, data, device))


def _episodes(experiment: Experiment, data: Data, device: torch.device) -> Iterator[Task]:
    sampler = data.sampler("val", evaluation_spec(experiment), experiment.eval.seed)
    count = min(EPISODES, experiment.eval.val_episodes)
    for start in range(0, count, EPISODES_AT_ONCE):
        yield on_device(sampler(0, range(start, min(start + EPISODES_AT_ONCE, count))), device)


def _on(batch: Examples, device: torch.device) -> Examples:
    return batch._replace(inputs=sent(batch.inputs, device), targets=sent(batch.targets, device))
