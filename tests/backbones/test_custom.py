"""Networks of people's own: taken where that is exact, refused with the reason where it is not."""

import sys

import pytest
import torch

from metalearn_cli.backbones import custom
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from tests import modules

SHAPE = (1, 16, 16)


def built(call, outputs=3, head="", shape=SHAPE, **arguments):
    torch.manual_seed(0)
    return custom.build(custom.Config(call=f"tests.modules:{call}", arguments=arguments, head=head), shape, outputs)


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
