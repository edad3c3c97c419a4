"""The checks that outsiders run: all that is in the package passes, and what is broken is told in a sentence."""

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch

from metalearn_cli.algorithms import maml
from metalearn_cli.backbones import conv4
from metalearn_cli.datasets import glyphs, sinusoid
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.testing import NotChecked, check_algorithm, check_backbone, check_dataset

BACKBONES = {
    "conv4": {"channels": 4},
    "conv4_1d": {"input_shape": (2, 16), "channels": 4},
    "resnet12": {"channels": [2, 3, 3, 4]},
    "mlp": {"hidden": [6, 5]},
    "linear": {"features": 9},
    "identity": {},
    "custom": {"call": "tests.modules:Residual"},
    "layers": {"layers": [{"conv2d": {"channels": 4, "kernel": 3, "stride": 2}}, "bn", "relu", "flatten", "linear"]},
}


@pytest.mark.filterwarnings("ignore::metalearn_cli.testing.NotChecked")  # Reptile's is of first order
@pytest.mark.parametrize("name", names_in("algorithms"))
def test_every_algorithm_of_the_package_passes(name):
    check_algorithm(import_module(f"metalearn_cli.algorithms.{name}"))


def test_a_derivative_that_is_not_checked_is_said():
    with pytest.warns(NotChecked, match="maml: the meta-gradient was not compared with finite differences"):
        check_algorithm(maml, second_order=False)


@pytest.mark.parametrize("name", names_in("backbones"))
def test_every_backbone_of_the_package_passes(name):
    check_backbone(import_module(f"metalearn_cli.backbones.{name}"), **BACKBONES[name])


@pytest.mark.parametrize("name", ["glyphs", "sinusoid", "omniglot", "table", "machines"])
def test_datasets_of_the_package_pass(name):
    check_dataset(import_module(f"metalearn_cli.datasets.{name}"))


def broken(base, **changes) -> ModuleType:
    module = ModuleType("broken_here")
    module.Config, module.build = base.Config, base.build
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def after_build(change):
    def build(config, problem):
        return change(maml.build(config, problem))

    return broken(maml, build=build)


def scaled(learner):
    def meta_gradient(meta, tasks, iteration=0):
        found, result = learner.meta_gradient(meta, tasks, iteration)
        return found._replace(params={name: 1.001 * value for name, value in found.params.items()}), result

    return learner._replace(meta_gradient=meta_gradient)


def meeting(learner):
    def meta_gradient(meta, tasks, iteration=0):
        found, result = learner.meta_gradient(meta, tasks, iteration)
        return found, result._replace(loss=result.loss - result.loss.mean())

    return learner._replace(meta_gradient=meta_gradient)


def centred(learner):
    def predict(states, inputs, collected=None):
        return [one - one.mean(1, keepdim=True) for one in learner.predict(states, inputs, collected)]

    return learner._replace(predict=predict)


def claiming(learner):
    return learner._replace(traits=learner.traits._replace(ways=None))


def lacking(learner):
    return learner._replace(adapt=lambda meta, support, steps: learner.adapt(meta, support, steps)[1:])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scaled, "the meta-gradient says a slope of"),
        (meeting, "the losses of tasks at once"),
        (centred, "training's query losses are"),
        (claiming, "other numbers for them change the answers"),
        (lacking, "adapt gives 1 states, expected 2"),
    ],
)
def test_a_broken_algorithm_is_told_in_a_sentence(change, said):
    with pytest.raises(AssertionError, match=said):
        check_algorithm(after_build(change))


def test_a_first_order_learner_that_claims_the_exact_gradient_is_found_out():
    def build(config, problem):
        learner = maml.build(config.model_copy(update={"second_order": False}), problem)
        return learner._replace(traits=learner.traits._replace(second_order=True))

    with pytest.raises(AssertionError, match="the meta-gradient says a slope of"):
        check_algorithm(broken(maml, build=build))


def test_a_backbone_with_a_third_child_or_other_outputs_is_told_so():
    def build(config, shape, outputs):
        return conv4.build(config, shape, 3)

    with pytest.raises(AssertionError, match=r"have shape \[4, 3\], expected \[4, 7\]"):
        check_backbone(broken(conv4, build=build), channels=4)


def test_a_dataset_that_draws_anew_every_time_or_splits_a_class_in_two_is_told_so():
    def anew(config):
        made = glyphs.build(config)
        return made._replace(draw=lambda index: made.draw(index) ^ torch.randint(0, 255, (1,)).numpy().astype("uint8"))

    def overlapping(config):
        made = glyphs.build(config)
        return made._replace(splits=lambda names: {"default": {"train": names, "val": names[:2], "test": names[2:]}})

    for build, said in ((anew, "other pictures the second time"), (overlapping, "classes both in train and in val")):
        with pytest.raises(AssertionError, match=said):
            check_dataset(broken(glyphs, build=build))
    made = sinusoid.build(sinusoid.Config())
    fixed = made._replace(draw=lambda _generator, examples: made.draw(np.random.default_rng(0), examples))
    with pytest.raises(AssertionError, match="same task for every generator"):
        check_dataset(broken(sinusoid, build=lambda _config: fixed))
