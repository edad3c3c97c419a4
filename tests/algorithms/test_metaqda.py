"""MetaQDA: the posterior by its textbook formulas in full matrices, one batch after the other; all in float64."""

import math

import pytest
import torch

from metalearn_cli.algorithms import metaqda
from metalearn_cli.backbones import identity
from metalearn_cli.core.meta import Learner, Meta, Problem, scores
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems
from tests.algorithms.test_prototypes import FEATURES, episodes, training

WAYS = problems.WAYS
Prior = tuple[torch.Tensor, float, torch.Tensor, float]
"""m [F], kappa, S [F, F], nu."""


def built(**settings) -> Learner:
    network = Network(identity.build(identity.Config(), (FEATURES,), WAYS))
    return metaqda.build(metaqda.Config(**settings), Problem(network, classification, "support", WAYS))


def fitted(learner: Learner) -> Meta:
    assert learner.fit is not None
    return learner.fit(problems.double(learner.init()), training(), [episodes()])


def prior_of(meta: Meta) -> Prior:
    """The prior in the features' own coordinates: S is (nu - F - 1) times the shrunk covariance."""
    root = torch.linalg.inv(meta.statistics["whitening.matrix"])
    strength, freedom = (float(meta.coefficients[name].exp()) for name in ("log_strength", "log_freedom"))
    return meta.statistics["whitening.mean"], strength, freedom * root @ root, freedom + FEATURES + 1


def updated(prior: Prior, rows: torch.Tensor) -> Prior:
    """The posterior after rows [N, F] (Murphy 2007, equations 216 to 222)."""
    mean, strength, scale, freedom = prior
    count, centre = len(rows), rows.mean(0)
    deviations, away = rows - centre, centre - mean
    scale = scale + deviations.T @ deviations + strength * count / (strength + count) * torch.outer(away, away)
    return (strength * mean + count * centre) / (strength + count), strength + count, scale, freedom + count


def density(at: Prior, query: torch.Tensor) -> torch.Tensor:
    """The log density of the multivariate t prediction at query [Q, F] (Murphy 2007, equation 232)."""
    mean, strength, scale, freedom = at
    degrees = freedom - FEATURES + 1
    spread = scale * (strength + 1) / (strength * degrees)
    away = query - mean
    square = (away @ torch.linalg.inv(spread) * away).sum(1)
    size = math.lgamma((degrees + FEATURES) / 2) - math.lgamma(degrees / 2) - FEATURES / 2 * math.log(degrees * math.pi)
    return size - torch.logdet(spread) / 2 - (degrees + FEATURES) / 2 * torch.log1p(square / degrees)


def expected(meta: Meta, batches: list[Examples], query: torch.Tensor) -> torch.Tensor:
    columns = []
    for way in range(WAYS):
        at = prior_of(meta)
        for batch in batches:
            at = updated(at, batch.inputs[0][batch.targets[0] == way])
        columns.append(density(at, query))
    # A density of whitened features is larger by how much whitening makes volumes smaller, whatever the class.
    volume = torch.logdet(meta.statistics["whitening.matrix"])
    return meta.coefficients["log_scale"].exp() * (torch.stack(columns, 1) - volume)


def halves(support: Examples) -> list[Examples]:
    """The support set in two parts, each with pictures of all classes, and not as many of each."""
    first = torch.zeros(support.targets.shape[1], dtype=torch.bool)
    first[[0, 5, 6, 10]] = True
    return [support._replace(inputs=support.inputs[:, one], targets=support.targets[:, one]) for one in (first, ~first)]


def one_task(seed: int) -> Task:
    return episodes(1, seed)


@pytest.mark.parametrize("fit", [True, False])
def test_adapting_to_two_batches_in_turn_equals_adapting_to_both(fit):
    learner, task = built(), one_task(7)
    meta = fitted(learner) if fit else problems.double(learner.init())
    found = learner.answers(meta, task.support, task.query.inputs, [0])[0][0]
    first, second = halves(task.support)
    for batches in ([first, second], [second, first], [task.support]):
        torch.testing.assert_close(found, expected(meta, batches, task.query.inputs[0]), rtol=1e-9, atol=1e-9)


def test_classes_may_have_different_numbers_of_pictures():
    learner, task = built(), one_task(8)
    meta, uneven = fitted(learner), halves(task.support)[0]
    found = learner.answers(meta, uneven, task.query.inputs, [0])[0][0]
    torch.testing.assert_close(found, expected(meta, [uneven], task.query.inputs[0]), rtol=1e-9, atol=1e-9)


def test_where_the_prior_counts_for_everything_all_classes_have_its_covariance():
    """Answers then differ by the distance to the posterior means alone, in the metric of the training classes."""
    learner, task = built(strengths=[1e-6], freedoms=[1e9], shrinkages=[0.2]), one_task(9)
    meta = fitted(learner)
    found = learner.answers(meta, task.support, task.query.inputs, [0])[0][0]
    whitened = [
        (half.inputs[0] - meta.statistics["whitening.mean"]) @ meta.statistics["whitening.matrix"] for half in task
    ]
    centres = torch.stack([whitened[0][task.support.targets[0] == way].mean(0) for way in range(WAYS)])
    distance = torch.cdist(whitened[1], centres).square()
    logits = -meta.coefficients["log_scale"].exp() * distance / 2 * 5 / 6  # kappa_j / (kappa_j + 1) at five shots
    torch.testing.assert_close(found.softmax(-1), logits.softmax(-1), rtol=0, atol=1e-5)


def test_the_prior_of_the_training_classes_helps():
    learner, tasks = built(), episodes(200, seed=3)
    before, after = (
        float(scores(learner, learner.adapt(at, tasks.support, 0)[0], tasks.query).score.mean())
        for at in (problems.double(learner.init()), fitted(learner))
    )
    assert after > before + 0.05  # about five standard errors of 200 tasks


def test_after_a_fit_the_meta_gradient_is_still_the_derivative():
    learner, tasks = built(), episodes(2)
    meta = fitted(learner)
    gradient = learner.meta_gradient(meta, tasks)[0]
    slope, along = problems.slope_by_differences(lambda at: float(learner.meta_gradient(at, tasks)[1].loss.sum()), meta)
    assert float(problems.flat(gradient) @ problems.flat(along)) == pytest.approx(slope, rel=1e-6, abs=1e-10)
    assert all(float(value) != 0 for value in gradient.coefficients.values())
