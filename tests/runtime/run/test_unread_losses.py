"""Where numbers are read later, what is learned, reported and refused is the same, and no step waits for a number.

The meta device computes shapes alone: whatever asked it for a value would raise. What would send it one is caught.
"""

import json

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from metalearn_cli.errors import DivergedError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training, unread_losses
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import TINY
from tests.runtime.run.test_divergence import breaking
from tests.runtime.run.test_divergence import train as trained
from tests.runtime.run.test_training import reports_of, same_bits, session_in, whole_run

META = torch.device("meta")


@pytest.fixture
def later(monkeypatch):
    monkeypatch.setattr(training, "reads_later", lambda _session: True)


def test_read_later_a_run_is_the_same(later, tmp_path, monkeypatch):
    found, _ = whole_run(tmp_path / "later")
    monkeypatch.undo()
    expected, _ = whole_run(tmp_path / "at once")
    assert same_bits(found, expected)
    rows, known = (
        [json.loads(row) for row in one.folder.metrics.read_text().splitlines()] for one in (found, expected)
    )
    for row, other in zip(rows, known, strict=True):
        assert {key: row[key] for key in ("iteration", "loss", "score", "val")} == {
            key: other[key] for key in ("iteration", "loss", "score", "val")
        }


def test_stopped_after_every_step_the_window_is_kept(later, tmp_path):
    expected, _ = whole_run(tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    parts = session_in(tmp_path / "parts")
    for _ in range(6):
        reports_of(parts, resume=True, watch=Watch(stop=lambda: True))
    assert same_bits(parts, expected)


@pytest.mark.parametrize("most", [2, 100])
def test_the_first_step_that_was_not_finite_is_named_and_no_checkpoint_knows_of_it(later, tmp_path, monkeypatch, most):
    monkeypatch.setattr(unread_losses, "MOST", most)
    asked = {"execution": {"chunk": 4}, "eval": {"every": 3}, "outer": {"iterations": 9}}
    session = breaking(session_in(tmp_path, **asked), [4, 5])
    with pytest.raises(DivergedError, match=r"iteration 4: the loss of task 2 is not finite; the last good checkpoint"):
        trained(session)
    last = read_checkpoint(session.folder.last)
    assert last.header["iteration"] == 3
    assert all(value.isfinite().all() for value in last.tensors.values())


def test_a_gradient_alone_is_told_from_a_loss(later, tmp_path):
    session = breaking(session_in(tmp_path, execution={"chunk": 4}, eval={"every": 3}), [1], gradient_alone=True)
    with pytest.raises(DivergedError, match=r"iteration 1: the gradient is not finite"):
        trained(session)


def test_a_step_to_infinity_is_told(later, tmp_path):
    session = session_in(tmp_path, outer={"optimizer": "sgd", "lr": 1e30, "weight_decay": 1e30})
    with pytest.raises(DivergedError, match="the learner is not finite"):
        reports_of(session)
    assert not session.folder.last.exists()


def test_only_where_reading_is_waiting_is_it_put_off(tmp_path):
    session = session_in(tmp_path)
    assert not unread_losses.reads_later(session)
    assert unread_losses.reads_later(session._replace(device=META))
    skipping = session_in(tmp_path, outer={"on_nonfinite": "skip"})
    assert not unread_losses.reads_later(skipping._replace(device=META))


class NothingSent(TorchFunctionMode):
    """No number goes from the program to a device inside it, but for what comes with the tasks."""

    def __torch_function__(self, function, _types, args=(), kwargs=None):
        assert function not in (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor), function
        return function(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Every operation inside it has tensors of the meta device alone, and makes nothing else."""

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = torch.utils._pytree.tree_leaves((args, kwargs, found))
        devices = {one.device for one in tensors if isinstance(one, torch.Tensor)}
        assert devices <= {META}, f"{function}: {devices}"
        return found


CASES = {name: {"name": name} for name in names_in("algorithms")}
CASES["maml, mixed mode"] = {"name": "maml", "gradient": "mixed"}
CASES["maml, first order"] = {"name": "maml", "second_order": False}


@pytest.mark.parametrize("pool", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("algorithm", CASES.values(), ids=CASES)
def test_no_step_waits_for_a_device_or_sends_it_more_than_the_tasks(algorithm, pool, data_dir, tmp_path):
    backbone = {"name": "conv4", "channels": 4, "pool": pool}
    chosen = from_mapping(TINY | {"algorithm": algorithm, "backbone": backbone}, "test")
    session = sessions.session_for(chosen, tmp_path, data_dir=data_dir, device=META)
    # What is fitted before the first step may read values; no step may.
    session = session._replace(learner=session.learner._replace(fit=None))
    state = sessions.start(session, False)
    with running(session.plan) as runner:
        stepper = unread_losses.LateStepper(session, runner, state, print)
        for _ in range(3):
            training._step(session, stepper, Watch())
        tasks = stepper.tasks(state.iteration)
        with NothingSent(), OneDevice():
            runner.total(session.learner.meta_gradient, state.meta, tasks)
    assert len(stepper.rows) == 3
    assert {value.device for value in state.meta.params.values()} == {META}
