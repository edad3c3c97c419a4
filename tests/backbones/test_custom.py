"""Networks of people's own: taken where that is exact, refused with the reason where it is not."""

import sys

import pytest
import torch

from metalearn_cli.backbones import custom
from metalearn_cli.core.objectives import classification
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.layers.network import Network, over_tasks
from metalearn_cli.layers.norm import FrozenNorm, TaskGroupNorm, TaskNorm
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.machine.memory import require_memory_for_network
from metalearn_cli.runtime.run.assembly import learner_for
from tests import modules
from tests.commands import TINY

SHAPE = (1, 16, 16)


def built(call, outputs=3, head="", shape=SHAPE, **arguments):
    torch.manual_seed(0)
    return custom.build(custom.Config(call=f"tests.modules:{call}", arguments=arguments, head=head), shape, outputs)


def pretrained(**settings):
    return custom.build(custom.Config(call="tests.modules:pretrained", **settings), SHAPE, 3)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_it_answers_as_the_module_does_in_training(norm):
    network = built("Residual", norm=norm).double()
    torch.manual_seed(0)
    expected, inputs = modules.Residual(norm=norm).double(), torch.rand(5, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(network(inputs), expected(inputs), rtol=1e-10, atol=1e-12)
    assert [name for name, _ in network.named_children()] == ["body", "head"]
    assert network.body(inputs).shape == (5, 5)


def test_every_norm_is_one_that_remembers_nothing():
    kinds = [type(one) for one in built("Residual", norm="batch").modules()]
    assert kinds.count(TaskNorm) == 3
    kinds = [type(one) for one in built("Residual", norm="group").modules()]
    assert kinds.count(TaskGroupNorm) == 1
    assert not list(built("Residual").buffers())
    Network(built("Residual"))


def test_a_head_with_other_outputs_is_made_anew_and_one_with_the_same_is_kept():
    assert built("Residual", outputs=7).head.out_features == 7
    kept = built("Residual", outputs=3).head.weight
    torch.manual_seed(0)
    assert torch.equal(kept, modules.Residual().classifier.weight)


def test_two_children_stay_what_they_are():
    assert sorted(name for name, _ in built("in_two_children").named_parameters()) == [
        "body.1.bias", "body.1.weight", "body.2.bias", "body.2.weight", "head.bias", "head.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("with_layer", {"kind": "instance"}, r"backbone\.call: 0 is a InstanceNorm2d"),
        ("with_layer", {"kind": "own"}, r"backbone\.call: 0 is a Norm; only batch norms of torch itself"),
        ("with_layer", {"kind": "plain"}, r"0 is a BatchNorm2d without scale and shift"),
        ("with_layer", {"kind": "groups"}, r"0 is a GroupNorm without scale and shift"),
        ("with_layer", {"kind": "random"}, "0 is a Dropout, which is random; set its probability to 0"),
        ("Noisy", {}, "answers otherwise every time"),
        ("Scaled", {}, "expected the last layer"),
        ("headless", {}, "has no linear layer for a head"),
        ("no_module", {}, "gave a str, expected an nn.Module"),
        ("broken", {}, "failed: ValueError: two$"),
        ("Residual", {"no_such": 1}, "failed: TypeError: "),
        ("Residual", {"inputs": 3}, r"cannot take inputs of shape \[1, 16, 16\]: RuntimeError: "),
        ("nothing", {}, "tests.modules:nothing cannot be imported: AttributeError: "),
        ("__doc__", {}, "is no class or function"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_reason(call, arguments, message):
    with pytest.raises(ConfigError, match=message) as refused:
        built(call, **arguments)
    assert "\n" not in str(refused.value)


def test_a_head_that_is_not_the_last_layer_or_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"backbone\.head: .* expected the last layer"):
        built("Residual", head="between")
    with pytest.raises(ConfigError, match="has no linear layer 'no_such', only between, classifier"):
        built("Residual", head="no_such")


def test_dropout_that_drops_nothing_is_welcome():
    assert built("with_layer", kind="still").head.out_features == 3


def test_a_module_is_found_where_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "mynet_of_a_test.py").write_text(
        "from torch import nn\ndef build(width):\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, width))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    config = custom.Config(call="mynet_of_a_test:build", arguments={"width": 2})
    assert custom.build(config, SHAPE, 2).head.out_features == 2


def test_frozen_statistics_answer_as_the_pretrained_network_does_in_evaluation():
    network, inputs = pretrained(statistics="frozen").double(), torch.rand(5, *SHAPE, dtype=torch.float64)
    expected = modules.pretrained().double().eval()(inputs)
    torch.testing.assert_close(network(inputs), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network(inputs[:1]), expected[:1], rtol=1e-10, atol=1e-12)  # each by itself
    assert Network(network).fixed == {
        f"body.{name}.{part}" for name in ("norm", "second.1", "last") for part in ("mean", "variance")
    }


def test_frozen_norms_of_two_tasks_equal_one_at_a_time_and_torch_to_the_second_derivative():
    norm = FrozenNorm(torch.rand(3), torch.rand(3) + 0.5, 1e-5).double()
    inputs = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    params = {name: value.detach().expand(2, *value.shape) * 1.5 for name, value in norm.named_parameters()}
    weight = params["weight"].clone().requires_grad_()
    outputs = over_tasks(norm, params | {"weight": weight}, inputs)
    for task in range(2):
        own = [params[name][task] for name in ("mean", "variance")]
        expected = torch.nn.functional.batch_norm(
            inputs[task], *own, weight[task], params["bias"][task], training=False, eps=1e-5
        )
        torch.testing.assert_close(outputs[task], expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(
        lambda weight, inputs: norm.over_tasks(params | {"weight": weight}, inputs), (weight, inputs)
    )


def test_a_frozen_body_leaves_the_head_alone_to_move():
    network = pretrained(statistics="frozen", freeze=True)
    moving = {name for name, value in network.named_parameters() if value.requires_grad}
    assert moving == {"head.weight", "head.bias"}


def test_norms_that_forget_what_was_trained_are_known_and_others_are_not():
    def forgetful(network):
        return sum(norm.forgets for norm in Network(network).modules_of(TaskNorm).values())

    assert (forgetful(pretrained()), forgetful(built("Residual"))) == (3, 0)


def test_a_network_whose_norms_forget_says_so_in_one_line_with_what_it_costs():
    experiment = from_mapping(
        TINY | {"backbone": {"name": "custom", "call": "tests.modules:pretrained"}, "algorithm": {"name": "protonet"}},
        "test",
    )
    learner = learner_for(experiment, Interface(SHAPE, 3, classification, None), "support")
    [line] = [line for line in learner.traits.remarks if "pretrained batch norms" in line]
    assert "3 pretrained batch norms now use the statistics of the batch at hand" in line
    assert "backbone.statistics=frozen" in line


def test_weights_that_a_function_loads_bring_no_page_of_warnings(recwarn):
    require_memory_for_network("custom", pretrained)
    assert not list(recwarn)


def test_a_norm_without_statistics_cannot_be_frozen():
    with pytest.raises(ConfigError, match=r"that keeps no statistics; expected backbone\.statistics=batch"):
        custom.build(custom.Config(call="tests.modules:without_statistics", statistics="frozen"), SHAPE, 3)
