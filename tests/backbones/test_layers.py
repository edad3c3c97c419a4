import pytest
import torch
from torch import nn

from metalearn_cli.backbones.layers import Config, build
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping, to_yaml
from metalearn_cli.experiment.yaml_lines import parse
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm

OMNIGLOT = [
    {"conv2d": {"channels": 64, "kernel": 3, "stride": 2}},
    "relu",
    "bn",
    {"conv2d": {"channels": 64, "kernel": 3, "stride": 2}},
    "relu",
    "bn",
    {"conv2d": {"channels": 64, "kernel": 3, "stride": 2}},
    "relu",
    "bn",
    {"conv2d": {"channels": 64, "kernel": 2}},
    "relu",
    "bn",
    "flatten",
    "linear",
]

EVERY = [
    {"conv2d": {"channels": 2, "padding": 1}},
    "bn",
    {"leakyrelu": {"slope": 0.1}},
    {"max_pool2d": {"kernel": 2, "stride": 1}},
    {"avg_pool2d": {"kernel": 3, "padding": 1}},
    {"upsample": {"scale": 3}},
    {"convt2d": {"channels": 3, "kernel": 2, "stride": 2}},
    "sigmoid",
    "flatten",
    {"linear": {"features": 12}},
    "tanh",
    {"reshape": {"shape": [3, 2, 2]}},
    "relu",
    "flatten",
    "linear",
]


def experiment(layers):
    blocks = {"dataset": {"name": "glyphs"}, "algorithm": {"name": "maml"}}
    return from_mapping({"name": "x", **blocks, "backbone": {"name": "layers", "layers": layers}}, "x.yaml")


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as error:
        call(*arguments)
    return str(error.value)


def build_refusal(layers, input_shape=(1, 8, 8), outputs=5):
    return refusal(build, Config(layers=layers), input_shape, outputs)


def test_the_omniglot_net_of_1x28x28_has_64_features_and_91781_parameters():
    network = build(Config(layers=OMNIGLOT), (1, 28, 28), 5)
    # By hand: weights 576 + 2 * 36864 + 16384, biases 4 * 64, norms 4 * 128, head 64 * 5 + 5.
    assert sum(parameter.numel() for parameter in network.parameters()) == 576 + 73728 + 16384 + 256 + 512 + 325
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 5)


def test_body_and_head_in_turn_are_the_network():
    network = build(Config(layers=EVERY), (1, 8, 8), 5)
    inputs = torch.rand(4, 1, 8, 8)
    features = network.body(inputs)
    assert features.shape == (4, 12)
    assert torch.equal(network.head(features), network(inputs))


def test_bn_is_the_norm_that_is_right_under_vmap():
    network = build(Config(layers=EVERY), (1, 8, 8), 5)
    assert [type(module) for module in network.body][1] is TaskNorm
    Network(network)


def test_a_layer_has_no_bias_only_where_bn_comes_next():
    network = build(Config(layers=["flatten", {"linear": {"features": 3}}, "bn", *OMNIGLOT[-1:]]), (4,), 2)
    assert network.body[1].bias is None
    assert network.head.bias is not None
    assert build(Config(layers=OMNIGLOT), (1, 28, 28), 5).body[0].bias is not None


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        torch.manual_seed(seed)
        return build(Config(layers=OMNIGLOT), (1, 28, 28), 5).body[0].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_weights_are_kaiming_normal_and_biases_zero():
    layers = [{"conv2d": {"channels": 500, "kernel": 5}}, "flatten", {"linear": {"features": 4}}]
    convolution = build(Config(layers=layers), (20, 5, 5), 4).body[0]
    assert convolution.weight.std().item() == pytest.approx((2 / (20 * 25)) ** 0.5, rel=0.02)
    assert not convolution.bias.any()


def test_pooling_windows_do_not_overlap_by_default():
    layers = [{"max_pool2d": {"kernel": 3}}, "flatten", "linear"]
    assert build(Config(layers=layers), (2, 9, 9), 5).head.in_features == 2 * 3 * 3


def test_a_network_may_be_its_head_alone():
    assert isinstance(build(Config(layers=["linear"]), (7,), 5).head, nn.Linear)


SHAPES = {
    "linear on pictures": (
        ["relu", "linear"],
        "[1] (linear): cannot take inputs of shape [1, 8, 8]: needs flat inputs; put `flatten` before it",
    ),
    "conv on features": (
        ["flatten", {"conv2d": {"channels": 3}}, "linear"],
        "[1] (conv2d): cannot take inputs of shape [64]: needs pictures, [channels, height, width]",
    ),
    "kernel too large": (
        [{"conv2d": {"channels": 3, "kernel": 9}}, "flatten", "linear"],
        "[0] (conv2d): cannot take inputs of shape [1, 8, 8]: ",
    ),
    "window too large": (
        [{"max_pool2d": {"kernel": 9}}, "flatten", "linear"],
        "[0] (max_pool2d): cannot take inputs of shape [1, 8, 8]: ",
    ),
    "too many values": (
        [{"reshape": {"shape": [3, 3]}}, "flatten", "linear"],
        "[0] (reshape): cannot take inputs of shape [1, 8, 8]: ",
    ),
    "too large for any memory": (
        [{"upsample": {"scale": 65536}}] * 2 + ["flatten", "linear"],
        "[1] (upsample): cannot take inputs of shape",
    ),
    "outputs of another task": (
        ["flatten", {"linear": {"features": 20}}],
        "[1] (linear): features is 20, the task has 5 outputs; leave it out",
    ),
}


@pytest.mark.parametrize(("layers", "message"), SHAPES.values(), ids=SHAPES.keys())
def test_an_impossible_shape_names_the_layer(layers, message):
    found = build_refusal(layers)
    assert found.startswith(f"backbone.layers{message}")
    assert "\n" not in found


MISTAKES = {
    "an unknown layer": (["conv", "linear"], "[0]: found 'conv' (str), expected one of "),
    "an unknown argument": (
        [{"conv2d": {"channels": 3, "strid": 2}}, "linear"],
        "[0].conv2d.strid: unknown key; did you mean stride?",
    ),
    "an argument of a plain layer": ([{"relu": {"slope": 1}}, "linear"], "[0].relu.slope: unknown key"),
    "a wrong type": (
        [{"conv2d": {"channels": "x"}}, "linear"],
        "[0].conv2d.channels: found 'x' (str), expected an integer from 1 to 65536",
    ),
    "a missing argument": (
        ["conv2d", "linear"],
        "[0].conv2d.channels: missing; expected an integer from 1 to 65536",
    ),
    "two layers in one": (
        [{"relu": {}, "tanh": {}}, "linear"],
        "[0]: found {'relu': {}, 'tanh': {}}, expected a layer",
    ),
    "arguments that are no block": (
        [{"conv2d": 64}, "linear"],
        "[0]: found {'conv2d': 64}, expected a layer",
    ),
    "an argument called kind": (
        [{"conv2d": {"kind": "linear"}}, "linear"],
        "[0]: found {'conv2d': {'kind': 'linear'}}, expected a layer",
    ),
    "a number": ([3, "linear"], "[0]: found 3, expected a layer"),
    "no head": (["flatten", "relu"], ": found relu at the end, expected linear: the last layer is the head"),
    "no layer": ([], ": found no layer at the end, expected linear"),
    "features left out inside": (["flatten", "linear", "linear"], ": layer 1 is linear without features"),
    "not a list": ("relu", ": found 'relu' (str), expected a list"),
}


@pytest.mark.parametrize(("layers", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_layer_is_placed_at_the_layer(layers, message):
    assert refusal(experiment, layers).startswith(f"x.yaml: backbone.layers{message}")


def test_every_layer_comes_back_from_json():
    once = experiment(EVERY)
    assert from_mapping(once.model_dump(mode="json"), "json") == once


def test_every_layer_comes_back_from_yaml():
    once = experiment(EVERY)
    assert from_mapping(parse(to_yaml(once), "yaml").values, "yaml") == once
