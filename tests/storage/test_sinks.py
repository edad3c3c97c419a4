import pytest

from metalearn_cli.storage import sinks


def test_tensorboard_events_are_written_to_the_run_folder(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra metalearn-cli[tensorboard] is not installed")
    found = sinks.installed(tmp_path)
    assert len(found) == 1
    found[0].scalars(3, {"train/loss": 0.5})
    found[0].close()
    events = next(tmp_path.glob("events.out.tfevents.*")).read_bytes()
    assert b"train/loss" in events


def test_without_the_library_there_is_no_sink(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    assert sinks.installed(tmp_path) == []
