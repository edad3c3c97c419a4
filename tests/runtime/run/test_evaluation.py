import math

import pytest
import torch

from metalearn_cli.algorithms import maml
from metalearn_cli.core.meta import Problem, Scores
from metalearn_cli.core.objectives import accuracy, classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.evaluation import lost, narrow, scores_of, summary
from metalearn_cli.testing import problems


def sampler(_step, numbers):
    tasks = problems.picture_tasks(200)
    return Task(*(Examples(*(tensor[list(numbers)] for tensor in part[:2])) for part in tasks))


def learner():
    return maml.build(maml.Config(), Problem(problems.smooth_network(), classification, "transductive", problems.WAYS))


def test_the_interval_is_1_96_standard_errors_over_episodes():
    scores = torch.tensor([[0.5, 1.0], [0.7, 0.8], [0.9, 0.9]])
    row = summary(Scores(torch.zeros_like(scores), scores))[0]
    assert row.score == pytest.approx(0.7)
    assert row.ci95 == pytest.approx(1.96 * 0.2 / math.sqrt(3), rel=1e-5)
    assert row.median == pytest.approx(0.7)


def test_diverged_episodes_are_those_worse_than_before_or_not_finite():
    loss = torch.tensor([[1.0, 0.5], [1.0, 2.0], [1.0, math.inf], [1.0, 0.9]])
    assert summary(Scores(loss, loss))[1].diverged == 0.5
    assert summary(Scores(loss, loss))[0].diverged == 0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("target", [0, 1])
def test_an_answer_that_is_not_finite_is_wrong_whichever_class_is_right(broken, place, target):
    outputs = torch.zeros(1, 2, 2)
    outputs[0, 1, 1] = 1
    outputs[0, 0, place] = broken
    assert accuracy(outputs, torch.tensor([[target, 1]])).tolist() == [0.5]


def test_episodes_without_a_finite_loss_are_counted_by_step():
    loss = torch.tensor([[1.0, 1.0], [1.0, math.nan], [math.inf, math.inf]])
    assert lost(Scores(loss, loss)) == [1, 2]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_single_error_that_is_no_number_does_not_move_the_median(broken):
    errors = torch.tensor([[0.1], [0.2], [0.3], [0.4], [broken]])
    assert summary(Scores(errors, errors))[0].median == pytest.approx(0.3)


def test_there_is_one_score_per_step_and_episode():
    model = learner()
    with running(Plan("threads", 4, 2)) as runner:
        found = scores_of(model, runner, problems.double(model.init()), sampler, 3, 70)
    assert found.loss.shape == found.score.shape == (70, 4)


def test_an_episode_has_the_same_score_however_many_are_evaluated():
    model = learner()
    with running(Plan("loop", 1, 1)) as runner:
        few = scores_of(model, runner, problems.double(model.init()), sampler, 1, 5)
        many = scores_of(model, runner, problems.double(model.init()), sampler, 1, 40)
    assert torch.equal(few.loss, many.loss[:5])


def test_evaluation_leaves_the_meta_parameters_bit_identical():
    model = learner()
    meta = problems.double(model.init())
    before = {name: value.clone() for name, value in meta.params.items()}
    with running(Plan("vmap", 8, 1)) as runner:
        scores_of(model, runner, meta, sampler, 2, 16)
    assert all(torch.equal(before[name], value) for name, value in meta.params.items())


def test_random_labels_stay_at_chance():
    model = learner()
    with running(Plan("vmap", 64, 1)) as runner:
        row = summary(scores_of(model, runner, problems.double(model.init()), sampler, 2, 200))[-1]
    assert abs(row.score - 1 / problems.WAYS) < 2.5 * row.ci95


def test_evaluation_stops_when_the_interval_is_narrow_enough():
    model = learner()
    with running(Plan("vmap", 64, 1)) as runner:
        found = scores_of(model, runner, problems.double(model.init()), sampler, 1, 200, narrow(0.9))
    assert 100 <= len(found.score) < 200


def test_a_network_given_to_a_learner_keeps_its_parameters():
    network: Network = problems.smooth_network()
    before = network.initial()
    model = maml.build(maml.Config(), Problem(network, classification, "support", problems.WAYS))
    model.meta_gradient(problems.double(model.init()), sampler(0, [0]))
    assert all(torch.equal(before[name], value) for name, value in network.initial().items())


@pytest.mark.parametrize(
    ("plan", "largest"), [(Plan("vmap", 2, 1), 2), (Plan("threads", 2, 3), 6), (Plan("loop", 9, 1), 1)]
)
def test_no_more_tasks_are_drawn_than_are_computed_at_once_and_the_scores_are_those_of_all(plan, largest):
    drawn, trained = [], learner()

    def watched(step, numbers):
        drawn.append(list(numbers))
        return sampler(step, numbers)

    meta = problems.double(trained.init())
    with running(plan) as runner:
        found = scores_of(trained, runner, meta, watched, 1, episodes=35)
    assert [number for numbers in drawn for number in numbers] == list(range(35))
    assert max(map(len, drawn)) == largest
    with running(Plan("vmap", 64, 1)) as runner:
        torch.testing.assert_close(
            found, scores_of(trained, runner, meta, sampler, 1, episodes=35), rtol=1e-9, atol=1e-12
        )
