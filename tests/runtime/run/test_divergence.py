"""Steps that are not finite: named, ended, or left out and counted."""

import json

import pytest
import torch

from metalearn_cli.core.meta import Scores
from metalearn_cli.errors import DivergedError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import divergence, stepping, training
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from metalearn_cli.storage.runs.run_folder import RunFolder
from tests.commands import TINY
from tests.runtime.run.test_training import session_in


def breaking(session, broken_iterations, task=2, gradient_alone=False):
    """The session with a learner whose task of this number is not finite in these iterations."""
    learner = session.learner

    def broken(meta, tasks, iteration):
        sums, scores = learner.meta_gradient(meta, tasks, iteration)
        if iteration not in broken_iterations or len(scores.loss) <= task:
            return sums, scores
        bad = sums._replace(params={name: value * torch.nan for name, value in sums.params.items()})
        loss = scores.loss.clone()
        loss[task] = torch.nan
        return bad, scores if gradient_alone else Scores(loss, scores.score)

    return session._replace(learner=learner._replace(meta_gradient=broken))


def train(session, watch=None, resume=False):
    with running(session.plan) as runner:
        return list(training.loop(session, runner, sessions.start(session, resume), watch or Watch()))


def test_the_task_whose_loss_is_not_finite_is_named(tmp_path):
    session = breaking(session_in(tmp_path, execution={"chunk": 4}), [3])
    with pytest.raises(DivergedError, match=r"iteration 3: the loss of task 2 is not finite; the last good checkpoint"):
        train(session)
    assert read_checkpoint(session.folder.last).header["iteration"] == 2


def test_the_task_whose_gradient_alone_is_not_finite_is_found(tmp_path):
    session = session_in(tmp_path)
    tasks = session.data.sampler("train", sessions.training_spec(session.experiment), 0)(0, range(4))
    poisoned = tasks._replace(support=tasks.support._replace(targets=tasks.support.targets.clone()))
    poisoned.support.targets[1] = torch.inf
    finite = Scores(torch.zeros(4), torch.zeros(4))
    assert divergence.culprits(
        session.learner.meta_gradient, session.learner.init(), poisoned, [0, 5, 6, 7], finite
    ) == [5]


def test_steps_that_are_not_finite_are_left_out_and_counted_if_asked_for(tmp_path):
    asked = session_in(tmp_path, execution={"chunk": 4}, outer={"on_nonfinite": "skip"})
    said = []
    reports = train(breaking(asked, [1, 3], gradient_alone=True), Watch(say=said.append))
    assert [report.skipped for report in reports] == [1, 2, 2]
    assert len(said) == 1
    assert "iteration 1: the gradient" in said[0]
    rows = [json.loads(line) for line in asked.folder.metrics.read_text().splitlines()]
    assert [row["skipped"] for row in rows] == [1, 2, 2]
    assert read_checkpoint(asked.folder.last).header["skipped"] == 2
    assert all(value.isfinite().all() for value in read_checkpoint(asked.folder.last).tensors.values())


def test_a_run_that_leaves_out_one_step_after_the_other_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(stepping, "MOST_IN_A_ROW", 3)
    asked = session_in(tmp_path, execution={"chunk": 4}, outer={"on_nonfinite": "skip"})
    with pytest.raises(DivergedError, match="iteration 2"):
        train(breaking(asked, [0, 1, 2, 3]))
    reports = train(breaking(session_in(tmp_path, outer={"on_nonfinite": "skip"}), [0, 1, 3, 4]))
    assert reports[-1].iteration == 6


def test_a_long_list_of_tasks_is_cut(tmp_path):
    session = session_in(tmp_path)
    told = str(divergence.diverged(session.experiment, session.folder, 1, "loss", range(12)))
    assert "tasks 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more is" in told


@pytest.mark.parametrize("clipping", [None, 5.0])
@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
@pytest.mark.parametrize("what", ["loss", "gradient", "learner"])
@pytest.mark.parametrize("algorithm", ["maml", "protonet"])
def test_only_what_is_not_set_and_can_help_is_advised(tmp_path, clipping, on_nonfinite, what, algorithm):
    outer = {"on_nonfinite": on_nonfinite, "clip_norm": clipping}
    experiment = from_mapping(TINY | {"algorithm": {"name": algorithm}, "outer": outer}, "test")
    told = str(divergence.diverged(experiment, RunFolder(tmp_path), 1, what))
    assert ("on_nonfinite=skip" in told) == (on_nonfinite == "stop" and what != "learner")
    assert ("outer.clip_norm=10" in told) == (clipping is None)
    assert ("inner_lr" in told) == (algorithm == "maml")
    assert ("in a row" in told) == (on_nonfinite == "skip" and what != "learner")
