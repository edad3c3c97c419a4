"""The activation after a norm, y = max(x, 0) + slope * min(x, 0): slope 0 is a ReLU, slope 1 no activation."""

import torch
from torch import Tensor
from torch.nn import functional as F


def activate_(values: Tensor, slope: float) -> None:
    """Apply the activation to `values` in place."""
    if slope != 1:
        F.leaky_relu_(values, slope) if slope else torch.relu_(values)


def let_through(gradient: Tensor, outputs: Tensor, slope: float) -> Tensor:
    """The gradient for the activation's inputs: `gradient` where the output is positive, slope * gradient elsewhere.

    It reads only `outputs`, because they have the same signs as the inputs. The function is linear in `gradient`, and
    constant in `outputs` except at 0; so it is also its own derivative with respect to `gradient`.
    """
    if slope == 1:
        return gradient
    relu, leaky = torch.ops.aten.threshold_backward.default, torch.ops.aten.leaky_relu_backward.default
    of_inputs: Tensor = leaky(gradient, outputs, slope, True) if slope else relu(gradient, outputs, 0)
    return of_inputs


def let_through_(gradient: Tensor, outputs: Tensor, slope: float) -> None:
    """As `let_through`, but write the result into `gradient`."""
    if slope != 1:
        relu, leaky = torch.ops.aten.threshold_backward.grad_input, torch.ops.aten.leaky_relu_backward.grad_input
        leaky(gradient, outputs, slope, True, grad_input=gradient) if slope else relu(
            gradient, outputs, 0, grad_input=gradient
        )
