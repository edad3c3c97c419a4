"""The activation after a norm: it multiplies negative values by a slope (0: a ReLU, 1: no activation)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def activate_(values: Tensor, slope: float) -> None:
    """Apply the activation to `values` in place."""
    if slope != 1:
        F.leaky_relu_(values, slope) if slope else torch.relu_(values)


def let_through(gradient: Tensor, outputs: Tensor, slope: float) -> Tensor:
    """The gradient for the activation's inputs, from that for its outputs.

    It reads only `outputs`, because they have the same signs as the inputs.
    """
    if slope == 1:
        return gradient
    relu, leaky = torch.ops.aten.threshold_backward.default, torch.ops.aten.leaky_relu_backward.default
    found: Tensor = leaky(gradient, outputs, slope, True) if slope else relu(gradient, outputs, 0)
    return found


def let_through_(gradient: Tensor, outputs: Tensor, slope: float) -> None:
    """Do what `let_through` does, in place of `gradient`."""
    if slope != 1:
        relu, leaky = torch.ops.aten.threshold_backward.grad_input, torch.ops.aten.leaky_relu_backward.grad_input
        leaky(gradient, outputs, slope, True, grad_input=gradient) if slope else relu(
            gradient, outputs, 0, grad_input=gradient
        )
