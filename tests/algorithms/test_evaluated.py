"""What is trained is what is measured: training's loss is the loss that evaluation computes after the same steps, and
the meta-gradient is the derivative of that one, for every algorithm, network and setting; all in float64.

Evaluation has no graph of inner steps, so that a learner whose training went another way than its evaluation would
fail here, whatever its own graph says. In first order the inner gradients count as constants: there the evaluation
that is differenced takes the inner gradients of the point where it started.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from metalearn_cli.algorithms import (
    anil,
    boil,
    cavia,
    imaml,
    maml,
    maml_plus_plus,
    meta_curvature,
    meta_sgd,
    metaqda,
    nearest,
    proto_maml,
    protonet,
    prototypes,
    r2d2,
    reptile,
    unicorn_maml,
)
from metalearn_cli.backbones import conv4, custom, layers, mlp, resnet12
from metalearn_cli.core import inner_loop
from metalearn_cli.core.meta import Learner, Meta, Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.running_statistics import with_running_statistics
from metalearn_cli.core.tasks import Task, keyed
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems
from tests import reference

RATE = 0.3
ORDERS = ({"second_order": True}, {"second_order": False})
SETTLED = {
    "strength": 1e4,
    "inner_lr": 1e-4,
    "inner_steps": 15,
    "cg_steps": 6,
    "cg_damping": 0.0,
    "strength_damping": 0.0,
}


def settings(*choices: tuple[dict, ...]) -> list[dict]:
    """Every combination of one from each of the choices."""
    return [dict(itertools.chain.from_iterable(one.items() for one in some)) for some in itertools.product(*choices)]


def steps(*numbers: int) -> tuple[dict, ...]:
    return tuple({"inner_steps": number} for number in numbers)


RATED = ({"inner_lr": RATE},)
MODES = ({"gradient": "reverse"}, {"gradient": "mixed"})
ZERO = ({"zero_head": False}, {"zero_head": True})
LEARNERS: dict[ModuleType, list[dict]] = {
    maml: settings(RATED, steps(1, 3), ORDERS, MODES, ZERO) + settings(RATED, steps(0, 10), ORDERS, MODES),
    anil: settings(RATED, steps(1, 3), ORDERS, ZERO) + settings(RATED, steps(0), ORDERS),
    boil: settings(RATED, steps(1, 3), ORDERS),
    meta_sgd: settings(RATED, steps(1, 3), ORDERS),
    meta_curvature: settings(RATED, steps(1, 3), ORDERS),
    maml_plus_plus: settings(
        RATED,
        steps(1, 3),
        ORDERS,
        ({"per_step_norm": True}, {"per_step_norm": False}),
        ({"learned_rates": True}, {"learned_rates": False}),
        ({"multi_step_iterations": 0}, {"multi_step_iterations": 10}),
    ),
    cavia: settings(({"context": 5},), steps(1, 3), ORDERS),
    imaml: settings(({"cg_steps": 0}, {"inner_lr": 0.05, "inner_steps": 3}, SETTLED)),
    reptile: settings(steps(1, 3), ({"inner_optimizer": "adam"}, {"inner_optimizer": "sgd"})),
    protonet: [{}],
    prototypes: settings(({"distance": "cosine"}, {"distance": "squared"})),
    metaqda: [{}],
    proto_maml: settings(RATED, steps(0, 1, 2, 5), ORDERS),
    unicorn_maml: settings(RATED, steps(1, 3), ORDERS),
    r2d2: [{}],
    nearest: [{}],
}
"""The baselines are not among them: they train a classifier of all classes, which is no task that they are measured
on; tests/algorithms/test_baselines.py holds that one."""


def _layers() -> nn.Module:
    listed = [{"conv2d": {"channels": 4, "kernel": 3, "stride": 2, "padding": 1}}, "bn", "tanh", "avg_pool2d"]
    listed += ["flatten", {"linear": {"features": 6}}, "sigmoid", "linear"]
    return layers.build(layers.Config(layers=listed), SHAPE, 3)


SHAPE = (1, 16, 16)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv4": lambda: conv4.build(conv4.Config(channels=4), SHAPE, 3),
    "conv4, pooled": lambda: conv4.build(conv4.Config(channels=4, pool=True), SHAPE, 3),
    "conv4, groups": lambda: conv4.build(conv4.Config(channels=32, norm="group"), SHAPE, 3),
    "conv4, pooled, groups": lambda: conv4.build(conv4.Config(channels=32, norm="group", pool=True), SHAPE, 3),
    "mlp": lambda: mlp.build(mlp.Config(hidden=[6, 5]), SHAPE, 3),
    "layers": _layers,
    "custom": lambda: custom.build(custom.Config(call="tests.modules:Residual"), SHAPE, 3),
    "resnet12": lambda: resnet12.build(resnet12.Config(channels=[3, 4, 4, 5]), SHAPE, 3),
    "resnet12, dropped": lambda: resnet12.build(resnet12.Config(channels=[3, 4, 4, 5], drop_rate=0.2), SHAPE, 3),
}
WITH_BATCH_NORMS = ("conv4", "conv4, pooled", "layers", "resnet12", "resnet12, dropped")


def smooth(module: nn.Module) -> nn.Module:
    """The same without kinks: a difference across one is no derivative."""
    for name, child in module.named_children():
        match child:
            case nn.ReLU() | nn.LeakyReLU():
                setattr(module, name, nn.Softplus())
            case nn.MaxPool2d():
                setattr(module, name, nn.AvgPool2d(child.kernel_size))
            case _:
                smooth(child)
    return module


class Case(NamedTuple):
    """A learner on a network, what its norms see, whether running statistics are kept, and how tasks run."""

    module: ModuleType
    network: str
    settings: dict
    statistics: str = "transductive"
    running: bool = False
    alone: bool = False

    @property
    def held(self) -> bool:
        """Whether the meta-gradient takes inner gradients for constants."""
        return self.settings.get("second_order") is False

    @property
    def exact(self) -> bool:
        """Whether its meta-gradient is the derivative of a loss; Reptile's, or of an unsolved inner problem, is not."""
        return self.module is not reptile and (self.module is not imaml or self.settings == SETTLED)


def cases(module: ModuleType, network: str) -> Iterator[Case]:
    """All combinations of an algorithm on a network."""
    running = (False, True) if network in WITH_BATCH_NORMS and module is not nearest else (False,)
    ways = [*((kept, False) for kept in running), (False, True)]
    for chosen, statistics, (kept, alone) in itertools.product(LEARNERS[module], ("transductive", "support"), ways):
        yield Case(module, network, chosen, statistics, kept, alone)


def learner_of(case: Case) -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(smooth(NETWORKS[case.network]()), one_by_one=case.alone)
        problem = Problem(network, classification, case.statistics, problems.WAYS)
        learner = case.module.build(case.module.Config(**case.settings), problem)
    return with_running_statistics(learner, network) if case.running else learner


def losses_per_step(learner: Learner, meta: Meta, tasks: Task) -> Tensor:
    """The query losses [T, K + 1] that evaluation computes, with what is random in training as it is there.

    `scores_per_step` is the same function of tasks without keys (tests/layers/test_drop_block.py).
    """
    with torch.no_grad():
        states = learner.adapt(meta, tasks.support, learner.traits.inner_steps)
        outputs = learner.predict(states, tasks.query.inputs)
        return torch.stack([classification.loss(one, tasks.query.targets) for one in outputs], 1)


def moved(meta: Meta, by: float = 0.1) -> Meta:
    """Away from the start, where rates are equal, matrices identities and shifts zero."""
    generator = torch.Generator().manual_seed(5)
    return Meta(
        *({n: v + by * torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in p.items()} for p in meta)
    )


def counting(case: Case, steps: int) -> Tensor:
    """How much the query loss after 0, 1, ... inner steps counts at iteration 0 of training."""
    last = [0.0] * steps + [1.0]
    if case.module is maml_plus_plus:
        last = [0.0, *maml_plus_plus.multi_step_weights(steps, 0, case.settings["multi_step_iterations"])]
    return torch.tensor(last, dtype=torch.float64)


class Held:
    """`inner_loop.support_gradient`, which gives what it gave the first time round."""

    def __init__(self) -> None:
        self.kept: list[dict] = []
        self.at: int | None = None
        self._true = inner_loop.support_gradient

    def __call__(self, *given) -> dict:
        if self.at is None:
            self.kept.append(self._true(*given))
            return self.kept[-1]
        self.at += 1
        return self.kept[self.at - 1]


def disagreement(case: Case, monkeypatch) -> str:
    """In what training and evaluation differ; nothing where they do not."""
    learner, tasks = learner_of(case), keyed(problems.picture_tasks(2, shape=SHAPE), torch.tensor([3, 2**62 + 5]))
    meta, weights = moved(problems.double(learner.init())), counting(case, learner.traits.inner_steps)
    held = Held()

    def evaluated(at: Meta) -> Tensor:
        if held.at is not None:
            held.at = 0
        return losses_per_step(learner, at, tasks) @ weights

    with ExitStack() as stack:
        gradient, result = learner.meta_gradient(meta, tasks, 0)
        if case.held:
            stack.enter_context(monkeypatch.context()).setattr(inner_loop, "support_gradient", held)
        expected = evaluated(meta)
        if not torch.allclose(result.loss, expected, rtol=1e-11, atol=0):
            return f"{case}: training has loss {result.loss.tolist()}, evaluation {expected.tolist()}"
        if not case.exact:
            return ""
        held.at = 0 if case.held else None
        slope, along = problems.slope_by_differences(lambda at: float(evaluated(at).sum()), meta)
    along, learned = (one._replace(statistics={}) for one in (along, gradient))
    ours, each = problems.flat(learned) @ problems.flat(along), problems.flat(learned)
    # The first is how well a difference of losses is rounded, however flat they are.
    if abs(float(ours) - slope) > 1e-9 + 1e-6 * max(abs(slope), float(each.norm()) / len(each) ** 0.5):
        return f"{case}: training goes {float(ours):.9g}, evaluation {slope:.9g}"
    return ""


def differing(some: Iterable[Case], monkeypatch) -> list[str]:
    return [found for case in some if (found := disagreement(case, monkeypatch))]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("module", LEARNERS)
def test_training_lowers_the_loss_that_evaluation_computes(module, network, monkeypatch):
    every = list(cases(module, network))
    start = list(NETWORKS).index(network)  # so that networks take different settings
    assert not differing([every[start % len(every)], *every[start + 1 :: 97]], monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("module", LEARNERS)
def test_in_every_combination_of_settings_it_does(module, network, monkeypatch):
    assert not differing(cases(module, network), monkeypatch)


def test_every_algorithm_that_is_measured_on_what_it_trains_on_is_held_so():
    baselines = {"baseline", "baseline_plus_plus"}
    assert {module.__name__.rpartition(".")[2] for module in LEARNERS} == set(names_in("algorithms")) - baselines


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_proto_maml_equals_proto_maml_written_a_second_time(number, pool, second_order):
    tasks = problems.picture_tasks(3, shape=SHAPE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(conv4.build(conv4.Config(channels=6, pool=pool), SHAPE, problems.WAYS))
    config = proto_maml.Config(inner_lr=RATE, inner_steps=number, second_order=second_order)
    learner = proto_maml.build(config, Problem(network, classification, "transductive", problems.WAYS))
    meta = moved(problems.double(learner.init()))
    gradient, result = learner.meta_gradient(meta, tasks)
    body = {name: value for name, value in meta.params.items() if name.startswith("body.")}
    halves = (zip(*half[:2], strict=True) for half in tasks)
    each = [
        reference.proto_maml(partial(reference.conv4_features, pool=pool), body, *two, RATE, number, second_order)
        for two in zip(*halves, strict=True)
    ]
    torch.testing.assert_close(result.loss, torch.stack([loss for loss, _ in each]), rtol=1e-10, atol=0)
    for name in body:
        expected = torch.stack([found[name] for _, found in each]).sum(0)
        torch.testing.assert_close(gradient.params[name], expected, rtol=1e-10, atol=1e-12)
