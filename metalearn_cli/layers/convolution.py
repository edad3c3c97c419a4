"""Convolution of many tasks at once, each task with its own weights.

On a CPU there are three ways to compute it (cpu/bilinear.py); if a norm and an activation follow it, all three layers
become one function (cpu/block.py). On a GPU it is one torch convolution with T groups.

Legend: T tasks, N examples, C channels in, O channels out, H x W input size, h x w output size, k x l kernel,
M = N * h * w outputs of a channel, S = k * l * C values of a patch.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.layers.cpu import first_block
from metalearn_cli.layers.cpu.bilinear import Window
from metalearn_cli.layers.cpu.block import Kind, block
from metalearn_cli.layers.cpu.convolved import Convolved, Way
from metalearn_cli.layers.cpu.kernels import Kernels
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Params, Pass
from metalearn_cli.layers.task_layers import has_hooks


class _ManyConvolutions:
    """The part that the convolutions of this file share: a window, and its application to the inputs of many tasks."""

    window: Window
    out_channels: int
    bias: Tensor | None

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """Outputs [T, N, O, h, w] for inputs [T, N, C, H, W] and a weight [T, O, C, k, l]."""
        if inputs.device.type == "cpu":
            way = Way(self.window, self._kernels(inputs, how))
            rows = Convolved.apply(_pictures(inputs), _matrices(params["weight"]), way)  # type: ignore[no-untyped-call]
            outputs = self._unfolded(rows, inputs)
        else:
            outputs = self._in_groups(params["weight"], inputs)
        # [T, O] -> [T, 1, O, 1, 1]
        return outputs + params["bias"][:, None, :, None, None] if "bias" in params else outputs

    def takes(self, following: Sequence[nn.Module], inputs: Tensor, how: Pass) -> int:
        """The number of following layers that `over_tasks_with` can compute together with this one: 0 to 3.

        They are a TaskNorm, with compiled kernels a max-pool of 2 x 2, and a ReLU (also leaky); the last two may be
        absent. It is 0 on a GPU, with a bias, or if the norm takes other statistics than those of its batch.
        """
        if self.bias is not None or inputs.device.type != "cpu" or not following:
            return 0
        norm, *others = following
        if type(norm) is not TaskNorm or has_hooks(norm) or not how.by_batch:
            return 0
        pooled = bool(others) and _halves(others[0]) and self._kernels(inputs, how) is not None
        rest = others[pooled:]
        return 1 + pooled + (bool(rest) and _is_leaky(rest[0]))

    def over_tasks_with(
        self, following: Sequence[nn.Module], params: Sequence[Params], inputs: Tensor, how: Pass
    ) -> Tensor:
        """The outputs [T, N, O, h, w] of this layer and the `following` layers, computed as one function.

        `params`: those of this layer first, then those of each following layer.
        """
        norm, *others = following
        assert isinstance(norm, TaskNorm)
        slope = 1.0  # of negative values: 1 is no activation, 0 a ReLU
        # `others` are a pool, an activation, or both in this order: the last one is the activation or there is none.
        if others and not _halves(others[-1]):
            slope = others[-1].negative_slope if isinstance(others[-1], nn.LeakyReLU) else 0.0
        pool = 2 if others and _halves(others[0]) else 1
        kind = Kind(self.window, norm.eps, slope, pool, self._kernels(inputs, how))
        weight, scale, shift = _matrices(params[0]["weight"]), params[1]["weight"], params[1]["bias"]
        if first_block.suits(inputs, self.out_channels, self.window):
            rows = first_block.first_block(inputs, weight, scale, shift, kind)
        else:
            rows = block(_pictures(inputs), weight, scale, shift, kind)
        return self._unfolded(rows, inputs, pool)

    @staticmethod
    def _kernels(inputs: Tensor, how: Pass) -> Kernels | None:
        """The compiled kernels of the pass, if they can compute with `inputs`."""
        return how.kernels if how.kernels is not None and how.kernels.takes(inputs) else None

    def _unfolded(self, rows: Tensor, inputs: Tensor, pool: int = 1) -> Tensor:
        """Rows [T, P, O] as outputs [T, N, O, h, w]."""
        # A view, no copy: [T, N, h, w, O] with the axes renamed, which is channels-last memory.
        h, w = self.window.steps(*inputs.shape[3:])
        size = (h // pool, w // pool)
        return rows.view(*inputs.shape[:2], *size, -1).permute(0, 1, 4, 2, 3)

    def _in_groups(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """Outputs [T, N, O, h, w] by one torch convolution with a group for each task."""
        tasks, examples = inputs.shape[:2]
        # Tasks lie beside each other as channels: [T, N, C, H, W] becomes [N, T * C, H, W].
        beside = inputs.transpose(0, 1).flatten(1, 2)
        outputs = F.conv2d(beside, weight.flatten(0, 1), None, self.window.stride, self.window.padding, groups=tasks)
        return outputs.view(examples, tasks, -1, *outputs.shape[2:]).transpose(0, 1)


class TaskConv2d(_ManyConvolutions, nn.Conv2d):
    """`nn.Conv2d` (dilation 1, one group, zero padding) that can also run many tasks at once.

    `kernel`, `stride` and `padding` are in pixels and the same for both axes. On a CPU the outputs of `over_tasks` are
    channels-last in memory.

    >>> import torch
    >>> layer = TaskConv2d(1, 8, kernel=3, padding=1)
    >>> weights = {name: value.expand(2, *value.shape) for name, value in layer.named_parameters()}
    >>> layer.over_tasks(weights, torch.rand(2, 5, 1, 6, 6)).shape  # 2 tasks of 5 pictures of 6 x 6
    torch.Size([2, 5, 8, 6, 6])
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding, bias=bias)
        self.window = Window((kernel, kernel), (stride, stride), (padding, padding))


class TaskConv1d(_ManyConvolutions, nn.Conv1d):
    """`nn.Conv1d` (dilation 1, one group, zero padding) that can also run many tasks at once.

    A series [N, C, L] is computed as a picture of one row, [N, C, 1, L].
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding, bias=bias)
        self.window = Window((1, kernel), (1, stride), (0, padding))

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """Outputs [T, N, O, l] for inputs [T, N, C, L] and a weight [T, O, C, k]."""
        return super().over_tasks(_of_one_row(params), inputs.unsqueeze(3), how).squeeze(3)

    def takes(self, following: Sequence[nn.Module], inputs: Tensor, how: Pass) -> int:
        """The number of following layers that `over_tasks_with` can compute with this one for inputs [T, N, C, L]."""
        return super().takes(following, inputs.unsqueeze(3), how)

    def over_tasks_with(
        self, following: Sequence[nn.Module], params: Sequence[Params], inputs: Tensor, how: Pass
    ) -> Tensor:
        """The outputs [T, N, O, l] of this layer and the `following` layers, computed as one function."""
        of_row = [_of_one_row(params[0]), *params[1:]]
        return super().over_tasks_with(following, of_row, inputs.unsqueeze(3), how).squeeze(3)


def _of_one_row(params: Params) -> dict[str, Tensor]:
    """The parameters of a convolution of series as those of pictures: a weight [T, O, C, k] becomes [T, O, C, 1, k]."""
    return {**params, "weight": params["weight"].unsqueeze(3)}


def _halves(layer: nn.Module) -> bool:
    """Whether the layer is a max-pool of windows of 2 x 2 that do not overlap, and has no hooks."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode or has_hooks(layer):
        return False
    sizes = ((layer.kernel_size, 2), (layer.stride, 2), (layer.padding, 0), (layer.dilation, 1))
    return all(found in (size, (size, size)) for found, size in sizes)


def _is_leaky(layer: nn.Module) -> bool:
    """Whether the layer is a ReLU or a leaky ReLU with a slope of 0 or more, and has no hooks."""
    # cpu/block.py reads from the sign of an output which side of zero the input was on: a negative slope hides it.
    rises = type(layer) is nn.ReLU or (type(layer) is nn.LeakyReLU and layer.negative_slope >= 0)
    return rises and not has_hooks(layer)


def _pictures(inputs: Tensor) -> Tensor:
    """[T, N, C, H, W] as [T, N, H, W, C], dense in memory."""
    # No copy if the inputs are channels-last already, as the outputs of the layer before are.
    return inputs.permute(0, 1, 3, 4, 2).contiguous()


def _matrices(weight: Tensor) -> Tensor:
    """A weight [T, O, C, k, l] as matrices [T, O, S]."""
    # The order k, l, C within S is that of a patch cut from channels-last pictures.
    return weight.permute(0, 1, 3, 4, 2).flatten(2)
