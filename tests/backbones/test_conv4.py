import torch

from metalearn_cli.backbones import conv4
from metalearn_cli.core.network import Network


def test_with_group_norms_no_picture_sees_another():
    generator = torch.Generator().manual_seed(0)
    pictures, others = (torch.rand(1, 5, 1, 16, 16, generator=generator) for _ in range(2))
    for norm, alike in (("group", True), ("batch", False)):
        network = Network(conv4.build(conv4.Config(channels=8, norm=norm), (1, 16, 16), 3))
        params = {name: value.unsqueeze(0) for name, value in network.initial().items()}
        outputs = network(params, pictures)[0, 0]
        among_others = network(params, torch.cat([pictures[:, :1], others[:, 1:]], 1))[0, 0]
        assert torch.allclose(outputs, among_others, atol=1e-5) == alike
