"""One small task through torch's own functions equals the same task through the layers for many tasks, in float64."""

import ctypes
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from metalearn_cli.algorithms import (
    anil,
    boil,
    cavia,
    imaml,
    maml,
    maml_plus_plus,
    meta_sgd,
    proto_maml,
    protonet,
    r2d2,
)
from metalearn_cli.core.meta import Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import keyed, tasks_between
from metalearn_cli.layers import network as networks
from metalearn_cli.layers import one_task
from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.cpu.kernels import Kernels
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.layers.passing import Pass
from metalearn_cli.testing import problems


def of_pictures() -> nn.Module:
    """Every kind of layer that a picture may meet, a foreign one, one with a hook and one of many tasks' among them."""
    hooked = nn.Tanh()
    hooked.register_forward_hook(lambda _module, _inputs, outputs: 2 * outputs)
    body = nn.Sequential(
        TaskConv2d(1, 6, 3, stride=1, padding=1, bias=False), TaskNorm(6), nn.ReLU(), nn.MaxPool2d(2),
        DropBlock(0.2, 2, 0), TaskConv2d(6, 5, 3, padding=1), TaskNorm(5), nn.LeakyReLU(0.1), hooked,
        nn.Sequential(TaskConv2d(5, 8, 1), TaskGroupNorm(2, 8), nn.ELU()), nn.PReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(32, problems.WAYS))).double()


def of_series() -> nn.Module:
    """A network for series [1, 64]."""
    body = nn.Sequential(
        TaskConv1d(1, 6, 3, stride=2, padding=1, bias=False), TaskNorm(6), nn.ReLU(), nn.MaxPool1d(2),
        TaskConv1d(6, 4, 5, bias=True), TaskNorm(4), nn.Softplus(), nn.Flatten(),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(48, problems.WAYS))).double()


PASSES = {
    "of the batch": Pass(), "of the support set": Pass(reference=4), "collected": Pass(collected={}),
    "with drop-block": Pass(keys=torch.tensor([7])),
}  # fmt: skip


def outcomes(network: Network, params: dict[str, Tensor], inputs: Tensor, how: Pass) -> list[Tensor]:
    """Outputs, first derivatives, and second ones of their squares."""
    at = {name: value.clone().requires_grad_() for name, value in params.items()}
    outputs = network(at, inputs, how)
    first = torch.autograd.grad(outputs.sin().sum(), list(at.values()), create_graph=True)
    second = torch.autograd.grad(
        sum(one.square().sum() for one in first), list(at.values()), allow_unused=True, materialize_grads=True
    )
    return [outputs, *first, *second]


@pytest.mark.parametrize("how", PASSES.values(), ids=PASSES)
@pytest.mark.parametrize(("build", "shape"), [(of_pictures, (1, 8, 8)), (of_series, (1, 64))])
def test_every_layer_and_both_derivatives_are_those_of_many_tasks(build, shape, how):
    network = Network(build())
    params = {
        name: value + 0.1 * torch.randn(1, *value.shape, dtype=torch.float64)
        for name, value in network.initial().items()
    }
    inputs = torch.rand(1, 6, *shape, dtype=torch.float64)
    known = [None if how.collected is None else {} for _ in range(2)]
    many, one = (
        outcomes(network, params, inputs, how._replace(small=small, collected=collected))
        for small, collected in zip((False, True), known, strict=True)
    )
    torch.testing.assert_close(one, many, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(known[1], known[0])


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize(
    "module", [maml, anil, boil, cavia, imaml, maml_plus_plus, meta_sgd, proto_maml, protonet, r2d2],
    ids=lambda module: module.__name__.rpartition(".")[2],
)  # fmt: skip
def test_the_meta_gradient_of_one_task_is_its_share_of_many(module, statistics, monkeypatch):
    learner = module.build(
        module.Config(), Problem(problems.smooth_network(), classification, statistics, problems.WAYS)
    )
    tasks, calls = keyed(problems.picture_tasks(2), torch.arange(2)), []
    meta = problems.double(learner.init())

    def watched(*arguments):
        calls.append(arguments)
        return one_task.alone(*arguments)

    monkeypatch.setattr(networks, "alone", watched)
    together = learner.meta_gradient(meta, tasks)
    assert not calls
    alone = [learner.meta_gradient(meta, tasks_between(tasks, start, start + 1)) for start in range(2)]
    assert calls
    summed = problems.flat(alone[0][0]) + problems.flat(alone[1][0])
    torch.testing.assert_close(summed, problems.flat(together[0]), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(torch.cat([one[1].loss for one in alone]), together[1].loss, rtol=1e-9, atol=1e-12)


def test_with_kernels_no_task_goes_alone():
    network = Network(problems.smooth_network().copied(), kernels=Kernels(ctypes.CDLL(None)))
    assert not network.runs_alone(torch.empty(1, 5, 1, 28, 28))


def test_only_one_small_task_on_a_cpu_goes_alone():
    network = problems.smooth_network()
    small = torch.empty(1, 5, 1, 28, 28)
    assert network.runs_alone(small)
    assert not network.runs_alone(small.expand(2, -1, -1, -1, -1))
    assert not network.runs_alone(small.expand(1, -1, 3, -1, -1))
    assert not network.runs_alone(small.to("meta"))
    assert not network.one_by_one().runs_alone(small)
    assert not one_task.goes_alone(small, Pass())
