"""Convolution of many tasks against torch's own and against finite differences; float64 throughout.

Every fact holds by patches and by torch's own convolution, which `way` chooses as the size of a task does.
"""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.cpu import patches
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH

WAYS = {"patches, several tasks together": 1 << 30, "patches, each task by itself": 12_000, "torch's own": 0}
ACTIVATIONS = {"nothing": [], "relu": [nn.ReLU()], "leaky relu": [nn.LeakyReLU(0.2)]}
KERNELS = [
    (kernel, stride, padding, height)
    for kernel, stride, padding, height in itertools.product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (5, 8))
    if height + 2 * padding >= kernel
]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(patches, "PATCHES_AT_ONCE", WAYS[request.param])
    forms.cache_clear()
    yield request.param
    forms.cache_clear()


def values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def block_of(activation: str, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(
        TaskConv2d(channels, 4, 3, 2, 1, bias=False), TaskNorm(4), *ACTIVATIONS[activation], nn.Flatten()
    )


def parameters_of(module: nn.Module, tasks: int) -> dict[str, torch.Tensor]:
    return {name: values(tasks, *value.shape) for name, value in module.named_parameters()}


@pytest.mark.parametrize(("kernel", "stride", "padding", "height"), KERNELS)
def test_tasks_at_once_equal_one_convolution_each(kernel, stride, padding, height, way):
    layer = TaskConv2d(3, 4, kernel, stride, padding)
    weight, bias, inputs = values(3, 4, 3, kernel, kernel), values(3, 4), values(3, 2, 3, height, height + 1)
    found = layer.over_tasks({"weight": weight, "bias": bias}, inputs, BY_BATCH)
    each = [F.conv2d(x, w, b, stride, padding) for x, w, b in zip(inputs, weight, bias, strict=True)]
    torch.testing.assert_close(found, torch.stack(each), rtol=1e-12, atol=1e-12)
    upstream = values(*found.shape)
    for one, other in zip(
        torch.autograd.grad(found, (weight, inputs), upstream),
        torch.autograd.grad(torch.stack(each), (weight, inputs), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (2, 3)])
def test_first_and_second_derivatives_equal_finite_differences(kernel, stride, way):
    layer = TaskConv2d(2, 2, kernel, stride, 1, bias=False)

    def function(weight, inputs):
        return layer.over_tasks({"weight": weight}, inputs, BY_BATCH)

    arguments = values(2, 2, 2, kernel, kernel), values(2, 1, 2, 4, 3)
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_block_equals_its_layers_one_after_the_other(activation, way):
    block = block_of(activation)
    params, inputs = parameters_of(block, 3), values(3, 5, 3, 6, 7)
    found = over_tasks(block, params, inputs)
    each = [
        torch.func.functional_call(block.double(), {name: value[task] for name, value in params.items()}, (one,))
        for task, one in enumerate(inputs)
    ]
    torch.testing.assert_close(found, torch.stack(each), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_first_and_second_derivatives_of_a_block_equal_finite_differences(activation, way):
    block = block_of(activation, 1)
    params = parameters_of(block, 2)

    def function(inputs, *values):
        return over_tasks(block, dict(zip(params, values, strict=True)), inputs)

    arguments = values(2, 3, 1, 4, 3), *params.values()
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("wanted", [["0.weight"], ["1.weight"], ["1.bias"], ["inputs"], ["0.weight", "inputs"]])
def test_a_second_derivative_of_some_of_the_gradients_is_right(wanted, way):
    block = block_of("relu", 2)
    leaves = parameters_of(block, 2) | {"inputs": values(2, 3, 2, 4, 3)}

    def gradients(layers) -> list[torch.Tensor]:
        params = {name: value for name, value in leaves.items() if name != "inputs"}
        loss = layers(params, leaves["inputs"]).square().sum()
        some = torch.autograd.grad(loss, [leaves[name] for name in wanted], create_graph=True)
        return list(torch.autograd.grad(sum(one.square().sum() for one in some), list(leaves.values())))

    def one_by_one(params, inputs):
        each = [{name: value[task] for name, value in params.items()} for task in range(2)]
        block.double()
        return torch.stack([torch.func.functional_call(block, p, (x,)) for p, x in zip(each, inputs, strict=True)])

    together = gradients(lambda params, inputs: over_tasks(block, params, inputs))
    for one, other in zip(together, gradients(one_by_one), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_third_derivative_of_a_block_is_refused_rather_than_wrong():
    block = block_of("relu")
    params, inputs = parameters_of(block, 2), values(2, 3, 3, 4, 3)
    first = torch.autograd.grad(over_tasks(block, params, inputs).square().sum(), inputs, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="twice, not three times"):
        torch.autograd.grad(first.square().sum(), inputs, create_graph=True)


def test_it_holds_the_parameters_of_the_usual_convolution():
    layer = TaskConv2d(3, 5, 3, stride=2, padding=1)
    assert {name: list(value.shape) for name, value in layer.named_parameters()} == {
        "weight": [5, 3, 3, 3],
        "bias": [5],
    }
    inputs = torch.rand(2, 3, 8, 8)
    expected = F.conv2d(inputs, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(inputs), expected)
