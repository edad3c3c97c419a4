"""Tries a foreign network before it is trained, to find out in which way torch can run it for many tasks.

Two tasks with different parameters run at once and one after the other. Outputs and derivatives must agree. The network
then runs in the first way that agrees.

Legend: T tasks, N examples.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.errors import ConfigError, some_of
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import Params, Pass
from metalearn_cli.references import first_line
from metalearn_cli.runtime.run.missing_derivatives import EXAMPLES, culprit, require_whole

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative; a wrong derivative is off by far more
_ATTENTION = "scaled_dot_product"


class Requirements(NamedTuple):
    """The requirements on a network: derivatives up to `order` for inputs of `shape`.

    `key`: the key of the experiment that messages name. `cure`: the setting that avoids the second derivative.
    `collects`: whether its norms must report running statistics.
    """

    shape: tuple[int, ...]
    order: int
    key: str
    cure: str
    collects: bool


def tried_network(network: Network, asked: Requirements) -> tuple[Network, list[str]]:
    """The network in the first form that passes the trial, and remarks for the user.

    It tries three forms: tasks at once, tasks at once with attention in plain operations, one task after the other.

    Raises ConfigError, with the layer, the reason and a cure, if no form passes.
    """
    params = _two_of_each(network)
    refused: list[BaseException] = []
    for one_by_one, attention in product((False, True), repeat=2):
        # Plain attention is tried only if torch's own was the reason of the last refusal.
        if attention and _ATTENTION not in str(refused[-1]):
            continue
        way = network.with_plain_attention() if attention else network
        way = way.one_by_one() if one_by_one else way
        try:
            with _strictly():
                idle = _require_right(way, params, asked)
        except (Exception, SystemExit) as error:  # foreign code under vmap can raise anything
            refused.append(error)
        else:
            return way, _told(way, refused, idle, asked)
    raise _refusal(network, params, asked, refused[-1])


@contextmanager
def _strictly() -> Iterator[None]:
    """Inside the block, torch raises an error where vmap would fall back to a slow loop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop")
        yield


def _told(network: Network, refused: list[BaseException], idle: list[str], asked: Requirements) -> list[str]:
    lines = []
    if forgetful := sum(norm.forgets for norm in network.modules_of(TaskNorm).values()):
        lines.append(
            f"{asked.key}: {forgetful} pretrained batch norms now use the statistics of the batch at hand, which can "
            "cost more than pretraining gives; backbone.statistics=frozen keeps their own"
        )
    if network.plain_attention:
        lines.append(f"{asked.key}: attention in plain operations, as torch's fast one has no second derivative")
    if network.runs_one_by_one and refused:
        lines.append(
            f"{asked.key}: tasks run one after the other, as with execution.mode=loop: torch cannot run this network "
            f"for several at once ({first_line(refused[0])})"
        )
    if idle:
        lines.append(f"{asked.key}: no output depends on {_some(idle)}; they learn nothing")
    if network.fixed:
        fixed = sorted(network.fixed)
        lines.append(f"{asked.key}: {_some(fixed)}: fixed (requires_grad=False), nothing moves them")
    return lines


def _some(names: list[str]) -> str:
    listed = some_of([name.removeprefix("body.") for name in names], 3)
    return f"{listed} parameters" if len(names) > 3 else listed


def _require_right(network: Network, params: Params, asked: Requirements) -> list[str]:
    """The names of parameters that no output depends on, after the trial of one form.

    Raises any error of torch or of the network, or RuntimeError if two tasks at once differ from one at a time. The
    trial runs in float32, because training does and some kernels exist only for it, and in float64, which can tell a
    wrong gradient from a rounded one; it leaves float64 out for a network that only runs in float32.
    """
    single = _outcomes(network, params, asked, torch.float32)
    kind = torch.float64
    try:
        found_at_once = _outcomes(network, params, asked, kind)
    except (Exception, SystemExit):
        kind, found_at_once = torch.float32, single
    alone = network.one_by_one()
    expected = found_at_once if network.runs_one_by_one else _outcomes(alone, params, asked, kind)
    for what, outcome in found_at_once.items():
        off = _distance(outcome, expected[what])
        if not off < _TOLERANCE[kind]:
            raise RuntimeError(f"{what} of two tasks at once are {off:.0e} off those of one at a time")
    gradients = expected.get("first derivatives", {})
    return sorted(name for name, value in gradients.items() if value is None and name not in network.fixed)


Outcome = Mapping[str, Tensor | None]


def _outcomes(network: Network, params: Params, asked: Requirements, kind: torch.dtype) -> dict[str, Outcome]:
    """The outputs and derivatives of two tasks: {"outputs": ..., "first derivatives": ..., "second derivatives": ...}.

    A derivative is None if nothing depends on that parameter.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(2, EXAMPLES, *asked.shape, generator=generator, dtype=torch.float64).to(kind)
    at = {name: value.to(kind).requires_grad_() for name, value in params.items()}
    # With keys and collected moments, layers must know which task is which; vmap hides it, and they raise here.
    how = Pass(keys=torch.arange(2), collected={} if asked.collects else None)
    with default_type(kind), torch.enable_grad():
        outputs = network(at, inputs, how)
        if asked.order == 0 or not outputs.requires_grad:
            return {"outputs": {"": outputs.detach()}}
        # Any scalar that all outputs enter. The second derivatives are those of the squared length of its gradient.
        loss, twice = outputs.square().sum(), asked.order > 1
        first = torch.autograd.grad(loss, list(at.values()), create_graph=twice, allow_unused=True)
        found: dict[str, Outcome] = {"outputs": {"": outputs.detach()}}
        found["first derivatives"] = {n: None if g is None else g.detach() for n, g in zip(at, first, strict=True)}
        length = [one.square().sum() for one in first if one is not None and one.requires_grad]
        if twice and length:
            require_whole(length)
            second = torch.autograd.grad(torch.stack(length).sum(), list(at.values()), allow_unused=True)
            found["second derivatives"] = dict(zip(at, second, strict=True))
    return found


def _distance(found: Outcome, expected: Outcome) -> float:
    scale = max((float(value.abs().max()) for value in expected.values() if value is not None), default=0.0) or 1.0
    off = [_difference(value, found[name]) for name, value in expected.items()]
    return max((float(value.abs().max()) for value in off if value is not None), default=0.0) / scale


def _difference(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The difference of two tensors, up to its sign; None stands for zeros."""
    if first is None or second is None:
        return second if first is None else first
    return first - second


def _two_of_each(network: Network) -> Params:
    """Parameters for two tasks, [2, ...], in float64: near the initial ones, and different for each task."""
    generator = torch.Generator().manual_seed(1)
    params = {}
    for name, value in network.initial().items():
        twice = value.detach().double().expand(2, *value.shape)
        noise = torch.randn(twice.shape, generator=generator, dtype=torch.float64)
        # A tenth of a tensor's mean size: the tasks differ, and stay where the network works.
        params[name] = twice.clone() if name in network.fixed else twice + 0.1 * noise * value.double().abs().mean()
    return params


@contextmanager
def default_type(kind: torch.dtype) -> Iterator[None]:
    """Inside the block, tensors that a network creates itself have the dtype `kind`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _refusal(network: Network, params: Params, asked: Requirements, last: BaseException) -> ConfigError:
    """The error for a network that passes in no form, with a cure if there is one."""
    layer = culprit(network, params, asked.shape, asked.order)
    what = "this network" if layer is None else f"the layer {layer[0]} ({type(layer[1]).__name__})"
    cannot = "be differentiated twice" if asked.order > 1 else "be trained"
    line = f"{asked.key}: {what} cannot {cannot}: {first_line(last)}"
    if asked.order > 1:
        try:
            _require_right(network.one_by_one(), params, asked._replace(order=1))
        except (Exception, SystemExit):
            return ConfigError(line.replace(cannot, "be trained"))
        return ConfigError(f"{line}; once it can: {asked.cure}")
    return ConfigError(line)
