"""The k best checkpoints of a run: which they are, and that no stop, crash or full disk changes that."""

import json
from itertools import pairwise

import pytest
import torch

from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.errors import ConfigError, RunError
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run.state import Kept, State
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.faults import crash_points
from tests.runtime.run.test_training import reports_of, session_in

THREE = {"checkpoint": {"keep_best": 3}, "outer": {"iterations": 24, "lr": 0.05}}


def kept_files(session):
    return {path.name: read_checkpoint(path) for path in session.folder.all_kept}


def same_files(one, other):
    found, expected = kept_files(one), kept_files(other)
    assert found.keys() == expected.keys()
    for name, checkpoint in expected.items():
        assert found[name].header["kept"] == checkpoint.header["kept"]
        assert all(torch.equal(found[name].tensors[key], value) for key, value in checkpoint.tensors.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed, with its reports."""
    session = session_in(tmp_path_factory.mktemp("whole"), **THREE)
    return session, reports_of(session)


def test_the_files_are_those_of_the_best_validations(whole):
    session, reports = whole
    best = sorted(reports, key=lambda report: (report.val[-1].score, report.iteration))[:3]
    assert {name: file.header["iteration"] for name, file in kept_files(session).items()} == {
        f"best-{report.iteration:010}.pt": report.iteration for report in best
    }
    assert read_checkpoint(session.folder.last).header["kept"] == [[one.iteration, one.val[-1].score] for one in best]
    assert sum(report.best for report in reports) < len(reports) - 3  # some that came later fell out, or never came in


def test_the_best_of_them_is_best_pt(whole):
    session, _ = whole
    iteration, _ = read_checkpoint(session.folder.last).header["kept"][0]
    kept, best = read_checkpoint(session.folder.kept(iteration)), read_checkpoint(session.folder.best)
    assert kept.header == best.header
    assert all(torch.equal(kept.tensors[name], value) for name, value in best.tensors.items())


def test_names_sort_as_iterations_do(whole):
    folder = whole[0].folder
    names = [folder.kept(iteration).name for iteration in (2, 10, 999_999, 10**9)]
    assert names == sorted(names)


def test_without_being_asked_for_none_are_kept(tmp_path):
    session = session_in(tmp_path)
    reports_of(session)
    assert session.folder.all_kept == []
    assert read_checkpoint(session.folder.last).header["kept"] == []


def test_of_equal_scores_the_earlier_stays_as_it_does_in_best_pt():
    state = State(7, None, None, None, kept=[Kept(1, 0.5), Kept(3, 0.4)])
    assert state.best_with(0.4, classification, 2) == [Kept(1, 0.5), Kept(3, 0.4)]
    assert state.best_with(0.45, classification, 2) == [Kept(1, 0.5), Kept(7, 0.45)]
    assert state.best_with(0.6, classification, 3) == [Kept(7, 0.6), Kept(1, 0.5), Kept(3, 0.4)]


def test_a_smaller_error_is_better_and_what_is_not_finite_is_never_kept():
    state = State(7, None, None, None, kept=[Kept(1, 0.4), Kept(3, 0.5)])
    assert state.best_with(0.3, regression, 2) == [Kept(7, 0.3), Kept(1, 0.4)]
    for score in (float("nan"), float("inf"), float("-inf")):
        assert state.best_with(score, regression, 3) == state.kept


def test_resumed_after_every_step_the_same_are_kept(whole, tmp_path):
    session = session_in(tmp_path, **THREE)
    for _ in range(24):
        reports_of(session, resume=True, watch=Watch(stop=lambda: True))
    same_files(session, whole[0])


@pytest.mark.parametrize("write", range(1, 22))
def test_killed_inside_any_write_it_ends_with_the_same_kept(whole, tmp_path, monkeypatch, write):
    session, saves = session_in(tmp_path, **THREE), []

    def dies(path, checkpoint, predecessor=None):
        saves.append(path.name)
        if len(saves) == write:
            raise InterruptedError
        save(path, checkpoint, predecessor)

    save = sessions.save
    monkeypatch.setattr(sessions, "save", dies)
    with pytest.raises(InterruptedError):
        reports_of(session)
    monkeypatch.undo()
    for one in read_checkpoint(session.folder.last).header["kept"] if session.folder.last.exists() else []:
        assert (
            read_checkpoint(session.folder.kept(one[0])).header["iteration"] == one[0]
        )  # whatever it goes on from is all there
    reports_of(session, resume=True)
    same_files(session, whole[0])


def test_killed_before_what_fell_out_is_gone_it_goes_at_the_next_start(whole, tmp_path, monkeypatch):
    session, calls = session_in(tmp_path, **THREE), []

    def dies(_folder, kept):
        calls.append(kept)
        if len(calls) > 5:
            raise InterruptedError

    monkeypatch.setattr(type(session.folder), "keep_only", dies)
    with pytest.raises(InterruptedError):
        reports_of(session)
    monkeypatch.undo()
    assert len(session.folder.all_kept) > 3
    sessions.start(session, resume=True)
    assert [read_checkpoint(path).header["iteration"] for path in session.folder.all_kept] == sorted(calls[-1])
    reports_of(session, resume=True)
    same_files(session, whole[0])


def test_what_is_done_again_after_a_damaged_last_is_there_once(whole, tmp_path):
    session = session_in(tmp_path, **THREE)
    stop_after = iter([False] * 7)
    reports_of(session, watch=Watch(stop=lambda: next(stop_after, True)))
    session.folder.last.write_bytes(b"damaged")
    reports_of(session, resume=True)
    iterations = [iteration for iteration, _ in read_checkpoint(session.folder.last).header["kept"]]
    assert len(set(iterations)) == len(iterations) == 3
    same_files(session, whole[0])


def test_after_a_crash_anywhere_all_that_the_newest_names_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(crash_points, "_CHANGES", [*crash_points._CHANGES, "checkpoint.keep_best=2"])
    session, calls, kept = crash_points.training_recorded(tmp_path)
    assert any(call.kind == "unlink" and "best-" in call.path for call in calls)  # one did fall out
    states = crash_points.distinct(calls)
    for state in states[:: max(1, len(states) // 60)]:
        place = tmp_path / "crashed"
        assert crash_points.recovers(session, kept, state, place), state.call
        folder = session.folder._replace(path=place)
        found = read_checkpoint(folder.last).header["kept"] if folder.last.exists() else []
        assert [read_checkpoint(path).header["iteration"] for path in folder.all_kept] == sorted(
            one for one, _ in found
        )


def test_a_disk_that_is_full_for_one_leaves_the_run_whole_and_nothing_half_written(whole, tmp_path, monkeypatch):
    session = session_in(tmp_path, **THREE)

    def full(path, checkpoint, predecessor=None):
        if path.name == "best-0000000004.pt":
            raise RunError(f"{path}: cannot be written: the disk is full; free some space")
        save(path, checkpoint, predecessor)

    save = sessions.save
    monkeypatch.setattr(sessions, "save", full)
    with pytest.raises(RunError, match=r"disk is full; .*last\.pt is whole, go on from it with --resume"):
        reports_of(session)
    monkeypatch.undo()
    assert read_checkpoint(session.folder.last).header["iteration"] == 2
    reports_of(session, resume=True)
    same_files(session, whole[0])


def test_another_number_of_them_is_refused_on_resume(tmp_path):
    reports_of(session_in(tmp_path))
    with pytest.raises(ConfigError, match=r"checkpoint\.keep_best: 1 before, 3 now"):
        sessions.start(session_in(tmp_path, checkpoint={"keep_best": 3}), resume=True)


def test_rows_and_the_list_agree(whole):
    session, _ = whole
    rows = [json.loads(line) for line in session.folder.metrics.read_text().splitlines()]
    scores = {row["iteration"]: row["val"][-1]["score"] for row in rows}
    listed = read_checkpoint(session.folder.last).header["kept"]
    assert [scores[iteration] for iteration, _ in listed] == [score for _, score in listed]
    assert all(left <= right for (_, left), (_, right) in pairwise(listed))
