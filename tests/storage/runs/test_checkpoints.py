import json
import random
import struct

import pytest
import torch

from metalearn_cli.errors import CheckpointError
from metalearn_cli.storage.runs import checkpoints
from metalearn_cli.storage.runs.checkpoints import Checkpoint

TENSORS = {
    "params.weight": torch.arange(6.0).reshape(2, 3),
    "params.scalar": torch.tensor(0.5, dtype=torch.float64),
    "count": torch.tensor([1, 2]),
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "last.pt"
    checkpoints.save(file, Checkpoint({"kind": "meta", "iteration": 7}, TENSORS))
    return file


def test_what_is_saved_is_loaded(path):
    found = checkpoints.read_checkpoint(path)
    assert found.header["iteration"] == 7
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())
    assert all(found.tensors[name].dtype == value.dtype for name, value in TENSORS.items())


def test_tensors_in_the_same_memory_are_written_once_and_both_loaded(tmp_path):
    matrix = torch.arange(1e4).reshape(100, 100)
    given = {"adapted.matrix": matrix.expand(1, 100, 100)[0], "kept": matrix, "turned": matrix.T}
    checkpoints.save(tmp_path / "one.pt", Checkpoint({"kind": "adapted"}, given))
    found = checkpoints.read_checkpoint(tmp_path / "one.pt")
    assert "same" not in found.header
    assert all(torch.equal(found.tensors[name], value) for name, value in given.items())
    assert found.tensors.keys() == given.keys()
    assert 80_000 < (tmp_path / "one.pt").stat().st_size < 90_000


@pytest.mark.parametrize("same", [{"count": "params.scalar"}, {"another": "nowhere"}, {"another": 1}, ["another"]])
def test_a_file_cannot_name_tensors_that_it_does_not_have(tmp_path, same):
    checkpoints.save(tmp_path / "one.pt", Checkpoint({"kind": "meta", "same": same}, TENSORS))
    with pytest.raises(CheckpointError, match="same: found no names of its tensors"):
        checkpoints.read_checkpoint(tmp_path / "one.pt")


def test_tensors_below_a_prefix_lose_it(path):
    assert set(checkpoints.read_checkpoint(path).below("params.")) == {"weight", "scalar"}


def test_no_damaged_bit_is_loaded_silently(path):
    whole = path.read_bytes()
    places = random.Random(0).sample(range(len(whole) * 8), 400)
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoints.read_checkpoint(path)


def test_no_cut_file_is_loaded(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoints.read_checkpoint(path)


def test_a_newer_format_is_refused_with_its_maker(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 4)
    checkpoints.save(path, Checkpoint({"versions": {"metalearn": "9.0"}}, TENSORS))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"format 4 \(made by metalearn 9.0\), .* install a newer metalearn"):
        checkpoints.read_checkpoint(path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "evil.pt"
    file.write_bytes(f"cpathlib\nPath\n(V{marker}\ntR(i__main__\ntouch\n.".encode())
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    for one in (file, tmp_path / "foreign.pt"):
        with pytest.raises(CheckpointError, match="is not a metalearn checkpoint"):
            checkpoints.read_checkpoint(one)
    assert not marker.exists()


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"__metadata__": 3}', b"\xff", b"[" * 5000])
def test_a_strange_container_is_refused(tmp_path, header):
    file = tmp_path / "x.pt"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError):
        checkpoints.read_checkpoint(file)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for file, reason in ((tmp_path / "none.pt", "cannot be read: No such file"), (tmp_path, "is a folder, expected")):
        with pytest.raises(CheckpointError, match=reason):
            checkpoints.read_checkpoint(file)


def test_the_header_can_be_read_without_torch(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["metalearn"])["iteration"] == 7


@pytest.mark.parametrize("header", ["[]", "3", "not json"])
def test_a_header_that_is_no_object_is_refused(tmp_path, header, monkeypatch):
    monkeypatch.setattr(checkpoints.json, "dumps", lambda *_args, **_options: header)
    checkpoints.save(tmp_path / "odd.pt", Checkpoint({}, TENSORS))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="not a JSON object"):
        checkpoints.read_checkpoint(tmp_path / "odd.pt")
