"""Every function of the layers gives the same numbers whatever the memory layout of what it is given.

Values, first and second derivatives in float64, against the same layer for one task at a time in plain torch.
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.core.shared_parameters import summed_over_tasks
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.cpu import first_block, patches
from metalearn_cli.layers.cpu.bilinear import Window
from metalearn_cli.layers.cpu.block import Kind, block
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Pass

LAYOUTS = [
    "contiguous",
    "last axis first",
    "tasks second",
    "tasks inside",
    "sliced",
    "expanded",
    "zero strides",
    "offset",
]


def laid_out(values: Tensor, layout: str) -> Tensor:
    """Values in another memory layout: the same ones, but for `expanded` and `zero strides`, which repeat some."""
    axes = list(range(values.dim()))
    if layout == "last axis first" and values.dim() > 2:  # channels last, for pictures
        return values.movedim(2, -1).contiguous().movedim(-1, 2)
    if layout == "tasks second":  # what torch's own layers give under vmap
        return values.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "tasks inside":  # what a grouped convolution gives
        return values.movedim(0, -2).contiguous().movedim(-2, 0)
    if layout == "sliced":
        wide = values.repeat(*[2] * values.dim())
        return wide[tuple(slice(0, size) for size in values.shape)]
    if layout == "expanded":
        return values[:1].expand(values.shape)
    if layout == "zero strides":
        return values[tuple(slice(0, 1) if axis in axes[-1:] else slice(None) for axis in axes)].expand(values.shape)
    if layout == "offset":
        return torch.cat([values, values])[len(values) :]
    return values.contiguous()


def outcomes(function, arguments: list[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Outputs, first derivatives, and second ones of a function that is not linear in anything."""
    at = [one.requires_grad_() for one in arguments]
    outputs = function(*at)
    first = torch.autograd.grad(outputs, at, cotangent, create_graph=True, allow_unused=True, materialize_grads=True)
    curved = sum(one.sin().sum() for one in first if one.requires_grad)
    if not isinstance(curved, Tensor):
        return [outputs, *first]
    second = torch.autograd.grad(curved, at, allow_unused=True, materialize_grads=True)
    return [outputs, *first, *second]


def conv(inputs: Tensor, weight: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(inputs, weight, stride=stride, padding=padding)


def norm(inputs: Tensor, weight: Tensor, bias: Tensor, first: int | None = None) -> Tensor:
    axes, shape = [0, *range(2, inputs.dim())], (-1, *[1] * (inputs.dim() - 2))
    seen = inputs[:first]
    mean, variance = seen.mean(axes), seen.var(axes, correction=0)
    scaled = (inputs - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return scaled * weight.view(shape) + bias.view(shape)


def groups(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape, rows = (-1, *[1] * (inputs.dim() - 2)), inputs.reshape(len(inputs), 2, -1)
    scaled = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return scaled.reshape(inputs.shape) * weight.view(shape) + bias.view(shape)


def of_norm(layer: nn.Module, inputs: Tensor, weight: Tensor, bias: Tensor, how: Pass = BY_BATCH) -> Tensor:
    return layer.over_tasks({"weight": weight, "bias": bias}, inputs, how)


def of_first(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return of_norm(TaskNorm(4), inputs, weight, bias, Pass(reference=2))


def of_conv(layer: nn.Module, inputs: Tensor, weight: Tensor) -> Tensor:
    return layer.over_tasks({"weight": weight}, inputs, BY_BATCH)


def of_sequence(slope: float, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    layers = nn.Sequential(TaskConv2d(4, 4, 3, 1, 1, bias=False), TaskNorm(4), nn.LeakyReLU(slope))
    return over_tasks(layers, {"0.weight": weight, "1.weight": scale, "1.bias": shift}, inputs)


def of_first_block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    kind = Kind(Window((3, 3), (1, 1), (1, 1)), 1e-5, 0.1)
    rows = first_block.first_block(inputs.detach(), weight.permute(0, 1, 3, 4, 2).flatten(2), scale, shift, kind)
    return rows.view(*inputs.shape[:2], *inputs.shape[3:], -1).permute(0, 1, 4, 2, 3)


def of_block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    kind = Kind(Window((3, 3), (2, 2), (0, 0)), 1e-5, 1.0)
    rows = block(
        inputs.permute(0, 1, 3, 4, 2).contiguous(), weight.permute(0, 1, 3, 4, 2).flatten(2), scale, shift, kind
    )
    return rows.view(*inputs.shape[:2], *kind.window.steps(*inputs.shape[3:]), -1).permute(0, 1, 4, 2, 3)


def sequence(slope: float, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.leaky_relu(norm(conv(inputs, weight), scale, shift), slope)


PICTURES, FEW, WEIGHT, ROW = (2, 3, 4, 6, 5), (2, 3, 1, 6, 5), (2, 4, 4, 3, 3), (2, 4)
NORMED = {"pictures": PICTURES, "sequences": (2, 5, 4, 3), "vectors": (2, 6, 4), "one pixel": (2, 6, 4, 1, 1)}
CASES = {
    **{f"norm of {n}": (partial(of_norm, TaskNorm(4)), norm, (s, ROW, ROW)) for n, s in NORMED.items()},
    **{f"groups of {n}": (partial(of_norm, TaskGroupNorm(2, 4)), groups, (s, ROW, ROW)) for n, s in NORMED.items()},
    "norm by the first": (of_first, partial(norm, first=2), (PICTURES, ROW, ROW)),
    "norm of many values": (partial(of_norm, TaskNorm(4)), norm, ((2, 6, 4, 19, 19), ROW, ROW)),
    "convolution": (partial(of_conv, TaskConv2d(4, 4, 3, 1, 1, bias=False)), conv, (PICTURES, WEIGHT)),
    "strides": (
        partial(of_conv, TaskConv2d(4, 4, 3, 2, bias=False)), partial(conv, stride=2, padding=0), (PICTURES, WEIGHT),
    ),
    "one channel": (partial(of_conv, TaskConv2d(1, 4, 3, 1, 1, bias=False)), conv, (FEW, (2, 4, 1, 3, 3))),
    "sequence": (partial(of_sequence, 0.1), partial(sequence, 0.1), (PICTURES, WEIGHT, ROW, ROW)),
    "sequence that turns": (partial(of_sequence, -0.5), partial(sequence, -0.5), (PICTURES, WEIGHT, ROW, ROW)),
    "block": (
        of_block, lambda x, w, s, b: norm(conv(x, w, 2, 0), s, b), (PICTURES, WEIGHT, ROW, ROW),
    ),
    "first block": (
        of_first_block, lambda x, w, s, b: sequence(0.1, x.detach(), w, s, b), (FEW, (2, 4, 1, 3, 3), ROW, ROW),
    ),
}  # fmt: skip


@pytest.fixture(params=["patches", "torch's convolution"])
def way(request, monkeypatch):
    """Both ways to a convolution: small tasks take one, large ones the other."""
    if request.param != "patches":
        monkeypatch.setattr(patches, "PATCHES_AT_ONCE", 1)
    forms.cache_clear()
    yield
    forms.cache_clear()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_any_layout_give_what_one_task_at_a_time_gives(name, layout, way):
    check(name, [layout] * len(CASES[name][2]), layout, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_layouts_together_give_what_one_task_at_a_time_gives(data):
    name = data.draw(st.sampled_from(sorted(CASES)))
    layouts = [data.draw(st.sampled_from(LAYOUTS)) for _ in CASES[name][2]]
    check(name, layouts, data.draw(st.sampled_from(LAYOUTS)), data.draw(st.integers(0, 9)))


def check(name: str, layouts: list[str], of_cotangent: str, seed: int) -> None:
    function, alone, shapes = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    arguments = [laid_out(values, layout) for values, layout in zip(drawn, layouts, strict=True)]
    outputs = function(*arguments)
    cotangent = laid_out(torch.randn(outputs.shape, generator=generator, dtype=torch.float64), of_cotangent)

    def each(*at: Tensor) -> Tensor:
        return torch.stack([alone(*one) for one in zip(*at, strict=True)])

    found = outcomes(function, [one.detach() for one in arguments], cotangent)
    expected = outcomes(
        each, [one.detach().clone(memory_format=torch.contiguous_format) for one in arguments], cotangent
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * max(1.0, float(other.detach().abs().max())))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2, 5, 6), (3, 1, 1), (1, 4, 3)])
def test_a_sum_over_tasks_is_that_of_torch(shape, layout):
    values = laid_out(torch.randn(shape, dtype=torch.float64), layout)
    torch.testing.assert_close(summed_over_tasks(values), values.sum(0), rtol=1e-14, atol=1e-14)
