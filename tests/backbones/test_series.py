import pytest
import torch

from metalearn_cli.backbones import conv4_1d, layers, mlp
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.use.plain_network import plain
from metalearn_cli.testing import check_backbone

SHORT = layers.Config.model_validate({"layers": [{"conv1d": {"channels": 2}}, "flatten", "linear"]})


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}, {"pool": True}, {"kernel": 7}])
def test_conv4_1d_is_a_backbone_for_series(settings):
    check_backbone("metalearn_cli.backbones.conv4_1d", (3, 20), channels=8, **settings)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "softplus", "gelu"])
def test_an_mlp_of_any_norm_and_activation_is_a_backbone(activation, norm):
    check_backbone("metalearn_cli.backbones.mlp", (6,), hidden=[8, 5], activation=activation, norm=norm)


def test_layers_of_one_dimension_make_a_network():
    named = ["bn", "relu", {"max_pool1d": {"kernel": 2}}, "flatten", "linear"]
    config = layers.Config.model_validate({"layers": [{"conv1d": {"channels": 4, "padding": 1}}, *named]})
    network = layers.build(config, (2, 9), 3)
    assert network(torch.zeros(5, 2, 9)).shape == (5, 3)
    assert network.get_submodule("body")(torch.zeros(5, 2, 9)).shape == (5, 16)


@pytest.mark.parametrize(
    ("build", "shape", "told"),
    [
        (lambda shape: conv4_1d.build(conv4_1d.Config(), shape, 2), (1, 8, 8), "conv4_1d needs series"),
        (lambda shape: conv4_1d.build(conv4_1d.Config(pool=True), shape, 2), (1, 8), "series of 16 steps or more"),
        (
            lambda shape: layers.build(SHORT, shape, 2),
            (1, 8, 8),
            r"backbone\.layers\[0\] \(conv1d\): cannot take inputs of shape \[1, 8, 8\]: needs series",
        ),
    ],
)
def test_inputs_that_are_no_series_are_refused(build, shape, told):
    with pytest.raises(ConfigError, match=told):
        build(shape)


def test_a_network_for_series_has_a_form_in_plain_layers():
    network = conv4_1d.build(conv4_1d.Config(channels=4), (2, 16), 3)
    params = dict(network.named_parameters())
    support = torch.randn(6, 2, 16)
    with torch.no_grad():
        outputs = network(support)
        own = conv4_1d.build(conv4_1d.Config(channels=4), (2, 16), 3)
        found = plain(own, {name: value.detach() for name, value in params.items()}, support, outputs)
    assert {type(one).__module__.partition(".")[0] for one in found.modules()} == {"torch"}
    torch.testing.assert_close(found(support), outputs, rtol=1e-4, atol=1e-5)


def test_an_mlp_without_choices_has_the_parameters_that_it_always_had():
    names = [name for name, _ in mlp.build(mlp.Config(), (1,), 1).named_parameters()]
    assert names == [f"{child}.{kind}" for child in ("body.1", "body.3", "head") for kind in ("weight", "bias")]
