"""Learners on the same tasks: the differences are those of the single tasks, and pixels are compared as they are."""

import numpy as np
import pytest
import torch

from metalearn_cli.core.meta import scores_per_step
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.assembly import learner_for
from metalearn_cli.runtime.use.worth import Contender, compared, nearest_pixels
from tests.commands import TINY


def test_every_row_has_the_difference_to_the_last_on_the_same_tasks(data_dir):
    experiment = from_mapping(TINY, "test")
    data = open_data(experiment, data_dir, lambda *_: None)
    learner, device = learner_for(experiment, data.interface, "support"), torch.device("cpu")
    meta = learner.init()
    every = [nearest_pixels(experiment, data, device), Contender("this run", learner, meta, 1)]
    with running(Plan("vmap", 8, 1)) as runner:
        found = list(compared(every, runner, experiment, data, "test", 12))
    assert [(one.ways, one.shots, one.episodes) for one in found] == [(2, 1, 12), (2, 5, 12)]
    tasks = data.sampler("test", TaskSpec(2, 1, 3), 0)(0, range(12))
    own = scores_per_step(learner, 1, meta, tasks).score[:, -1].double()
    inputs, queries = (half.inputs.flatten(2) for half in tasks)  # one shot of each class: the support is the centres
    nearest = (torch.cdist(queries, inputs).argmin(-1) == tasks.query.targets).double().mean(1)
    pixels, last = found[0].rows
    assert pixels.accuracy == pytest.approx(float(nearest.mean()), abs=1e-6)
    assert last.accuracy == pytest.approx(float(own.mean()), abs=1e-6)
    assert pixels.difference == pytest.approx(float((own - nearest).mean()), abs=1e-6)
    assert pixels.difference_ci95 == pytest.approx(1.96 * float((own - nearest).std()) / np.sqrt(12), abs=1e-6)
    assert (last.difference, last.difference_ci95) == (0, 0)
