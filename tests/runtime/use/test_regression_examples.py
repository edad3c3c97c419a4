import pytest
import torch

from metalearn_cli.core.meta import Scores
from metalearn_cli.core.objectives import regression
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.use import regression_examples
from tests.runtime.use.test_episode_answers import PLAN, SINES, subject_of


def test_a_fit_passes_through_what_the_learner_answers_after_each_step(data_dir):
    subject = subject_of(data_dir, **SINES)
    [fit] = regression_examples.fitted_functions(subject, [3])
    task = subject.sampler(0, [3])
    assert fit.support == (task.support.inputs.flatten().tolist(), task.support.targets.flatten().tolist())
    assert fit.steps == [0, 1, 2]
    states = subject.learner.adapt(subject.meta, task.support, 2)
    for outputs, state in zip(fit.outputs, states, strict=True):
        with torch.no_grad():
            answers = subject.learner.predict([state], torch.tensor(fit.grid).view(1, -1, 1))[0]
        assert outputs == pytest.approx(answers.flatten().tolist())
    assert fit.outputs[0] != fit.outputs[2]
    assert fit.grid[0] == min(fit.support[0] + fit.query[0])


def test_the_share_of_variance_is_none_for_a_mean_and_all_for_the_truth():
    targets = torch.tensor([[[1.0], [3.0]], [[0.0], [8.0]], [[5.0], [6.0]]])

    def sampler(_step, numbers):
        half = Examples(targets[list(numbers)], targets[list(numbers)])
        return Task(half, half)

    errors = torch.stack(
        [regression.score(targets.mean(1, keepdim=True).expand_as(targets), targets), torch.zeros(3)], 1
    )
    assert regression_examples.medians(
        regression_examples.explained_shares(regression, sampler, errors)
    ) == pytest.approx([0.0, 1.0])


def test_the_error_by_examples_ends_with_that_of_all_examples(data_dir):
    subject = subject_of(data_dir, **SINES)
    found = regression_examples.by_examples(subject, 4, 20)
    assert [count for count, _ in found] == [1, 2, 3, 4]
    with running(PLAN) as runner:
        scores = scores_of(subject.learner, runner, subject.meta, subject.sampler, 2, 20)
    assert found[-1][1].score == pytest.approx(float(scores.score[:, -1].mean()))
    assert len({step.score for _, step in found}) == 4


def test_families_have_the_means_of_their_own_episodes_and_share_out_all():
    names = ["line", "sine", "line", "tanh", "line", "sine"]
    scores = Scores(torch.rand(6, 3), torch.rand(6, 3))
    shares = torch.rand(6, 3).double()
    found = regression_examples.by_family(lambda _step, number: names[number], scores, shares)
    assert [(one.name, one.episodes) for one in found] == [("line", 3), ("sine", 2), ("tanh", 1)]
    own = torch.tensor([0, 2, 4])
    line = found[0]
    assert [step.score for step in line.steps] == pytest.approx(scores.score[own].double().mean(0).tolist())
    half = 1.96 * scores.score[own, 2].double().std() / 3**0.5
    assert line.steps[2].ci95 == pytest.approx(half.item())
    assert line.explained == pytest.approx(shares[own].median(0).values.tolist())
    whole = sum(one.episodes * one.steps[1].score for one in found) / 6
    assert whole == pytest.approx(scores.score[:, 1].double().mean().item())
