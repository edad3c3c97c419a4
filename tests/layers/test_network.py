import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import maml
from metalearn_cli.core.meta import Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.runtime.machine.compiled import loaded
from metalearn_cli.testing import problems


def test_body_then_head_equals_the_whole_network():
    network = problems.smooth_network()
    params, inputs = for_tasks(network.initial(), 2), torch.rand(2, 3, *problems.SHAPE)
    split = network.classify(params, network.features(params, inputs))
    torch.testing.assert_close(split, network(params, inputs))


def test_initial_parameters_are_copies():
    network = problems.smooth_network()
    network.initial()["head.bias"].add_(1)
    assert not torch.equal(network.initial()["head.bias"], network.initial()["head.bias"] + 1)
    assert torch.equal(network.initial()["head.bias"], problems.smooth_network().initial()["head.bias"])


def test_threads_with_other_parameters_do_not_disturb_each_other():
    network, inputs = problems.smooth_network(), torch.rand(1, 4, *problems.SHAPE)
    scaled = [{name: value[None] * (1 + k / 10) for name, value in network.initial().items()} for k in range(4)]
    expected = [network(params, inputs) for params in scaled]
    right = []

    def run(number: int) -> None:
        right.append(all(torch.equal(network(scaled[number], inputs), expected[number]) for _ in range(50)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


class Foreign(nn.Module):
    """A module that knows nothing of tasks."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return self.inner(inputs) * 2


def test_a_module_that_knows_nothing_of_tasks_runs_as_one_that_does():
    tasks, known = problems.picture_tasks(3), problems.smooth_module().double()
    params = {name: torch.randn(3, *value.shape, dtype=value.dtype) for name, value in known.named_parameters()}
    expected = Network(known)(params, tasks.support.inputs)
    found = Network(Foreign(known))({f"inner.{name}": value for name, value in params.items()}, tasks.support.inputs)
    torch.testing.assert_close(found, expected * 2, rtol=1e-11, atol=1e-12)
    alone = Network(known, one_by_one=True)(params, tasks.support.inputs)
    torch.testing.assert_close(alone, expected, rtol=1e-11, atol=1e-12)


def test_a_foreign_module_has_a_right_second_order_gradient():
    tasks, gradients = problems.picture_tasks(3), []
    for module in (problems.smooth_module(), Foreign(problems.smooth_module())):
        learner = maml.build(
            maml.Config(inner_lr=0.2), Problem(Network(module), classification, "transductive", problems.WAYS)
        )
        meta = problems.double(learner.init())
        found = learner.meta_gradient(meta, tasks)[0]
        slope, along = problems.slope_by_differences(
            lambda m, learner=learner: float(learner.meta_gradient(m, tasks)[1].loss.sum()), meta
        )
        gradients.append(abs(float(problems.flat(found) @ problems.flat(along)) - slope) / abs(slope))
    assert max(gradients) < 1e-7


def test_a_maximum_before_its_activation_gives_what_the_layers_in_their_order_give():
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(3, 4, 1), nn.ReLU())
    module = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5)).double()
    inputs = torch.randn(2, 3, 2, 10, 10, dtype=torch.float64)
    params = {name: torch.randn(2, *value.shape).double() for name, value in module.named_parameters()}

    def found(one_by_one: bool) -> list[torch.Tensor]:
        at = {name: value.clone().requires_grad_() for name, value in params.items()}
        outputs = Network(module, one_by_one)(at, inputs)
        gradients = torch.autograd.grad(outputs.square().sum(), list(at.values()), create_graph=True)
        squares = sum(one.square().sum() for one in gradients)
        return [outputs, *gradients, *torch.autograd.grad(squares, list(at.values()))]

    together, alone = found(False), found(True)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernels", [None, loaded()], ids=["torch", "kernels"])
@pytest.mark.parametrize("tasks", [1, 3])
def test_it_changes_no_bit_where_a_sequence_within_a_sequence_ends(tasks, kernels):
    layers = [
        TaskConv2d(2, 19, 3, padding=1, bias=False), TaskNorm(19), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        TaskConv2d(19, 8, 3, padding=1, bias=False), TaskNorm(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    ]  # fmt: skip
    torch.manual_seed(0)
    head, inputs = nn.Linear(72, 5), torch.randn(tasks, 6, 2, 14, 12)
    drawn = [torch.randn(tasks, *value.shape) for value in nn.Sequential(*layers, head).parameters()]

    def found(*parts: list[nn.Module]) -> list[torch.Tensor]:
        body = nn.Sequential(*parts[0]) if len(parts) == 1 else nn.Sequential(*(nn.Sequential(*one) for one in parts))
        network = Network(nn.Sequential(OrderedDict(body=body, head=head)), kernels=kernels)
        at = {name: value.clone().requires_grad_() for name, value in zip(network.initial(), drawn, strict=True)}
        outputs = network(at, inputs)
        return [outputs, *torch.autograd.grad(outputs.square().sum(), list(at.values()))]

    whole = found(layers)
    for end in range(1, len(layers)):
        apart = found(layers[:end], layers[end:])
        assert all(torch.equal(one, other) for one, other in zip(whole, apart, strict=True)), end
