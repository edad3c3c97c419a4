import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metalearn_cli.backbones import resnet12
from metalearn_cli.errors import ConfigError


def batch_norm(norm, inputs):
    return F.batch_norm(inputs, None, None, norm.weight, norm.bias, training=True)


def test_it_is_the_network_of_the_paper_written_a_second_time():
    torch.manual_seed(0)
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


@pytest.mark.parametrize(("shape", "message"), [((4,), "needs pictures"), ((3, 15, 40), "15x40")])
def test_inputs_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        resnet12.build(resnet12.Config(), shape, 5)
