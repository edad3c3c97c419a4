"""Pictures that are read while somebody does something to their file: a DataError, never a signal or other pictures."""

import os

import numpy as np
import pytest

from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.rows import Rows

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
EVERY = np.arange(20)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    # A clock that moves in steps could give the next change the time of this one.
    os.utime(tmp_path / "images.npy", ns=(10**18, 10**18))
    return tmp_path / "images.npy"


@pytest.mark.parametrize("preadv", [True, False], ids=["at once", "as on Windows"])
def test_rows_come_by_number_in_any_order_and_more_than_once(path, preadv, monkeypatch):
    if not preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    rows, numbers = Rows(path), np.array([19, 0, 3, 3])
    assert np.array_equal(rows.taken(numbers), IMAGES[numbers])
    assert np.array_equal(rows.whole(), IMAGES)
    assert rows.taken(np.array([], dtype=np.int64)).shape == (0, 6, 5, 3)


@pytest.mark.parametrize("number", [-1, 20])
def test_a_number_that_is_none_is_no_picture(path, number):
    with pytest.raises(IndexError):
        Rows(path).taken(np.array([number]))


def test_what_is_taken_can_be_written_to_and_the_file_stays(path):
    rows = Rows(path)
    rows.taken(EVERY)[:] = 0
    assert np.array_equal(rows.whole(), IMAGES)


def cut_to(length):
    return lambda path: os.truncate(path, length)


def overwrite(path):
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\0")


def append(path):
    with path.open("ab") as file:
        file.write(b"\0")


def map_and_write(path):
    np.lib.format.open_memmap(path, mode="r+")[7] = 0


def rewrite(path):
    path.write_bytes(path.read_bytes())


CHANGES = [*map(cut_to, (0, 1, 100, 128, 129, 500, 1927)), overwrite, append, map_and_write, rewrite]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("numbers", [EVERY, EVERY[:1], EVERY[-1:]])
def test_a_file_that_is_cut_or_written_to_is_an_error_at_the_next_reading(path, change, numbers):
    rows = Rows(path)
    rows.taken(numbers)
    change(path)
    for read in (lambda: rows.taken(numbers), lambda: rows.sha256(lambda _done: None)):
        with pytest.raises(DataError, match=r"images\.npy: was cut or written to while it was being read; prepare"):
            read()


def move_another_there(path):
    np.save(path.with_name("new.npy"), 255 - IMAGES)
    path.with_name("new.npy").replace(path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("replace", [move_another_there, remove])
def test_a_file_that_is_replaced_or_removed_is_left_to_who_reads_it(path, replace):
    rows = Rows(path)
    replace(path)
    assert np.array_equal(rows.whole(), IMAGES)


def test_a_disk_that_gives_an_error_is_named(path, monkeypatch):
    rows = Rows(path)

    def fails(*_where):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(DataError, match=r"images\.npy: cannot be read any more: Input/output error"):
        rows.taken(EVERY)


def test_the_file_is_closed_with_its_rows(path):
    rows = Rows(path)
    file = rows._file
    os.fstat(file)
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
