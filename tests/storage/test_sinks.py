import pytest

from metalearn_cli.storage import sinks


def test_tensorboard_events_are_written_to_the_run_folder(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra metalearn-cli[tensorboard] is not installed")
    with sinks.opened(tmp_path) as found:
        assert len(found) == 1
        found[0].scalars(3, {"train/loss": 0.5})
    events = next(tmp_path.glob("events.out.tfevents.*")).read_bytes()
    assert b"train/loss" in events


def test_without_the_library_there_is_no_sink(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with sinks.opened(tmp_path) as found:
        assert found == []


def test_a_sink_is_closed_however_the_run_ends(tmp_path, monkeypatch):
    closed = []

    class Fake:
        def __init__(self, folder):
            self.close = lambda: closed.append(folder)

    monkeypatch.setattr(sinks, "TensorBoard", Fake)
    with pytest.raises(ValueError), sinks.opened(tmp_path):
        raise ValueError
    assert closed == [tmp_path]
