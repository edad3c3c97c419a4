import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metalearn_cli.core.inner_loop import InnerLoop, predict
from metalearn_cli.core.meta import Adapted, Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Pass
from metalearn_cli.testing import problems


def changed_logits(statistics: str) -> float:
    """How far the first query's logits move when all other queries are replaced."""
    network = problems.smooth_network()
    params = for_tasks({name: value.double() for name, value in network.initial().items()}, 1)
    tasks = problems.picture_tasks(2)
    adapted = Adapted(params, tasks.support.inputs[:1])
    queries = tasks.query.inputs[:1]
    others = torch.cat([queries[:, :1], tasks.query.inputs[1:, 1:]], 1)
    loop = InnerLoop(Problem(network, classification, statistics))
    before, after = (predict(loop, [adapted], inputs)[0][0, 0] for inputs in (queries, others))
    return float((before - after).abs().max())


def alone(norm: TaskNorm, inputs: torch.Tensor, how: Pass) -> torch.Tensor:
    """One task's inputs, normalised as the pass says."""
    params = {name: value.unsqueeze(0) for name, value in norm.named_parameters()}
    return norm.over_tasks(params, inputs[None], how)[0]


def test_with_support_statistics_no_query_changes_another():
    assert changed_logits("support") == 0


def test_with_transductive_statistics_queries_change_each_other():
    assert changed_logits("transductive") > 1e-3


def test_statistics_of_all_rows_equal_batch_norm():
    inputs = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    norm = TaskNorm(4).double()
    found = alone(norm, inputs, Pass(reference=6))
    torch.testing.assert_close(found, F.batch_norm(inputs, None, None, training=True))
    torch.testing.assert_close(norm(inputs), found)


def test_the_first_rows_are_normalised_as_if_they_were_alone():
    inputs = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    norm = TaskNorm(4).double()
    found = alone(norm, inputs, Pass(reference=2))
    torch.testing.assert_close(found[:2], norm(inputs[:2]))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 5)])
def test_it_keeps_the_shape_of_vectors_sequences_and_pictures(shape):
    assert TaskNorm(4)(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True)])
def test_a_network_with_another_norm_is_refused_by_name(norm):
    with pytest.raises(ConfigError, match=type(norm).__name__):
        Network(nn.Sequential(nn.Linear(4, 4), norm))


def task_values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2), (4, 3, 2, 2)])
def test_tasks_at_once_equal_one_batch_norm_each(shape):
    norm, inputs, weight, bias = TaskNorm(3), task_values(2, *shape), task_values(2, 3), task_values(2, 3)
    found = norm.over_tasks({"weight": weight, "bias": bias}, inputs, BY_BATCH)
    each = [F.batch_norm(x, None, None, w, b, True) for x, w, b in zip(inputs, weight, bias, strict=True)]
    torch.testing.assert_close(found, torch.stack(each), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first", [None, 2])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2, 2)])
def test_first_and_second_derivatives_equal_finite_differences(shape, first):
    norm = TaskNorm(shape[1])

    def function(inputs, weight, bias):
        return norm.over_tasks({"weight": weight, "bias": bias}, inputs, Pass(reference=first))

    at = (task_values(2, *shape), task_values(2, shape[1]), task_values(2, shape[1]))
    assert torch.autograd.gradcheck(function, at)
    assert torch.autograd.gradgradcheck(function, at)


def test_a_third_derivative_is_refused_rather_than_wrong():
    norm, inputs, weight, bias = TaskNorm(3), task_values(1, 4, 3), task_values(1, 3), task_values(1, 3)
    result = norm.over_tasks({"weight": weight, "bias": bias}, inputs, BY_BATCH).pow(3).sum()
    (slope,) = torch.autograd.grad(result, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(slope.sum(), inputs, create_graph=True)
