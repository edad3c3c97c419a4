"""What follows a norm: negative values are multiplied by a slope (0: ReLU, 1: nothing follows)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def activate_(values: Tensor, slope: float) -> None:
    """In place."""
    if slope != 1:
        F.leaky_relu_(values, slope) if slope else torch.relu_(values)


def let_through(gradient: Tensor, outputs: Tensor, slope: float) -> Tensor:
    """What the activation lets through of a gradient; its outputs have the signs of its inputs."""
    if slope == 1:
        return gradient
    relu, leaky = torch.ops.aten.threshold_backward.default, torch.ops.aten.leaky_relu_backward.default
    found: Tensor = leaky(gradient, outputs, slope, True) if slope else relu(gradient, outputs, 0)
    return found


def let_through_(gradient: Tensor, outputs: Tensor, slope: float) -> None:
    """The same in the gradient's place."""
    if slope != 1:
        relu, leaky = torch.ops.aten.threshold_backward.grad_input, torch.ops.aten.leaky_relu_backward.grad_input
        leaky(gradient, outputs, slope, True, grad_input=gradient) if slope else relu(
            gradient, outputs, 0, grad_input=gradient
        )
