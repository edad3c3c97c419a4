"""Networks without parameters before their head: an algorithm refuses one in a line, or learns what there is."""

from collections import OrderedDict
from importlib import import_module

import pytest
import torch
from torch import nn

from metalearn_cli.backbones import custom, layers, mlp
from metalearn_cli.core.meta import Learner, Problem, scores_per_step
from metalearn_cli.core.objectives import classification
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems

BODIES = {
    "mlp": lambda: mlp.build(mlp.Config(hidden=[]), problems.SHAPE, problems.WAYS),
    "layers": lambda: layers.build(layers.Config(layers=["flatten", "linear"]), problems.SHAPE, problems.WAYS),
    "layers that only bend": lambda: layers.build(
        layers.Config(layers=["avg_pool2d", "flatten", "tanh", "linear"]), problems.SHAPE, problems.WAYS
    ),
    "custom": lambda: custom.build(custom.Config(call="tests.modules:flat"), problems.SHAPE, problems.WAYS),
    "without a bias": lambda: nn.Sequential(
        OrderedDict(body=nn.Flatten(), head=nn.Linear(64, problems.WAYS, bias=False))
    ),
}
LEARNERS = [(name, {}) for name in names_in("algorithms")]
LEARNERS += [(name, {"zero_head": True}) for name in ("maml", "anil")]
REFUSING = ["boil", "proto_maml", "protonet", "unicorn_maml"]


def built(name, settings, network) -> Learner:
    module = import_module(f"metalearn_cli.algorithms.{name}")
    return module.build(module.Config(**settings), Problem(network, classification, "transductive", problems.WAYS))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("name", "settings"), LEARNERS)
def test_a_linear_network_is_refused_in_a_line_or_learned(name, settings, body):
    network = Network(BODIES[body]())
    if name in REFUSING or settings:
        with pytest.raises(ConfigError, match=r"^algorithm\.(name|zero_head): .* has no parameters there") as refused:
            built(name, settings, network)
        assert "\n" not in str(refused.value)
        return
    if name == "cavia" and body == "without a bias":
        with pytest.raises(ConfigError, match="norms or biases"):
            built(name, settings, network)
        return
    learner, tasks = built(name, settings, network), problems.picture_tasks(2)
    meta = problems.double(learner.init())
    gradient = problems.flat(learner.meta_gradient(meta, tasks)[0])
    assert name == "nearest" or float(gradient.norm()) > 1e-3
    assert scores_per_step(learner, min(learner.traits.inner_steps, 2), meta, tasks).loss.isfinite().all()


@pytest.mark.parametrize("name", ["protonet", "proto_maml", "r2d2", "baseline", "baseline_plus_plus"])
def test_a_head_without_a_bias_gets_that_of_the_tasks_in_every_mode(name):
    module = nn.Sequential(OrderedDict(
        body=nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh()), head=nn.Linear(6, problems.WAYS, bias=False)
    ))  # fmt: skip
    learner, tasks = built(name, {}, Network(module)), problems.picture_tasks(2)
    meta, steps = problems.double(learner.init()), min(learner.traits.inner_steps, 2)
    together = scores_per_step(learner, steps, meta, tasks)
    alone = scores_per_step(built(name, {}, Network(module, one_by_one=True)), steps, meta, tasks)
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)
    biased = nn.Sequential(OrderedDict(body=module.body, head=nn.Linear(6, problems.WAYS)))
    torch.testing.assert_close(
        scores_per_step(built(name, {}, Network(biased)), steps, meta, tasks), together, rtol=1e-10, atol=1e-12
    )
