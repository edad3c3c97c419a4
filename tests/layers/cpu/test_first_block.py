"""The first block of a network against its layers one after the other, and against finite differences; in float64."""

import itertools

import pytest
import torch
from torch import nn

from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.cpu import first_block, first_patches
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.norm import TaskNorm

ACTIVATIONS = {"nothing": [], "relu": [nn.ReLU()], "leaky relu": [nn.LeakyReLU(0.2)]}
WINDOWS = [
    (kernel, stride, padding)
    for kernel, stride, padding in itertools.product((1, 2, 3), (1, 2, 3), (0, 1, 2))
    if 5 + 2 * padding >= kernel
]


@pytest.fixture(params={"several tasks together": 1 << 30, "each task by itself": 1}.values(), autouse=True)
def _tiles(request, monkeypatch):
    monkeypatch.setattr(first_patches, "_BYTES_AT_ONCE", request.param)


def values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def block_of(activation: str, channels: int, outputs: int, kernel: int = 3, stride: int = 2, padding: int = 1):
    convolution = TaskConv2d(channels, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, TaskNorm(outputs), *ACTIVATIONS[activation], nn.Flatten()).double()


def parameters_of(module: nn.Module, tasks: int) -> dict[str, torch.Tensor]:
    return {name: values(tasks, *value.shape).requires_grad_() for name, value in module.named_parameters()}


def one_by_one(block: nn.Module, params: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    each = [{name: value[task] for name, value in params.items()} for task in range(len(inputs))]
    return torch.stack([torch.func.functional_call(block, p, (x,)) for p, x in zip(each, inputs, strict=True)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_it_equals_its_layers_one_after_the_other(activation, kernel, stride, padding):
    block = block_of(activation, 2, 2 * kernel**2 + 1, kernel, stride, padding)
    params, inputs = parameters_of(block, 3), values(3, 4, 2, 5, 6)
    assert first_block.suits(inputs, 2 * kernel**2 + 1, block[0].window)
    for layers in (over_tasks, one_by_one):
        found = layers(block, params, inputs)
        gradients = torch.autograd.grad(found, list(params.values()), values(*found.shape), create_graph=True)
        squares = sum(one.square().sum() for one in gradients)
        second = torch.autograd.grad(squares, list(params.values()), allow_unused=True, materialize_grads=True)
        if layers is over_tasks:
            ours = found, *gradients, *second
    for one, other in zip(ours, (found, *gradients, *second), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ["nothing", "leaky relu", pytest.param("relu", marks=pytest.mark.slow)])
def test_first_second_and_third_derivatives_equal_finite_differences(activation):
    block, inputs = block_of(activation, 1, 5, kernel=2), values(2, 3, 1, 4, 3)
    params = parameters_of(block, 2)

    def function(*values):
        return over_tasks(block, dict(zip(params, values, strict=True)), inputs)

    def gradients(*values):
        return torch.autograd.grad(function(*values).pow(3).sum(), values, create_graph=True)

    assert torch.autograd.gradcheck(function, list(params.values()))
    assert torch.autograd.gradgradcheck(function, list(params.values()))
    assert torch.autograd.gradgradcheck(gradients, list(params.values()))


def test_inputs_that_are_differentiated_or_have_many_values_go_another_way():
    window = block_of("relu", 1, 16)[0].window
    assert first_block.suits(values(2, 3, 1, 4, 3), 16, window)
    assert not first_block.suits(values(2, 3, 1, 4, 3).requires_grad_(), 16, window)
    assert not first_block.suits(values(2, 3, 2, 4, 3), 16, window)


def test_in_single_precision_it_is_right_where_a_filter_cancels_nearly_all_of_a_picture():
    block = block_of("relu", 1, 16)
    params = {name: value.detach() for name, value in parameters_of(block, 1).items()}
    # Filters that see differences alone, of pictures in which neighbours hardly differ.
    params["0.weight"] -= params["0.weight"].mean((-2, -1), keepdim=True)
    inputs = values(1, 4, 1, 1, 1) + values(1, 4, 1, 28, 28).cumsum(-1) / 1000
    exact = over_tasks(block, params, inputs)
    single = over_tasks(block.float(), {name: value.float() for name, value in params.items()}, inputs.float())
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-3)


def test_pictures_that_say_nothing_have_the_shift_and_no_infinite_gradient():
    block = block_of("nothing", 1, 16, padding=0)
    params = parameters_of(block, 2)
    found = over_tasks(block, params, torch.ones(2, 3, 1, 6, 6, dtype=torch.float64))
    shift = params["1.bias"][:, None, :, None, None].expand(2, 3, 16, 2, 2).flatten(2)
    torch.testing.assert_close(found, shift)
    gradients = torch.autograd.grad(found.square().sum(), list(params.values()))
    assert all(bool(torch.isfinite(one).all()) for one in gradients)
