"""Networks of people's own are tried once: they run in a way that is right, or are refused with a cure that works."""

import pytest
import torch

from metalearn_cli.algorithms import maml
from metalearn_cli.backbones import custom
from metalearn_cli.core.meta import Problem, scores_per_step
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.assembly import learner_for
from metalearn_cli.runtime.run.network_trial import Requirements, default_type, tried_network
from metalearn_cli.runtime.run.outer_step import leaves, move, optimizer_for
from metalearn_cli.testing import problems
from tests import foreign
from tests.commands import TINY

SHAPE = (1, 8, 8)
LAYERS = sorted({*foreign.PICTURES, *foreign.ROWS} - foreign.REFUSED - foreign.TWICE_REFUSED)
ONE_BY_ONE = {"item", "in_place", "branches", "numpy", "wrong_at_once", "normed_weight"}
INTERFACE = Interface(SHAPE, 2, classification, None)


def network_of(call: str, order: int = 2, **arguments: str) -> tuple[Network, list[str]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = custom.Config(call=f"tests.foreign:{call}", arguments=arguments)
        network = Network(custom.build(config, SHAPE, 2))
    return tried_network(
        network, Requirements(SHAPE, order, f"backbone.call: {call}", "algorithm.second_order=false", False)
    )


def require_right(network: Network, kind: torch.dtype = torch.float64) -> None:
    """Two tasks as they run equal each alone: gradient, inner steps and answers; the inputs stay as they were."""
    config = maml.Config(inner_steps=2, inner_lr=0.1)
    learner, reference = (
        maml.build(config, Problem(one, classification, "transductive", 2)) for one in (network, network.one_by_one())
    )
    meta = problems.double(learner.init())
    tasks = problems.picture_tasks(2, ways=2, shape=SHAPE)
    inputs = tasks.support.inputs.clone()
    with default_type(kind), running(Plan("loop", 1, 1)) as runner:
        expected = runner.total(reference.meta_gradient, meta, tasks)
    with default_type(kind), running(Plan("vmap", 2, 1)) as runner:
        found = runner.total(learner.meta_gradient, meta, tasks)
        answered = scores_per_step(learner, 2, meta, tasks)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(answered.loss[:, -1], expected[1].loss, rtol=1e-9, atol=1e-12)
    assert torch.equal(tasks.support.inputs, inputs)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_plain_layer_of_torch_runs_two_tasks_as_it_runs_one(layer):
    network, _ = network_of("around", layer=layer)
    require_right(network)


def test_nearly_all_of_them_run_at_once():
    alone = {layer for layer in LAYERS if network_of("around", layer=layer)[0].runs_one_by_one}
    assert len(alone) <= 3, alone


@pytest.mark.parametrize("trouble", [one for one in foreign.TROUBLES if one is not foreign.single])
def test_what_torch_cannot_do_is_done_in_a_way_that_is_right(trouble):
    network, lines = network_of(trouble.__name__)
    assert network.runs_one_by_one == (trouble.__name__ in ONE_BY_ONE)
    assert any("one after the other" in line for line in lines) == network.runs_one_by_one
    assert all("\n" not in line for line in lines)
    require_right(network)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_learn_in_second_order(kind):
    network, lines = network_of("recurrent", kind=kind)
    assert "mynets" not in lines[0]
    require_right(network)


def test_attention_takes_the_form_that_has_a_second_derivative():
    network, lines = network_of("attention")
    assert network.plain_attention
    assert not network.runs_one_by_one
    assert "attention in plain operations" in lines[0]


def test_a_network_of_float32_alone_is_tried_in_float32():
    network, lines = network_of("single")
    assert not network.runs_one_by_one
    assert lines == []


def test_an_idle_parameter_is_named():
    assert network_of("unused")[1] == [
        "backbone.call: unused: no output depends on aux.bias, aux.weight; they learn nothing"
    ]


@pytest.mark.parametrize(
    ("call", "arguments", "layer"),
    [("once", {}, r"2 \(Layer\)"), *(("around", {"layer": n}, rf"2 \({n}\)") for n in sorted(foreign.TWICE_REFUSED))],
)
def test_what_has_no_second_derivative_is_refused_with_its_layer_and_a_cure_that_works(call, arguments, layer):
    with pytest.raises(ConfigError, match=f"the layer {layer} cannot be differentiated twice: .*second_order=false"):
        network_of(call, **arguments)
    network_of(call, order=1, **arguments)


def test_a_second_use_of_a_layer_is_not_left_out_at_once():
    network, _ = network_of("repeated")
    params = for_tasks(network.initial(), 2)
    inputs = torch.rand(2, 5, *SHAPE)
    expected = network.one_by_one()(params, inputs)
    torch.testing.assert_close(network(params, inputs), expected, rtol=1e-5, atol=1e-6)


def experiment(algorithm: dict[str, object], parts: str, **blocks: object):
    backbone = {"name": "custom", "call": "tests.foreign:frozen", "arguments": {"parts": parts}}
    return from_mapping({**TINY, "backbone": backbone, "algorithm": algorithm, **blocks}, "a test")


ALGORITHMS = [
    {"name": "maml"}, {"name": "maml", "gradient": "mixed", "inner_steps": 3}, {"name": "reptile"}, {"name": "imaml"},
    {"name": "meta_sgd"}, {"name": "meta_curvature"}, {"name": "maml_plus_plus"}, {"name": "proto_maml"},
    {"name": "protonet"}, {"name": "unicorn_maml"}, {"name": "anil"}, {"name": "boil"}, {"name": "baseline"},
]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: "-".join(map(str, one.values())))
def test_fixed_parameters_stay_in_a_task_and_from_task_to_task(algorithm, optimizer):
    chosen = experiment(algorithm, "1", outer={**TINY["outer"], "optimizer": optimizer, "weight_decay": 0.5, "lr": 0.1})
    kept = {"params.body.1.weight", "params.body.1.bias"}
    learner = learner_for(chosen, INTERFACE, "transductive")
    meta, tasks = learner.init(), problems.picture_tasks(2, ways=2, shape=SHAPE)
    tasks = tasks._replace(
        support=tasks.support._replace(inputs=tasks.support.inputs.float()),
        query=tasks.query._replace(inputs=tasks.query.inputs.float()),
    )
    start = {name: value.clone() for name, value in leaves(meta).items()}
    optimizer = optimizer_for(chosen.outer, meta)
    for iteration in range(2):
        move(chosen.outer, optimizer, meta, learner.meta_gradient(meta, tasks, iteration)[0], iteration)
    moved = {name for name, value in leaves(meta).items() if not torch.equal(value, start[name])}
    assert kept.isdisjoint(moved)
    assert moved
    after = learner.adapt(meta, tasks.support, 2)[-1].params
    for name in ("body.1.weight", "body.1.bias"):
        assert torch.equal(after[name], meta.params[name].expand(2, *meta.params[name].shape))
    assert any("fixed (requires_grad=False)" in line for line in learner.traits.remarks)


@pytest.mark.parametrize(
    ("algorithm", "parts"), [("anil", "5"), ("boil", "13"), ("protonet", "13"), ("maml", "135"), ("reptile", "135")]
)
def test_where_all_that_would_move_is_fixed_the_experiment_is_refused(algorithm, parts):
    with pytest.raises(ConfigError, match="nothing would be learned"):
        learner_for(experiment({"name": algorithm}, parts), INTERFACE, "transductive")


def test_running_statistics_of_a_network_of_ones_own_are_kept_one_task_at_a_time():
    chosen = from_mapping(
        {
            **TINY,
            "task": {**TINY["task"], "running_statistics": True},
            "backbone": {"name": "custom", "call": "tests.modules:Residual", "arguments": {"outputs": 2}},
        },
        "a test",
    )
    interface = INTERFACE._replace(input_shape=(1, 16, 16))
    learner = learner_for(chosen, interface, "transductive")
    meta = problems.double(learner.init())
    gradient = learner.meta_gradient(meta, problems.picture_tasks(2, ways=2, shape=(1, 16, 16)))[0]
    assert gradient.statistics.keys() == meta.statistics.keys()
    assert any("one after the other" in line for line in learner.traits.remarks)
