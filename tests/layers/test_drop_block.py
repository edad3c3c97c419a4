"""Drop-block: what is dropped, by what it is decided, and that it is dropped in training alone."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import baseline, imaml, maml, maml_plus_plus, proto_maml, protonet, reptile
from metalearn_cli.core.meta import Learner, Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import keyed, tasks_between
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Pass
from metalearn_cli.layers.random_bits import random_bits
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.testing import problems

KEYS = torch.tensor([3, 2**62 + 5, 11, 0, 2**63 - 1])
MODULES = [maml, maml_plus_plus, protonet, proto_maml, reptile, baseline, imaml]


def network(rate=0.3) -> Network:
    """A smooth network that drops squares in its middle and single values near its end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Sequential(TaskConv2d(1, 6, 3, padding=1, bias=False), TaskNorm(6), nn.Softplus()),
            nn.Sequential(nn.AvgPool2d(2), DropBlock(rate, 2, 0)),
            TaskConv2d(6, 4, 2, padding=1, bias=False),
            TaskNorm(4),
            nn.Tanh(),
            nn.Sequential(nn.AvgPool2d(2), DropBlock(rate, 1, 1)),
            nn.Flatten(),
        )
        return Network(nn.Sequential(OrderedDict(body=body, head=nn.Linear(16, problems.WAYS))))


def learner_of(module, rate=0.3, statistics="transductive", one_by_one=False, **settings) -> Learner:
    chosen = network(rate).one_by_one() if one_by_one else network(rate)
    return module.build(module.Config(**settings), Problem(chosen, classification, statistics, problems.WAYS))


def tasks_with_keys(count=5):
    return keyed(problems.picture_tasks(count), KEYS[:count])


def dropped(layer: DropBlock, inputs: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return layer.over_tasks({}, inputs, Pass(keys=keys)) == 0


def splitmix(bits: int) -> int:
    bits &= 2**64 - 1
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 2**64 - 1
    return bits ^ bits >> 31


def test_its_random_numbers_are_those_of_splitmix64_in_whole_numbers_of_any_size():
    found = random_bits(KEYS, 2, 7, 40)
    for key, row in zip(KEYS.tolist(), found.tolist(), strict=True):
        start = splitmix(splitmix(key) + 2)
        assert [bits % 2**64 for bits in row] == [splitmix(start + n * 0x9E3779B97F4A7C15) for n in range(8, 48)]


@pytest.mark.parametrize(("side", "block"), [(10, 5), (7, 3), (5, 5), (3, 5), (6, 1)])
def test_the_share_that_is_dropped_is_the_rate(side, block):
    layer, inputs = DropBlock(0.1, block, 0), torch.ones(2, 50, 100, side, side)
    shares = dropped(layer, inputs, KEYS[:2]).double().mean((3, 4)).flatten()
    # Maps are independent; places of one map are not.
    assert abs(float(shares.mean()) - 0.1) < 4 * float(shares.std()) / len(shares) ** 0.5
    assert float(shares.std()) / len(shares) ** 0.5 < 0.004


def test_single_values_are_dropped_within_the_binomial_bound():
    found = dropped(DropBlock(0.25, 1, 0), torch.ones(1, 40, 50, 10, 10), KEYS[:1])
    assert abs(int(found.sum()) - 0.25 * found.numel()) < 4 * (found.numel() * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(("height", "width", "block"), [(9, 7, 3), (4, 9, 5), (2, 2, 5)])
def test_what_is_dropped_is_made_of_whole_blocks(height, width, block):
    found = dropped(DropBlock(0.2, block, 0), torch.ones(2, 4, 30, height, width), KEYS[:2]).flatten(0, 2)
    rows, columns = min(block, height), min(block, width)
    assert found.any()
    assert not found.all()
    rest = found.clone()
    for y in range(height - rows + 1):
        for x in range(width - columns + 1):
            whole = found[:, y : y + rows, x : x + columns].all((1, 2))
            rest[whole, y : y + rows, x : x + columns] = False
    assert not rest.any()


def test_what_stays_is_scaled_by_the_share_that_stays_of_its_task():
    inputs = torch.rand(3, 4, 5, 6, 6, dtype=torch.float64) + 1
    layer = DropBlock(0.3, 3, 0)
    found = layer.over_tasks({}, inputs, Pass(keys=KEYS[:3]))
    for one, before in zip(found, inputs, strict=True):
        stays = one != 0
        torch.testing.assert_close(one[stays], before[stays] * stays.numel() / int(stays.sum()), rtol=1e-14, atol=0)


def test_where_all_is_dropped_nothing_is_infinite():
    found = DropBlock(1 - 1e-12, 1, 0).over_tasks({}, torch.ones(1, 1, 1, 2, 2), Pass(keys=KEYS[:1]))
    assert torch.equal(found, torch.zeros(1, 1, 1, 2, 2))


def test_the_same_key_layer_and_example_give_the_same_places_and_others_other_ones():
    inputs = torch.ones(2, 3, 4, 8, 8)
    first = dropped(DropBlock(0.3, 2, 0), inputs, KEYS[:2])
    assert torch.equal(first, dropped(DropBlock(0.3, 2, 0), inputs, KEYS[:2]))
    assert torch.equal(first[1:], dropped(DropBlock(0.3, 2, 0), inputs[1:], KEYS[1:2]))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first[:, :, 0], first[:, :, 1])
    assert not torch.equal(first, dropped(DropBlock(0.3, 2, 1), inputs, KEYS[:2]))
    without_keys = DropBlock(0.3, 2, 0).over_tasks({}, inputs, Pass(before=2))
    assert not (without_keys == 0).any()


def test_queries_are_numbered_after_the_support_set():
    layer, inputs = DropBlock(0.3, 2, 0), torch.ones(2, 5, 4, 8, 8)
    every = dropped(layer, inputs, KEYS[:2])
    later = layer.over_tasks({}, inputs[:, :2], Pass(keys=KEYS[:2], before=3))
    assert torch.equal(later == 0, every[:, 3:])


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize("plan", [Plan("vmap", 1, 1), Plan("vmap", 3, 1), Plan("vmap", 64, 1), Plan("threads", 2, 3)])
@pytest.mark.parametrize("module", MODULES)
def test_tasks_at_once_equal_one_at_a_time(module, plan, statistics):
    reference, learner = (learner_of(module, statistics=statistics, one_by_one=one) for one in (True, False))
    meta, tasks = problems.double(learner.init()), tasks_with_keys()
    with running(Plan("loop", 1, 1)) as runner:
        expected = runner.total(reference.meta_gradient, meta, tasks)
    with running(plan) as runner:
        found = runner.total(learner.meta_gradient, meta, tasks)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_two_shares_of_the_tasks_are_together_what_all_are():
    learner, tasks = learner_of(maml, inner_steps=2), tasks_with_keys(4)
    meta = problems.double(learner.init())
    whole = problems.flat(learner.meta_gradient(meta, tasks)[0])
    parts = [problems.flat(learner.meta_gradient(meta, tasks_between(tasks, *ends))[0]) for ends in ((0, 1), (1, 4))]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (maml, {"inner_steps": 3, "inner_lr": 0.3}),
        (maml, {"inner_steps": 3, "inner_lr": 0.3, "gradient": "mixed"}),
        (protonet, {}),
        (proto_maml, {"inner_steps": 2}),
        (imaml, imaml._SETTLED),
    ],
)
def test_the_meta_gradient_equals_finite_differences(module, settings, statistics):
    learner, task = learner_of(module, statistics=statistics, **settings), tasks_with_keys(2)
    meta = problems.double(learner.init())
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss.sum()), meta)
    assert float(problems.flat(gradient) @ problems.flat(along)) == pytest.approx(slope, rel=1e-6)


def test_mixed_mode_gives_what_reverse_mode_gives():
    tasks = tasks_with_keys(3)
    found = [learner_of(maml, inner_steps=20, inner_lr=0.1, gradient=one) for one in ("reverse", "mixed")]
    reverse, mixed = (problems.flat(one.meta_gradient(problems.double(one.init()), tasks)[0]) for one in found)
    torch.testing.assert_close(mixed, reverse, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("module", MODULES)
def test_only_a_meta_gradient_of_tasks_with_keys_drops_anything(module):
    learner, plain = (learner_of(module, rate) for rate in (0.3, 0.0))
    meta, tasks = problems.double(learner.init()), tasks_with_keys(2)
    gradients = [
        problems.flat(one.meta_gradient(meta, which, 0)[0])
        for one, which in ((plain, tasks), (learner, keyed(tasks, None)), (learner, tasks))
    ]
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])
    answers = [one.answers(meta, tasks.support, tasks.query.inputs, [0, 2])[-1] for one in (plain, learner)]
    assert torch.equal(*answers)


def test_tasks_that_a_layer_cannot_tell_apart_are_refused_rather_than_mixed_up():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = DropBlock(0.3, 2, 0)

        def forward(self, inputs):
            return self.drop(inputs).flatten(1)

    hiding = Network(nn.Sequential(Hidden(), nn.Linear(64, 2)))
    params, inputs = for_tasks(hiding.initial(), 2), torch.rand(2, 3, 1, 8, 8)
    assert hiding(params, inputs, BY_BATCH).shape == (2, 3, 2)
    with pytest.raises(ConfigError, match=r"drop-block needs a network of this package's layers"):
        hiding(params, inputs, Pass(keys=KEYS[:2]))
    assert (hiding.one_by_one()(params, inputs, Pass(keys=KEYS[:2])) != hiding(params, inputs)).any()
