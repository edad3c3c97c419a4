"""The model of a disk that the crash points rest on, and that the campaign finds what it is there to find."""

import pytest

from metalearn_cli.storage.files.atomic import write_file
from tests.faults import crash_points
from tests.faults._disk import Call, Disk, recorded


def disk_after(*calls):
    disk = Disk()
    for call in calls:
        disk.do(call)
    return disk


def test_the_calls_of_a_careful_writer_are_recorded_in_order(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with recorded(tmp_path) as calls:
        write_file(tmp_path / "a", b"new", predecessor=tmp_path / "b")
    assert [call.kind for call in calls] == [
        "create",
        "write",
        "flush",
        "link",
        "replace",
        "replace",
        "flush folder",
    ]
    assert (calls[4].to, calls[5].to) == ("b", "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_was_not_flushed_may_be_gone_in_part():
    disk = disk_after(Call("create", "a"), Call("flush folder", "."), Call("write", "a", b"abcd"))
    assert {state["a"] for state in disk.after_a_power_loss()} == {b"", b"ab", b"abcd"}
    assert disk.after_a_kill() == {"a": b"abcd"}
    disk.do(Call("flush", "a"))
    assert {state["a"] for state in disk.after_a_power_loss()} == {b"abcd"}


def test_names_may_be_gone_until_their_folder_is_flushed():
    disk = disk_after(Call("create", "a"), Call("write", "a", b"x"), Call("flush", "a"), Call("replace", "a", "b"))
    assert {tuple(state) for state in disk.after_a_power_loss()} == {(), ("a",), ("b",)}
    disk.do(Call("flush folder", "."))
    assert list(disk.after_a_power_loss()) == [{"b": b"x"}] * 3


@pytest.mark.parametrize(
    "dropped", [("flush", "checkpoints/"), ("flush folder", "checkpoints")], ids=["file", "folder"]
)
def test_a_writer_that_does_not_flush_is_found_to_lose(tmp_path, dropped):
    session, calls, kept = crash_points.training_recorded(tmp_path)
    kind, place = dropped
    careless = [call for call in calls if not (call.kind == kind and call.path.startswith(place))]
    lost = 0
    for state in crash_points.distinct(careless):
        try:
            lost += not crash_points.recovers(session, kept, state, tmp_path / "crashed")
        except Exception:
            lost += 1
    assert lost > 0
