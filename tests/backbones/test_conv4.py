import pytest
import torch

from metalearn_cli.backbones import conv4
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network


def test_with_group_norms_no_picture_sees_another():
    generator = torch.Generator().manual_seed(0)
    pictures, others = (torch.rand(1, 5, 1, 16, 16, generator=generator) for _ in range(2))
    for norm, alike in (("group", True), ("batch", False)):
        network = Network(conv4.build(conv4.Config(channels=16, norm=norm), (1, 16, 16), 3))
        params = {name: value.unsqueeze(0) for name, value in network.initial().items()}
        outputs = network(params, pictures)[0, 0]
        among_others = network(params, torch.cat([pictures[:, :1], others[:, 1:]], 1))[0, 0]
        assert torch.allclose(outputs, among_others, atol=1e-5) == alike


@pytest.mark.parametrize("channels", [1, 2, 4, 8])
def test_groups_of_one_channel_at_a_single_place_would_leave_nothing_and_are_refused(channels):
    with pytest.raises(ConfigError, match=r"backbone\.norm: in groups of one channel pictures of 16x16"):
        conv4.build(conv4.Config(channels=channels, norm="group"), (1, 16, 16), 3)


@pytest.mark.parametrize(("channels", "pool", "side"), [(3, False, 16), (16, False, 16), (4, True, 16), (4, False, 17)])
def test_other_groups_tell_pictures_apart(channels, pool, side):
    network = conv4.build(conv4.Config(channels=channels, norm="group", pool=pool), (1, side, side), 3)
    one, other = network(torch.rand(2, 1, side, side))
    assert not torch.allclose(one, other)
