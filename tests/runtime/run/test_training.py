"""The loop in process, on sines: reports, checkpoints before the yield, sinks, stops and divergence."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from metalearn_cli.errors import CheckpointError, ConfigError, DivergedError, RunError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.runtime.run.state import Averages, State, restored
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.storage.runs.checkpoints import read_checkpoint

SINES = {
    "name": "sines",
    "dataset": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 5, "queries": 5},
    "backbone": {"name": "mlp", "hidden": [8]},
    "algorithm": {"name": "maml", "inner_lr": 0.01},
    "outer": {"meta_batch_size": 4, "iterations": 6},
    "eval": {"every": 2, "val_episodes": 8, "inner_steps": 2},
    "checkpoint": {},
    "execution": {},
}


class Fake:
    def __init__(self):
        self.rows = []

    def scalars(self, iteration, values):
        self.rows.append((iteration, values))

    def close(self):
        pass


def session_in(path, **changes):
    merged = {key: value | changes.get(key, {}) for key, value in SINES.items() if isinstance(value, dict)}
    values = SINES | {"name": changes.get("name", "sines")} | merged
    experiment = from_mapping(values, "test")
    (path / "checkpoints").mkdir(exist_ok=True)
    return sessions.session_for(experiment, path, data_dir=path)


def reports_of(session, resume=False, watch=None):
    with running(session.plan) as runner:
        return list(training.loop(session, runner, sessions.start(session, resume), watch or Watch()))


def test_a_report_is_due_every_so_often_and_at_the_end(tmp_path):
    reports = reports_of(session_in(tmp_path, outer={"iterations": 5}))
    assert [report.iteration for report in reports] == [2, 4, 5]
    assert [step.step for step in reports[0].val] == [0, 1, 2]


@pytest.mark.parametrize(
    ("every", "iterations", "expected"),
    [(100, 220, [10, 100, 200, 220]), (99, 120, [99, 120]), (500, 60, [50, 60]), (1000, 90, [90])],
)
def test_the_first_of_rare_validations_comes_early(tmp_path, every, iterations, expected):
    settings = {"outer": {"iterations": iterations, "meta_batch_size": 1}, "eval": {"every": every, "val_episodes": 2}}
    assert [report.iteration for report in reports_of(session_in(tmp_path, **settings))] == expected


def test_the_checkpoint_is_there_before_the_report_is_yielded(tmp_path):
    session = session_in(tmp_path)
    with running(session.plan) as runner:
        report = next(training.loop(session, runner, sessions.start(session, False), Watch()))
    assert read_checkpoint(session.folder.last).header["iteration"] == report.iteration == 2
    assert session.folder.best.exists()


def test_the_best_checkpoint_is_the_one_with_the_smallest_error_on_validation(tmp_path):
    session = session_in(tmp_path, outer={"iterations": 20, "lr": 0.05})
    reports = reports_of(session)
    best = min(reports, key=lambda report: report.val[-1].score)
    assert read_checkpoint(session.folder.best).header["iteration"] == best.iteration
    assert best.best


def test_a_larger_accuracy_and_a_smaller_error_are_better():
    from metalearn_cli.core.objectives import classification, regression

    state = State(0, None, None, None, best=0.5)
    assert state.improves(0.6, classification)
    assert state.improves(0.4, regression)
    assert not state.improves(0.4, classification)
    assert not state.improves(float("nan"), regression)
    assert not State(0, None, None, None).improves(float("inf"), regression)


def test_stopping_keeps_a_checkpoint_between_reports(tmp_path):
    session = session_in(tmp_path)
    assert reports_of(session, watch=Watch(stop=lambda: True)) == []
    assert read_checkpoint(session.folder.last).header["iteration"] == 1


def test_a_stop_that_comes_late_in_a_step_still_leaves_a_checkpoint_of_the_last_step(tmp_path):
    session, asked = session_in(tmp_path, eval={"every": 100}), []

    def stop():
        asked.append(1)
        return len(asked) >= 2

    reports_of(session, watch=Watch(stop=stop))
    assert read_checkpoint(session.folder.last).header["iteration"] == len(asked)


def test_resumed_at_any_step_it_ends_in_the_same_bits(tmp_path):
    whole = session_in(tmp_path)
    reports_of(whole)
    expected = read_checkpoint(whole.folder.last).tensors
    (tmp_path / "parts").mkdir()
    parts = session_in(tmp_path / "parts")
    for _ in range(6):
        reports_of(parts, resume=True, watch=Watch(stop=lambda: True))
    found = read_checkpoint(parts.folder.last)
    assert found.header["iteration"] == 6
    assert all(torch.equal(found.tensors[name], value) for name, value in expected.items())
    rows = [json.loads(row)["iteration"] for row in parts.folder.metrics.read_text().splitlines()]
    assert rows == [2, 4, 6]


def whole_run(path, **changes):
    path.mkdir()
    session = session_in(path, **changes)
    return session, reports_of(session)


def same_bits(one, other):
    found, expected = (read_checkpoint(session.folder.last).tensors for session in (one, other))
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_stop_during_validation_leaves_the_report_for_later(tmp_path):
    long_validation = {"eval": {"val_episodes": 80}}  # blocks of 32 episodes
    whole, expected = whole_run(tmp_path / "whole", **long_validation)
    asked = []

    def second_block_of_the_first_validation():
        asked.append(1)
        return len(asked) == 4  # after two steps, and one block

    session = session_in(tmp_path, **long_validation)
    assert reports_of(session, watch=Watch(stop=second_block_of_the_first_validation)) == []
    assert read_checkpoint(session.folder.last).header["iteration"] == 2
    found = reports_of(session, resume=True)
    assert [(one.iteration, one.loss, one.val, one.best) for one in found] == [
        (one.iteration, one.loss, one.val, one.best) for one in expected
    ]
    assert same_bits(session, whole)


@pytest.mark.parametrize("place", range(1, 10))
def test_a_step_or_a_validation_that_is_given_up_has_not_begun(tmp_path, place):
    whole, _ = whole_run(tmp_path / "whole")
    session, entered = session_in(tmp_path), []

    @contextmanager
    def abandonable():
        entered.append(1)
        yield
        if len(entered) == place:
            raise KeyboardInterrupt  # as late as can be: all was computed, and nothing of it may count

    watch = Watch(stop=lambda: len(entered) >= place, abandonable=abandonable, within_time=abandonable)
    reports = reports_of(session, watch=watch)
    reports += reports_of(session, resume=True)
    assert [report.iteration for report in reports] == [2, 4, 6]
    assert same_bits(session, whole)


def test_an_interrupt_that_nobody_announced_passes_through(tmp_path):
    @contextmanager
    def abandonable():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        reports_of(session_in(tmp_path), watch=Watch(abandonable=abandonable))


@pytest.mark.parametrize(("keeping", "kept"), [({"every": 2}, 4), ({"minutes": 1e-9}, 4), ({}, None)])
def test_checkpoints_are_written_between_reports_as_asked(tmp_path, keeping, kept):
    session = session_in(tmp_path, checkpoint=keeping, eval={"every": 100})

    def tick(iteration):
        if iteration == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        reports_of(session, watch=Watch(tick=tick))
    assert (read_checkpoint(session.folder.last).header["iteration"] if session.folder.last.exists() else None) == kept
    if kept:
        assert read_checkpoint(session.folder.previous).header["iteration"] == (
            kept - 2 if keeping == {"every": 2} else kept - 1
        )


def test_a_resumed_run_takes_the_chunks_that_it_began_with(tmp_path):
    whole, _ = whole_run(tmp_path / "whole", execution={"chunk": 3})
    session = session_in(tmp_path, execution={"chunk": 3})
    reports_of(session, watch=Watch(stop=lambda: True))
    on_another_machine = session._replace(plan=session.plan._replace(chunk=1, threads=7))
    state = sessions.start(on_another_machine, resume=True)
    assert state.plan == session.plan._replace(threads=7)
    with running(state.plan) as runner:
        list(training.loop(on_another_machine, runner, state, Watch()))
    assert same_bits(session, whole)


def test_another_ground_is_said(tmp_path, monkeypatch):
    session, said = session_in(tmp_path), []
    reports_of(session)
    monkeypatch.setattr(torch, "__version__", "9.9")
    sessions.start(session, resume=True, say=said.append)
    assert len(said) == 1
    assert "torch: 2." in said[0]
    assert "9.9 now" in said[0]


def test_what_only_decides_when_to_report_and_to_keep_may_change(tmp_path):
    reports_of(session_in(tmp_path))
    more = session_in(
        tmp_path,
        outer={"iterations": 8, "on_nonfinite": "skip"},
        eval={"every": 4},
        checkpoint={"every": 1, "minutes": 1.0},
        execution={"threads": 1},
    )
    assert [report.iteration for report in reports_of(more, resume=True)] == [8]


def test_a_checkpoint_of_format_1_goes_on_where_it_stopped(tmp_path):
    frozen = Path(__file__).parents[2] / "storage/frozen/format1.pt"
    changes = {
        "name": "format1",
        "backbone": {"name": "mlp", "hidden": [4]},
        "algorithm": {"name": "meta_sgd", "inner_lr": 0.01},
        "outer": {"iterations": 5},
    }
    whole, _ = whole_run(tmp_path / "whole", **changes)
    session = session_in(tmp_path, **changes)
    session.folder.last.write_bytes(frozen.read_bytes())
    assert [report.iteration for report in reports_of(session, resume=True)] == [4, 5]
    trained, expected = (read_checkpoint(one.folder.last).tensors for one in (session, whole))
    for name, value in expected.items():  # it was made on another machine, whose sums may have other last bits
        assert torch.allclose(trained[name], value, rtol=1e-4, atol=1e-6), name


def test_a_disk_without_room_for_checkpoints_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(RunError, match=r"the disk has 1 MB left, a run needs 17 MB; free some space"):
        sessions.start(session_in(tmp_path), resume=False)


def test_sinks_receive_every_report(tmp_path):
    fake = Fake()
    reports_of(session_in(tmp_path), watch=Watch(sinks=[fake]))
    assert [iteration for iteration, _ in fake.rows] == [2, 4, 6]
    assert {"train/loss", "train/score", "val/step 0", "val/step 2"} <= set(fake.rows[0][1])


def test_divergence_names_iteration_and_tasks_and_changes_no_checkpoint(tmp_path):
    session = session_in(tmp_path, algorithm={"inner_lr": 1e30}, eval={"every": 1})
    with pytest.raises(DivergedError, match=r"iteration 0: the loss of tasks 0, 1, 2, 3 is not finite"):
        reports_of(session)
    for checkpoint in (session.folder.last, session.folder.best):
        if checkpoint.exists():
            assert all(value.isfinite().all() for value in read_checkpoint(checkpoint).tensors.values())


def test_a_step_to_infinity_is_divergence_and_is_kept_in_no_checkpoint(tmp_path):
    session = session_in(tmp_path, outer={"optimizer": "sgd", "lr": 1e30, "weight_decay": 1e30})
    with pytest.raises(DivergedError, match="the learner is not finite"):
        reports_of(session)
    assert not session.folder.last.exists()
    assert not session.folder.best.exists()


def test_a_run_on_other_data_is_not_resumed(tmp_path):
    session = session_in(tmp_path)
    reports_of(session)
    other = session.data._replace(sha256="other")
    with pytest.raises(CheckpointError, match="other data"):
        restored(
            read_checkpoint(session.folder.last),
            session.folder.last,
            session.experiment,
            other,
            session.learner,
            session.device,
            session.plan,
        )


@pytest.mark.parametrize(
    ("block", "change"), [("outer", {"lr": 0.5}), ("eval", {"queries": 3}), ("task", {"shots": 4})]
)
def test_settings_that_end_in_other_weights_are_refused_by_name(tmp_path, block, change):
    reports_of(session_in(tmp_path))
    with pytest.raises(ConfigError, match=rf"{block}\.{next(iter(change))}"):
        sessions.start(session_in(tmp_path, **{block: change}), resume=True)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_schedule_that_reads_the_iterations_does_not_let_them_change(tmp_path, schedule):
    reports_of(session_in(tmp_path, outer={"schedule": schedule}))
    with pytest.raises(ConfigError, match=r"outer\.iterations: 6 before, 8 now"):
        sessions.start(session_in(tmp_path, outer={"schedule": schedule, "iterations": 8}), resume=True)


def test_the_window_is_the_mean_since_the_last_report():
    window = Averages().plus(1.0, 0.0).plus(2.0, 0.5).plus(6.0, 1.0)
    assert window == pytest.approx((3, 3.0, 0.5))


def test_regression_needs_one_way(tmp_path):
    with pytest.raises(ConfigError, match=r"task\.ways: found 5, but sinusoid has no classes"):
        session_in(tmp_path, task={"ways": 5})
