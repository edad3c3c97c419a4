"""Prototypes of whitened features: discriminant analysis by another road, and plain class means without a fit."""

import pytest
import torch
from torch.nn import functional as F

from metalearn_cli.algorithms import prototypes
from metalearn_cli.backbones import identity
from metalearn_cli.core.meta import Learner, Meta, Problem, scores
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems

FEATURES, SHRINKAGE = 6, 0.2


def built(**settings) -> Learner:
    network = Network(identity.build(identity.Config(), (FEATURES,), problems.WAYS))
    problem = Problem(network, classification, "support", problems.WAYS)
    return prototypes.build(prototypes.Config(**{"shrinkages": [SHRINKAGE]} | settings), problem)


def stretched(classes: int, each: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features whose classes scatter much along one direction, which says nothing of the class."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.tensor([9.0, 3.0, 1.0, 1.0, 0.5, 0.3], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(5)).double())[0]
    centres = torch.randn(classes, 1, FEATURES, generator=generator, dtype=torch.float64)
    spread = torch.randn(classes, each, FEATURES, generator=generator, dtype=torch.float64) * along
    numbers = torch.arange(classes).repeat_interleave(each)
    return ((centres + spread) @ turn + 2).flatten(0, 1), numbers


def training(classes: int = 12, each: int = 9) -> list[Examples]:
    rows, numbers = stretched(classes, each, seed=1)
    parts = zip(rows.split(25), numbers.split(25), strict=True)  # a class may come in two parts
    return [Examples(some.unsqueeze(0), labels.unsqueeze(0), classes) for some, labels in parts]


def episodes(count: int = 20, seed: int = 2) -> Task:
    rows, _ = stretched(count * problems.WAYS, 8, seed)
    each = rows.view(count, problems.WAYS, 8, FEATURES)

    def half(some: torch.Tensor) -> Examples:
        targets = torch.arange(problems.WAYS).repeat_interleave(some.shape[2]).expand(count, -1)
        return Examples(some.flatten(1, 2), targets, problems.WAYS)

    return Task(half(each[:, :, :5]), half(each[:, :, 5:]))


def fitted(learner: Learner) -> Meta:
    assert learner.fit is not None
    return learner.fit(problems.double(learner.init()), training(), [episodes()])


def lda(task: Task, shrinkage: float) -> torch.Tensor:
    """The logits [N, W] of linear discriminant analysis, from its textbook formula and loops alone."""
    rows = torch.cat([one.inputs[0] for one in training()])
    numbers = torch.cat([one.targets[0] for one in training()])
    classes = numbers.unique()
    deviations = torch.cat([rows[numbers == c] - rows[numbers == c].mean(0) for c in classes])
    within = deviations.T @ deviations / (len(rows) - len(classes))
    within = within + shrinkage * within.diagonal().mean() * torch.eye(FEATURES, dtype=torch.float64)
    inverse, support, query = torch.linalg.inv(within), task.support, task.query.inputs[0]
    columns = []
    for way in range(problems.WAYS):
        centre = support.inputs[0][support.targets[0] == way].mean(0)
        columns.append(query @ inverse @ centre - centre @ inverse @ centre / 2)
    return torch.stack(columns, 1)


def test_by_squared_distance_it_is_linear_discriminant_analysis():
    learner, task = built(distance="squared"), problems.picture_tasks(1, shape=(FEATURES,))
    meta = fitted(learner)
    scale = meta.coefficients["log_scale"].exp()
    found = learner.answers(meta, task.support, task.query.inputs, [0])[0][0]
    expected = scale * lda(task, SHRINKAGE)
    difference = (found - expected) - (found - expected).mean(1, keepdim=True)  # what all classes share says nothing
    torch.testing.assert_close(
        difference, torch.zeros_like(difference), rtol=0, atol=1e-8 * float(expected.abs().max())
    )


def test_without_training_classes_it_is_plain_class_means_by_cosine():
    learner, task = built(scale=4.0), problems.picture_tasks(1, shape=(FEATURES,))
    found = learner.answers(problems.double(learner.init()), task.support, task.query.inputs, [0])[0][0]
    centres = torch.stack([task.support.inputs[0][task.support.targets[0] == k].mean(0) for k in range(problems.WAYS)])
    expected = 4 * F.cosine_similarity(task.query.inputs[0].unsqueeze(1), centres.unsqueeze(0), dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_where_a_class_scatters_one_way_whitening_is_chosen_and_helps(distance):
    learner, tasks = built(distance=distance, shrinkages=[0.01, 1.0, 100.0]), episodes(200, seed=3)
    plain, meta = problems.double(learner.init()), fitted(learner)
    before, after = (float(scores(learner, learner.adapt(at, tasks.support, 0)[0], tasks.query).score.mean())
                     for at in (plain, meta))  # fmt: skip
    assert after > before + 0.1
    matrix = meta.statistics["whitening.matrix"]
    torch.testing.assert_close(matrix, matrix.T)
    assert set(meta.coefficients) == {"log_scale"}


def test_features_that_scatter_alike_in_every_direction_are_left_about_as_they_are():
    learner = built(shrinkages=[1e6])
    matrix = fitted(learner).statistics["whitening.matrix"]
    scaled = matrix / matrix.diagonal().mean()
    torch.testing.assert_close(scaled, torch.eye(FEATURES, dtype=torch.float64), rtol=0, atol=1e-4)


def test_without_shrinkages_only_the_scale_is_fitted():
    meta = fitted(built(shrinkages=[]))
    assert torch.equal(meta.statistics["whitening.matrix"], torch.eye(FEATURES, dtype=torch.float64))
    assert float(meta.coefficients["log_scale"]) != pytest.approx(torch.tensor(10.0).log().item())


def test_the_fitted_scale_is_the_best_on_the_tasks_that_chose_it():
    learner, tasks = built(), episodes()
    meta = fitted(learner)

    def loss(shift: float) -> float:
        moved = meta._replace(coefficients={"log_scale": meta.coefficients["log_scale"] + shift})
        return float(scores(learner, learner.adapt(moved, tasks.support, 0)[0], tasks.query).loss.mean())

    assert loss(0.0) < min(loss(-0.05), loss(0.05))


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_a_fitted_learner_answers_many_tasks_as_each_by_itself_and_permutes_with_its_classes(distance):
    learner, tasks = built(distance=distance), episodes(4)
    meta = fitted(learner)
    together = learner.answers(meta, tasks.support, tasks.query.inputs, [0])[0]
    for number in range(4):
        support = tasks.support._replace(
            inputs=tasks.support.inputs[number : number + 1], targets=tasks.support.targets[number : number + 1]
        )
        alone = learner.answers(meta, support, tasks.query.inputs[number : number + 1], [0])[0]
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-11, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    permuted = tasks.support._replace(targets=order[tasks.support.targets])
    found = learner.answers(meta, permuted, tasks.query.inputs, [0])[0]
    torch.testing.assert_close(found[..., order], together, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_after_a_fit_the_meta_gradient_is_still_the_derivative(distance):
    learner, task = built(distance=distance), episodes(2)
    meta = fitted(learner)
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda at: float(learner.meta_gradient(at, task)[1].loss.sum()), meta)
    assert float(problems.flat(gradient) @ problems.flat(along)) == pytest.approx(slope, rel=1e-6, abs=1e-12)


def test_classes_of_one_picture_each_cannot_be_fitted_to():
    learner = built()
    assert learner.fit is not None
    lonely = [Examples(torch.randn(1, 5, FEATURES).double(), torch.arange(5).unsqueeze(0), 5)]
    with pytest.raises(ConfigError, match="two pictures or more"):
        learner.fit(problems.double(learner.init()), lonely, [episodes()])


def test_more_features_than_a_matrix_is_kept_of_are_refused():
    network = Network(identity.build(identity.Config(), (5000,), 3))
    with pytest.raises(ConfigError, match="at most 4096 features, and this backbone gives 5,000"):
        prototypes.build(prototypes.Config(), Problem(network, classification, "support", 3))
