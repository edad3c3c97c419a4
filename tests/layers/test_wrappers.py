"""Whoever wraps a learner carries all of it: its meta-gradient in every iteration, and the settled one."""

import pytest
import torch

from metalearn_cli.algorithms import imaml, maml_plus_plus
from metalearn_cli.core.gradient import with_fixed
from metalearn_cli.core.meta import Learner, Problem, checkable
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.running_statistics import with_running_statistics
from metalearn_cli.core.tasks import keyed
from metalearn_cli.testing import problems

MADE_ANEW = {"init", "adapt", "predict", "meta_gradient", "implicit"}
WRAPPERS = ["with_running_statistics", "with_fixed"]


def wrapped(name: str, module) -> tuple[Learner, Learner, list[int]]:
    """A learner, the same in a wrapper, and in which iterations its meta-gradient was asked for."""
    network, asked = problems.smooth_network(), []
    plain = module.build(module.Config(), Problem(network, classification, "transductive", problems.WAYS))

    def meta_gradient(meta, tasks, iteration):
        asked.append(iteration)
        return plain.meta_gradient(meta, tasks, iteration)

    learner = plain._replace(meta_gradient=meta_gradient)
    if name == "with_fixed":
        return learner, with_fixed(learner, {"body.0.weight"}), asked
    return learner, with_running_statistics(learner, network), asked


@pytest.mark.parametrize("name", WRAPPERS)
def test_it_carries_every_field_that_it_does_not_make_anew(name):
    learner, after, _ = wrapped(name, maml_plus_plus)
    for field in set(Learner._fields) - MADE_ANEW:
        assert getattr(after, field) == getattr(learner, field), field


@pytest.mark.parametrize("iteration", [0, 3, 10**6])
@pytest.mark.parametrize("name", WRAPPERS)
def test_it_reaches_the_meta_gradient_of_every_iteration(name, iteration):
    learner, after, asked = wrapped(name, maml_plus_plus)
    meta = problems.double(after.init())
    tasks = keyed(problems.picture_tasks(2), torch.arange(2))
    found, scores = after.meta_gradient(meta, tasks, iteration)
    expected, known = learner.meta_gradient(meta._replace(statistics={}), tasks, iteration)
    assert asked == [iteration, iteration]
    assert torch.equal(scores.loss, known.loss)
    assert all(torch.equal(found.params[one], expected.params[one]) for one in found.params)
    assert ("body.0.weight" not in found.params) == (name == "with_fixed")
    assert bool(found.statistics) == (name == "with_running_statistics")


@pytest.mark.parametrize("name", WRAPPERS)
def test_it_reaches_the_settled_learner(name):
    _, after, _ = wrapped(name, imaml)
    settled = checkable(after)
    assert settled is not after
    found, _ = settled.meta_gradient(problems.double(settled.init()), problems.picture_tasks(1))
    assert ("body.0.weight" not in found.params) == (name == "with_fixed")
    assert bool(found.statistics) == (name == "with_running_statistics")
