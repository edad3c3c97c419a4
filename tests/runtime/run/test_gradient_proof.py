"""The proof of a dry run: of the way that will run, against the loss that evaluation computes."""

import pytest
import torch

from metalearn_cli.core.meta import LAST, Scores
from metalearn_cli.core.objectives import classification
from metalearn_cli.errors import ConfigError, DeviceError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.machine import execution
from metalearn_cli.runtime.run import gradient_proof
from metalearn_cli.testing import problems
from tests.commands import TINY

CPU = torch.device("cpu")
INTERFACE = Interface((1, 16, 16), 2, classification, None)


def experiment(**blocks: object):
    return from_mapping({**TINY, **blocks}, "a test")


@pytest.mark.parametrize("mode", ["loop", "vmap", "threads"])
def test_the_way_that_runs_is_the_way_that_is_proved(mode, monkeypatch):
    seen = []
    total = execution.Runner.total
    monkeypatch.setattr(
        execution.Runner, "total", lambda self, *rest: seen.append(self.plan.mode) or total(self, *rest)
    )
    found = gradient_proof.prove(experiment(execution={"mode": mode}), INTERFACE, CPU)
    assert found.plan.mode == mode
    assert seen == ([] if mode == "loop" else [mode])
    assert found.parallel < 1e-9
    assert (found.parallel == 0) == (mode == "loop")


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_training_another_loss_than_evaluation_computes_is_refused(mode, monkeypatch):
    whole = gradient_proof.learner_for

    def off(*arguments):
        learner = whole(*arguments)

        def meta_gradient(meta, tasks, iteration=LAST):
            gradient, result = learner.meta_gradient(meta, tasks, iteration)
            return gradient, Scores(result.loss * 1.001, result.score)

        return learner._replace(meta_gradient=meta_gradient)

    monkeypatch.setattr(gradient_proof, "learner_for", off)
    with pytest.raises(DeviceError, match="trains another learner than it evaluates"):
        gradient_proof.prove(experiment(execution={"mode": mode}), INTERFACE, CPU)


def test_a_gradient_through_another_inner_loop_is_not_that_of_the_loss_of_evaluation(monkeypatch):
    """As when a head of prototypes lets the inner gradient flow through itself: losses of training and evaluation agree
    in no step, and finite differences of what evaluation computes tell."""
    whole = gradient_proof.learner_for

    def other(*arguments):
        learner, wrong = (
            whole(*arguments),
            whole(experiment(algorithm={"name": "maml", "inner_lr": 0.1}), *arguments[1:]),
        )
        return learner._replace(
            meta_gradient=lambda meta, tasks, _iteration=LAST: (
                wrong.meta_gradient(meta, tasks)[0],
                learner.meta_gradient(meta, tasks)[1],
            )
        )

    monkeypatch.setattr(gradient_proof, "learner_for", other)
    with pytest.raises(DeviceError, match="away from finite differences"):
        gradient_proof.prove(experiment(), INTERFACE, CPU)


@pytest.mark.parametrize("algorithm", names_in("algorithms"))
def test_every_algorithm_is_proved_against_the_loss_of_evaluation(algorithm):
    found = gradient_proof.prove(experiment(algorithm={"name": algorithm}), INTERFACE, CPU)
    assert (found.evaluation is None) == algorithm.startswith("baseline")
    assert found.evaluation is None or found.evaluation < 1e-9
    assert found.parallel < 1e-9


def test_a_large_picture_is_proved_smaller_if_the_same_parameters_fit():
    large = INTERFACE._replace(input_shape=(1, 84, 63))
    assert gradient_proof.prove(experiment(), large, CPU).shape == (1, 42, 32)
    pooled = experiment(backbone={"name": "conv4", "channels": 2, "pool": True})
    assert gradient_proof.prove(pooled, INTERFACE._replace(input_shape=(1, 40, 40)), CPU).shape == (1, 32, 32)
    flat = {"name": "layers", "layers": ["flatten", {"linear": {"features": 4}}, "tanh", "linear"]}
    assert gradient_proof.prove(experiment(backbone=flat), INTERFACE._replace(input_shape=(1, 40, 40)), CPU).shape == (
        1,
        40,
        40,
    )


@pytest.mark.parametrize(("call", "proved"), [("in_place", True), ("single", False)])
def test_a_network_that_makes_tensors_of_its_own_is_proved_unless_it_insists_on_float32(call, proved):
    own = experiment(backbone={"name": "custom", "call": f"tests.foreign:{call}"})
    interface = INTERFACE._replace(input_shape=problems.SHAPE)
    if proved:
        assert gradient_proof.prove(own, interface, CPU).order < 1e-4
        return
    with pytest.raises(ConfigError, match="cannot be proved in float64"):
        gradient_proof.prove(own, interface, CPU)
