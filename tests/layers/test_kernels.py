"""Compiled kernels give the numbers of torch's own modules: values, first and second derivatives, in any shape."""

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.cpu import kernels, patches
from metalearn_cli.layers.cpu.by_kernels import ByKernels
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import KeptInputs, Pass
from metalearn_cli.runtime.machine.compiled import loaded
from tests.layers.test_layouts import LAYOUTS, laid_out, outcomes

KERNELS = loaded()
BY_KERNELS = Pass(kernels=KERNELS)
pytestmark = pytest.mark.skipif(KERNELS is None, reason="this machine has no C++ compiler, so there are no kernels")


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution, a norm, perhaps an activation and a pool, over two tasks."""

    examples: int = 3
    size: tuple[int, int] = (9, 7)
    channels: int = 4
    outputs: int = 19
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    slope: float | None = 0.0
    pool: bool = True

    def layers(self) -> nn.Sequential:
        convolution = TaskConv2d(self.channels, self.outputs, self.kernel, self.stride, self.padding, bias=False)
        layers = [convolution, TaskNorm(self.outputs)]
        layers += [] if self.slope is None else [nn.LeakyReLU(self.slope) if self.slope else nn.ReLU()]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if self.pool else []))

    def arguments(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        torch.manual_seed(0)
        inputs = torch.randn(2, self.examples, self.channels, *self.size, dtype=torch.float64)
        weight = torch.randn(2, self.outputs, self.channels, self.kernel, self.kernel, dtype=torch.float64)
        drawn = [inputs, weight, *torch.randn(2, 2, self.outputs, dtype=torch.float64)]
        return [one.to(dtype) for one in drawn]


def compiled(
    layers: nn.Sequential, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, how: Pass = BY_KERNELS
) -> Tensor:
    params = {"0.weight": weight, "1.weight": scale, "1.bias": shift}
    return over_tasks(layers, params, inputs, how)


def plain(layers: nn.Sequential, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A task at a time through torch's own functions; the norm by its formula."""
    outputs = []
    for x, w, s, b in zip(inputs, weight, scale, shift, strict=True):
        convolved = nn.functional.conv2d(x, w, stride=layers[0].stride, padding=layers[0].padding)
        mean, variance = convolved.mean((0, 2, 3), keepdim=True), convolved.var((0, 2, 3), correction=0, keepdim=True)
        normed = (convolved - mean) / (variance + 1e-5).sqrt() * s.view(-1, 1, 1) + b.view(-1, 1, 1)
        outputs.append(layers[2:](normed))
    return torch.stack(outputs)


def compare(case: Case, layout: str = "contiguous", of_inputs: bool = True, tolerance: float = 1e-9) -> None:
    layers, arguments = case.layers(), [laid_out(one, layout) for one in case.arguments()]
    if not of_inputs:  # the first block of a network, which goes another way
        inputs, *arguments = arguments
        functions = [partial(function, layers, inputs) for function in (compiled, plain)]
    else:
        functions = [partial(function, layers) for function in (compiled, plain)]
    cotangent = torch.randn_like(functions[1](*arguments))
    found, expected = (outcomes(each, [one.detach() for one in arguments], cotangent) for each in functions)
    for one, other in zip(found, expected, strict=True):
        largest = float(other.detach().abs().max().clamp(min=1))
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * largest)


@pytest.fixture(params=[5 << 19, 1], ids=["by patches", "by torch's convolution"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(patches, "PATCHES_AT_ONCE", request.param)
    forms.cache_clear()
    yield
    forms.cache_clear()


CASES = {
    "pool": Case(),
    "even": Case(size=(8, 8), outputs=16),
    "no pool": Case(pool=False),
    "leaky": Case(slope=0.1),
    "no activation": Case(slope=None),
    "strides": Case(stride=2, pool=False, outputs=33),
    "strides and pool": Case(stride=2, size=(11, 13)),
    "no margin": Case(padding=0),
    "one window": Case(size=(2, 2)),
    "one channel": Case(channels=1, outputs=40),
    "whole vectors": Case(channels=16, outputs=24),
    "whole vectors, no margin": Case(channels=8, outputs=16, padding=0),
    "whole vectors, wide margin": Case(channels=8, outputs=16, padding=2, pool=False),
    "whole vectors, 3 x 3": Case(channels=24, outputs=8, size=(3, 3), pool=False),
    "whole vectors, strides": Case(channels=16, outputs=24, stride=2, pool=False),
    "whole vectors, strides above the kernel": Case(channels=8, outputs=8, kernel=2, stride=3, pool=False),
    "whole vectors, 5 x 5": Case(channels=8, outputs=16, kernel=5, stride=3, padding=2, pool=False, size=(13, 10)),
    "whole vectors, 1 x 1": Case(channels=16, outputs=8, kernel=1, padding=0),
    "whole vectors, many places": Case(channels=32, outputs=72, examples=7, size=(14, 14)),
    "whole vectors, many channels": Case(channels=96, outputs=160, examples=2, size=(23, 23)),
}


def test_kernels_compute_convolutions_of_whole_vectors():
    for name, case in CASES.items():
        found = forms((2, 3, *case.size, case.channels), case.outputs, 8, case.layers()[0].window, KERNELS)
        assert isinstance(found, ByKernels) == name.startswith("whole vectors")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("of_inputs", [True, False], ids=["inner", "first"])
def test_kernels_compute_what_torch_computes(case, of_inputs):
    compare(CASES[case], of_inputs=of_inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of_inputs", [True, False], ids=["inner", "first"])
def test_kernels_read_any_memory_layout(layout, of_inputs):
    compare(Case(channels=2, outputs=20), layout, of_inputs)


@settings(max_examples=40, deadline=None)
@given(
    case=st.builds(
        Case, examples=st.integers(1, 3), size=st.tuples(st.integers(3, 20), st.integers(3, 40)),
        channels=st.integers(1, 5), outputs=st.integers(1, 70), kernel=st.integers(1, 3), stride=st.integers(1, 3),
        padding=st.integers(0, 2), slope=st.sampled_from([None, 0.0, 0.2]), pool=st.just(False),
    ),
    of_inputs=st.booleans(),
)  # fmt: skip
def test_kernels_compute_what_torch_computes_in_drawn_shapes(case, of_inputs):
    h, w = ((size + 2 * case.padding - case.kernel) // case.stride + 1 for size in case.size)
    # A norm of few values that are nearly equal has huge second derivatives, in which rounding is huge too.
    drawn = dataclasses.replace(case, pool=min(h, w) >= 2, examples=max(case.examples, 2))
    compare(drawn, of_inputs=of_inputs, tolerance=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    case=st.builds(
        Case, examples=st.integers(1, 9), size=st.tuples(st.integers(5, 20), st.integers(5, 20)),
        channels=st.sampled_from([8, 16, 40]), outputs=st.sampled_from([8, 24, 32, 64]), padding=st.integers(0, 3),
        kernel=st.sampled_from([1, 2, 3, 3, 3, 5]), stride=st.sampled_from([1, 1, 2, 3]),
        slope=st.sampled_from([None, 0.0, 0.2]), pool=st.just(False),
    ),
    threads=st.integers(1, 3),
)  # fmt: skip
def test_convolutions_of_whole_vectors_give_what_torch_computes_in_drawn_shapes(case, threads):
    h, w = ((size + 2 * case.padding - case.kernel) // case.stride + 1 for size in case.size)
    case = dataclasses.replace(case, pool=min(h, w) >= 2, examples=max(case.examples, 2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_ALONE_BELOW", 1)
        compare(case, tolerance=1e-6)
    torch.set_num_threads(before)


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_alone_takes_them_too_to_the_third_derivative(tasks, stride):
    torch.manual_seed(tasks)
    layer = TaskConv2d(8, 16, 3, stride, 1)
    drawn = [torch.randn(tasks, *size, dtype=torch.float64) for size in ((2, 8, 5, 6), (16, 8, 3, 3), (16,))]

    def by_kernels(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer.over_tasks({"weight": weight, "bias": bias}, inputs, Pass(kernels=KERNELS))

    def by_torch(*arguments: Tensor) -> Tensor:
        return torch.stack([nn.functional.conv2d(x, w, b, stride, 1) for x, w, b in zip(*arguments, strict=True)])

    found, expected = (
        derivatives_of(function, [one.clone().requires_grad_() for one in drawn]) for function in (by_kernels, by_torch)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-8)


def derivatives_of(function, arguments):
    """Values and derivatives of the first three orders."""
    values = [function(*arguments)]
    for _ in range(3):
        values += torch.autograd.grad(values[-1].sin().sum(), arguments[:2], create_graph=True)
    return values


@pytest.mark.parametrize("of_inputs", [True, False], ids=["inner", "first"])
def test_numbers_do_not_depend_on_the_threads(of_inputs, monkeypatch):
    monkeypatch.setattr(kernels, "_ALONE_BELOW", 1)
    case, before = Case(examples=6, size=(40, 40), channels=3, outputs=32), torch.get_num_threads()
    layers, found = case.layers(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        arguments = [one.requires_grad_(of_inputs or number > 0) for number, one in enumerate(case.arguments())]
        outputs = compiled(layers, *arguments)
        leaves = [one for one in arguments if one.requires_grad]
        first = torch.autograd.grad(outputs.square().sum(), leaves, create_graph=True)
        if patches.PATCHES_AT_ONCE == 1:  # torch's own convolution is not ours to promise for
            found.append([outputs.sign()])
        else:
            found.append([outputs, *first, *torch.autograd.grad(sum(one.sin().sum() for one in first), leaves)])
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.fixture
def called(monkeypatch):
    """The names of the kernels that are called."""
    names = []
    call = kernels.Kernels.call
    noted = lambda self, name, *rest: names.append(name) or call(self, name, *rest)  # noqa: E731
    monkeypatch.setattr(kernels.Kernels, "call", noted)
    return names


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("known", [1, 2])
def test_without_a_graph_kernels_take_the_statistics_of_the_first_examples(case, known, called):
    case = dataclasses.replace(CASES[case], examples=4)
    layers, arguments, how = case.layers(), case.arguments(), Pass(reference=known)
    with torch.no_grad():
        found = compiled(layers, *arguments, how._replace(kernels=KERNELS))
        assert {"forward", "first_forward"} & set(called)
        expected = compiled(layers, *arguments, how)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
    # With a graph the layers go one by one, and the same derivatives come out as without kernels.
    functions = [partial(compiled, layers, how=each) for each in (how._replace(kernels=KERNELS), how)]
    cotangent = torch.randn_like(expected)
    for one, other in zip(*(outcomes(each, arguments, cotangent) for each in functions), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.detach().abs().max().clamp(min=1)))


def test_what_a_first_block_makes_of_its_inputs_serves_all_passes_of_the_same(called):
    case = CASES["one channel"]
    layers, (inputs, *arguments), kept = case.layers(), case.arguments(), KeptInputs()
    others, how = inputs + 1, Pass(kernels=KERNELS, kept=kept)
    for seen, made in ((inputs, 2), (inputs.detach(), 0), (others, 2), (others[:, 1:], 2), (inputs, 2)):
        expected = compiled(layers, seen, *arguments)
        called.clear()
        assert torch.equal(compiled(layers, seen, *arguments, how), expected)
        assert called.count("patch_products") == made  # one for each of two tasks


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("of_inputs", [True, False], ids=["inner", "first"])
def test_what_is_not_finite_stays_so(value, of_inputs):
    case = Case()
    inputs, *rest = case.arguments()
    inputs[0, 0, 0, 0, 0] = value
    outputs = compiled(case.layers(), inputs.requires_grad_(of_inputs), *rest)
    assert not outputs[0].isfinite().any()
    assert outputs[1].isfinite().all()


def test_float32_is_as_close_as_torch_is():
    case = Case(examples=5, size=(30, 30), channels=3, outputs=32)
    exact = compiled(case.layers(), *case.arguments())
    found = compiled(case.layers(), *case.arguments(torch.float32))
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


def test_a_third_derivative_is_refused():
    case = Case()
    arguments = [one.requires_grad_() for one in case.arguments()]
    first = torch.autograd.grad(compiled(case.layers(), *arguments).sin().sum(), arguments, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(sum(one.sin().sum() for one in first), arguments, create_graph=True)


def test_series_take_the_kernels_too():
    layers = nn.Sequential(TaskConv1d(3, 20, 5, 2, 1, bias=False), TaskNorm(20), nn.ReLU())
    params = {"0.weight": torch.randn(2, 20, 3, 5), "1.weight": torch.randn(2, 20), "1.bias": torch.randn(2, 20)}
    params = {name: value.double() for name, value in params.items()}
    inputs = torch.randn(2, 4, 3, 21, dtype=torch.float64, requires_grad=True)
    found, expected = (over_tasks(layers, params, inputs, Pass(kernels=kernels)) for kernels in (KERNELS, None))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_other_tensors_go_the_way_of_torch():
    assert KERNELS.takes(torch.ones(2))
    assert not KERNELS.takes(torch.ones(2, dtype=torch.bfloat16))
    seen = []
    torch.vmap(lambda one: seen.append(KERNELS.takes(one)) or one)(torch.ones(2, 3))
    assert seen == [False]
