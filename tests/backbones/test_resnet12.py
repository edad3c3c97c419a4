import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from metalearn_cli.backbones import resnet12
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.passing import Pass


def batch_norm(norm, inputs):
    return F.batch_norm(inputs, None, None, norm.weight, norm.bias, training=True)


def test_it_is_the_network_of_the_paper_written_a_second_time():
    network = resnet12.build(resnet12.Config(channels=[4, 5, 6, 7]), (3, 33, 33), 5).double()
    inputs = torch.rand(6, 3, 33, 33, dtype=torch.float64)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if type(m).__name__ == "TaskNorm"]
    values = inputs
    for block in range(4):
        own, own_norms = (part[4 * block : 4 * block + 4] for part in (convolutions, norms))
        long = values
        for layer in range(3):
            long = batch_norm(own_norms[layer], F.conv2d(long, own[layer].weight, padding=1))
            long = F.leaky_relu(long, 0.1) if layer < 2 else long
        short = batch_norm(own_norms[3], F.conv2d(values, own[3].weight))
        values = F.max_pool2d(F.leaky_relu(long + short, 0.1), 2)
    expected = F.linear(values.mean((2, 3)), network.head.weight, network.head.bias)
    torch.testing.assert_close(network(inputs), expected)


def test_by_default_it_has_the_papers_size():
    network = resnet12.build(resnet12.Config(), (3, 84, 84), 5)
    assert (
        sum(value.numel() for value in network.parameters()) == 12_427_525
    )  # by hand: 12,414,848 in convolutions, 9,472 in norms, 3,205 in the head
    assert network.head.in_features == 640


def test_drop_block_is_where_the_paper_has_it_and_changes_neither_names_nor_first_weights():
    found = []
    for rate in (0.0, 0.1):
        torch.manual_seed(0)
        found.append(resnet12.build(resnet12.Config(channels=[4, 5, 6, 7], drop_rate=rate), (3, 32, 32), 5))
    plain, dropping = found
    layers = [one for one in dropping.modules() if isinstance(one, DropBlock)]
    assert [(one.rate, one.block, one.number) for one in layers] == [(0.1, 1, 0), (0.1, 1, 1), (0.1, 5, 2), (0.1, 5, 3)]
    assert not [one for one in plain.modules() if isinstance(one, DropBlock)]
    assert list(plain.state_dict()) == list(dropping.state_dict())
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), dropping.parameters(), strict=True))
    inputs = torch.rand(3, 3, 32, 32)
    assert torch.equal(plain(inputs), dropping(inputs))
    params = {name: value.unsqueeze(0) for name, value in plain.named_parameters()}
    found = over_tasks(dropping, params, inputs[None], Pass(keys=torch.tensor([4])))
    assert not torch.allclose(plain(inputs), found[0])


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_share_that_is_none_is_refused(rate):
    with pytest.raises(ValidationError, match="drop_rate"):
        resnet12.Config(drop_rate=rate)


@pytest.mark.parametrize(("shape", "message"), [((4,), "needs pictures"), ((3, 15, 40), "15x40")])
def test_inputs_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        resnet12.build(resnet12.Config(), shape, 5)
