import pytest
import torch

from metalearn_cli.errors import CheckpointError, DamagedError
from metalearn_cli.storage.runs import checkpoints
from metalearn_cli.storage.runs.checkpoints import Checkpoint
from metalearn_cli.storage.runs.recovery import newest
from metalearn_cli.storage.runs.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    (tmp_path / "checkpoints").mkdir()
    return RunFolder(tmp_path)


def save(folder, iteration):
    checkpoint = Checkpoint({"iteration": iteration}, {"weight": torch.full((3,), float(iteration))})
    checkpoints.save(folder.last, checkpoint, predecessor=folder.previous)


def found(folder, said=None):
    path, checkpoint = newest(folder, [].append if said is None else said.append)
    return path.name, checkpoint.header["iteration"], float(checkpoint.tensors["weight"][0])


def test_without_a_checkpoint_there_is_none(folder):
    assert newest(folder, pytest.fail) is None


def test_the_last_is_the_newest_and_nothing_is_said(folder):
    save(folder, 1)
    save(folder, 2)
    assert newest(folder, pytest.fail)[1].header["iteration"] == 2


def test_a_damaged_last_gives_way_to_the_one_before_it_and_is_kept_aside(folder):
    save(folder, 1)
    save(folder, 2)
    folder.last.write_bytes(folder.last.read_bytes()[:-5])
    said = []
    assert found(folder, said) == ("previous.pt", 1, 1.0)
    assert "last.pt: damaged" in said[0]
    assert "going on from previous.pt, iteration 1" in said[0]
    assert folder.last.with_name("last.pt.damaged").exists()
    save(folder, 2)  # the run goes on; the damaged file must not become the predecessor
    folder.last.write_bytes(b"")
    assert found(folder)[0] == "previous.pt"


def test_the_best_is_taken_where_it_is_the_newest_whole_one(folder):
    save(folder, 1)
    save(folder, 2)
    folder.last.rename(folder.best)
    folder.last.write_bytes(bytes(100))
    assert found(folder) == ("best.pt", 2, 2.0)


def test_one_of_the_best_is_taken_where_it_is_the_newest_whole_one(folder):
    save(folder, 7)
    folder.last.rename(folder.kept(7))
    save(folder, 3)
    folder.last.write_bytes(b"")
    assert found(folder) == ("best-0000000007.pt", 7, 7.0)


def test_a_last_that_is_gone_gives_way_too(folder):
    save(folder, 1)
    save(folder, 2)
    folder.last.unlink()
    assert found(folder) == ("previous.pt", 1, 1.0)


def test_damaged_ones_alone_are_an_error_and_no_new_start(folder):
    save(folder, 1)
    folder.last.write_bytes(b"x")
    with pytest.raises(DamagedError, match="no other checkpoint of the run is whole; start again with --run-dir"):
        newest(folder, pytest.fail)
    assert folder.last.exists()


def test_one_of_a_newer_format_is_no_damage(folder, monkeypatch):
    save(folder, 1)
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    save(folder, 2)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99"):
        newest(folder, pytest.fail)
    assert folder.last.exists()
