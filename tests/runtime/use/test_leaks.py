"""Where labels say nothing about pictures no learner can beat chance, unless an answer has leaked to it."""

import pytest
import torch

from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.evaluation import scores_of, summary
from tests.commands import TINY

WAYS, EPISODES = 2, 400


def with_random_labels(sampler):
    """The same pictures, their labels shuffled within each support and each query set."""

    def sample(step, numbers):
        generator = torch.Generator().manual_seed(1000 + numbers[0])

        def shuffled(part: Examples) -> Examples:
            order = torch.rand(part.targets.shape, generator=generator).argsort(1)
            return Examples(part.inputs, part.targets.gather(1, order))

        return Task(*map(shuffled, sampler(step, numbers)))

    return sample


def last_step(algorithm, statistics, data_dir, labels):
    experiment = from_mapping(TINY | {"algorithm": {"name": algorithm}}, "test")
    data = opening.open_data(experiment, data_dir, lambda *_: None)
    learner = assembly.learner_for(experiment, data.interface, statistics)
    sampler = labels(data.sampler("test", TaskSpec(WAYS, 2, 4), 0))
    with running(Plan("vmap", 16, 1)) as runner:
        steps = min(learner.traits.inner_steps, 10)  # a baseline takes a hundred
        return summary(scores_of(learner, runner, learner.init(), sampler, steps, EPISODES))[-1]


@pytest.mark.parametrize("statistics", [pytest.param("transductive", marks=pytest.mark.slow), "support"])
@pytest.mark.parametrize("algorithm", names_in("algorithms"))
def test_random_labels_are_predicted_at_chance(algorithm, statistics, data_dir):
    found = last_step(algorithm, statistics, data_dir, with_random_labels)
    assert abs(found.score - 1 / WAYS) < 2 * found.ci95  # four standard errors


def test_true_labels_are_predicted_above_chance(data_dir):
    found = last_step("protonet", "support", data_dir, lambda sampler: sampler)
    assert found.score - 2 * found.ci95 > 1 / WAYS
