"""Layers for series against torch's own and against finite differences; float64 throughout."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metalearn_cli.layers.convolution import TaskConv1d
from metalearn_cli.layers.cpu import patches
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.network import Network, over_tasks
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Pass

KERNELS = [
    (kernel, stride, padding)
    for kernel, stride, padding in itertools.product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2))
    if 7 + 2 * padding >= kernel
]


@pytest.fixture(params=[1 << 30, 0], ids=["patches", "torch's own"])
def way(request, monkeypatch):
    monkeypatch.setattr(patches, "PATCHES_AT_ONCE", request.param)
    forms.cache_clear()
    yield request.param
    forms.cache_clear()


def values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "padding"), KERNELS)
def test_tasks_at_once_equal_one_convolution_each_with_both_derivatives(kernel, stride, padding, way):
    layer = TaskConv1d(3, 4, kernel, stride, padding)
    weight, bias, inputs = values(3, 4, 3, kernel), values(3, 4), values(3, 2, 3, 7)
    found = layer.over_tasks({"weight": weight, "bias": bias}, inputs, BY_BATCH)
    each = [F.conv1d(x, w, b, stride, padding) for x, w, b in zip(inputs, weight, bias, strict=True)]
    expected = torch.stack(each)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(one.square().sum(), (weight, inputs), create_graph=True) for one in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)
    second = [torch.autograd.grad(sum(g.square().sum() for g in one), (weight, inputs)) for one in gradients]
    torch.testing.assert_close(*second, rtol=1e-10, atol=1e-10)


BLOCKS = {
    "batch norm, relu": [TaskNorm(4), nn.ReLU()],
    "group norm, tanh": [TaskGroupNorm(2, 4), nn.Tanh()],
    "max pool": [nn.ReLU(), nn.MaxPool1d(2)],
    "mean pool": [nn.Tanh(), nn.AvgPool1d(3, 1, 1)],
    "mean of all": [nn.GELU(), nn.AdaptiveAvgPool1d(1)],
}


@pytest.mark.parametrize("how", [BY_BATCH, Pass(reference=2)], ids=["batch", "reference"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_series_runs_tasks_at_once_as_one_at_a_time(name, how, way):
    body = nn.Sequential(TaskConv1d(2, 4, 3, 1, 1, bias=False), *BLOCKS[name], nn.Flatten())
    network = nn.Sequential()
    network.add_module("body", body)
    network.add_module("head", nn.Linear(body(torch.zeros(2, 2, 8)).shape[1], 3))
    params = {key: values(3, *one.shape) for key, one in network.named_parameters()}
    inputs = values(3, 5, 2, 8)
    found = []
    for alone in (False, True):
        outputs = Network(network, one_by_one=alone)(params, inputs, how)
        first = torch.autograd.grad(outputs.square().sum(), [*params.values()], create_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), [*params.values()])
        found.append((outputs, *first, *second))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", [[TaskNorm(2)], [TaskGroupNorm(1, 2)], []], ids=["batch", "group", "none"])
def test_second_derivatives_agree_with_finite_differences(norm, way):
    block = nn.Sequential(TaskConv1d(2, 2, 3, 2, 1, bias=False), *norm, nn.Softplus(), nn.AvgPool1d(2), nn.Flatten())
    names = [key for key, _ in block.named_parameters()]

    def outputs(inputs, *params):
        return over_tasks(block, dict(zip(names, params, strict=True)), inputs)

    params = [values(2, *one.shape) for _, one in block.named_parameters()]
    arguments = (values(2, 3, 2, 6), *params)
    assert torch.autograd.gradcheck(outputs, arguments)
    assert torch.autograd.gradgradcheck(outputs, arguments)
