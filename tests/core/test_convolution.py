"""Patches against torch's own convolution, and against finite differences; float64 throughout."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from metalearn_cli.core.convolution import TaskConv2d, Window, patches_of, put_back

KERNELS = [
    (kernel, stride, padding, height)
    for kernel, stride, padding, height in itertools.product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (5, 6, 8))
    if height + 2 * padding >= kernel
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "height"), KERNELS)
def test_putting_back_is_the_transpose_of_taking_patches(kernel, stride, padding, height):
    window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2)
    pictures = torch.rand(2, height, height + 1, 3, dtype=torch.float64)
    patches = patches_of(pictures, window)
    weights = torch.rand_like(patches)
    back = put_back(weights, (height, height + 1), window)
    torch.testing.assert_close((patches * weights).sum(), (pictures * back).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("channels", [1, 6])  # few channels go by patches whatever the stride, six do not
@pytest.mark.parametrize(("kernel", "stride", "padding", "height"), KERNELS)
def test_tasks_at_once_equal_one_convolution_each(kernel, stride, padding, height, channels):
    layer = TaskConv2d(channels, 4, kernel, stride, padding).double()
    weight = torch.randn(3, *layer.weight.shape, dtype=torch.float64)
    bias = torch.randn(3, 4, dtype=torch.float64)
    inputs = torch.rand(3, 2, channels, height, height + 1, dtype=torch.float64)
    found = layer.over_tasks({"weight": weight, "bias": bias}, inputs)
    each = [F.conv2d(x, w, b, stride, padding) for x, w, b in zip(inputs, weight, bias, strict=True)]
    torch.testing.assert_close(found, torch.stack(each), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 6])
def test_first_and_second_derivatives_equal_finite_differences(channels):
    layer = TaskConv2d(channels, 2, 3, 2, 1, bias=False).double()
    weight = torch.randn(2, *layer.weight.shape, dtype=torch.float64, requires_grad=True)
    inputs = torch.rand(2, 1, channels, 4, 3, dtype=torch.float64, requires_grad=True)

    def function(weight, inputs):
        return layer.over_tasks({"weight": weight}, inputs)

    assert torch.autograd.gradcheck(function, (weight, inputs))
    assert torch.autograd.gradgradcheck(function, (weight, inputs))


def test_it_holds_the_parameters_of_the_usual_convolution():
    layer = TaskConv2d(3, 5, 3, stride=2, padding=1)
    assert {name: list(value.shape) for name, value in layer.named_parameters()} == {
        "weight": [5, 3, 3, 3],
        "bias": [5],
    }
    inputs = torch.rand(2, 3, 8, 8)
    expected = F.conv2d(inputs, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(inputs), expected)
