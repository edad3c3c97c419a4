import errno
import io
import os
import stat
from pathlib import Path

import pytest

from metalearn_cli.errors import RunError
from metalearn_cli.storage.files.atomic import (
    append,
    disk_errors,
    make_folder,
    put_in_place,
    put_right,
    remove_folder,
    sweep,
    write_file,
)


def refuse(error):
    def refused(*_arguments, **_options):
        raise error

    return refused


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_written_file_holds_the_content_and_nothing_lies_beside_it(tmp_path):
    write_file(tmp_path / "a", b"one")
    write_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", refuse(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunError, match=r"a: cannot be written: the disk is full; free some space"):
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_what_a_file_held_before_becomes_its_predecessor(tmp_path):
    for content in (b"one", b"two", b"three"):
        write_file(tmp_path / "a", content, predecessor=tmp_path / "b")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"three", b"two")
    assert names(tmp_path) == ["a", "b"]


def test_a_file_system_without_links_keeps_predecessors_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse(OSError(errno.EPERM, "Operation not permitted")))
    test_what_a_file_held_before_becomes_its_predecessor(tmp_path)


def test_a_full_disk_leaves_the_file_and_its_predecessor(tmp_path, monkeypatch):
    for content in (b"one", b"two"):
        write_file(tmp_path / "a", content, predecessor=tmp_path / "b")
    monkeypatch.setattr(os, "write", refuse(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunError, match="the disk is full"):
        write_file(tmp_path / "a", b"three", predecessor=tmp_path / "b")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"two", b"one")


def test_a_disk_that_gives_back_something_else_is_found_out(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")
    monkeypatch.setattr(Path, "open", lambda *_arguments: io.BytesIO(b"nev"))
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    with pytest.raises(RunError, match="the disk did not keep what was written"):
        write_file(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_lines_are_appended_and_flushed(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), fsync(descriptor)))
    append(tmp_path / "a", b"one\n")
    assert len(flushed) == 2  # the file, and once the folder that has a new name
    append(tmp_path / "a", b"two\n")
    assert len(flushed) == 3
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"


def test_what_killed_writers_left_is_swept_away_and_nothing_else(tmp_path):
    kept = [".lock", "a", ".a.old", ".hidden.0123"]
    for name in [*kept, f".a.{'0f' * 16}"]:
        (tmp_path / name).write_bytes(b"")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", b"new")
    assert names(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: there.append((tmp_path / "a").exists()))
    write_file(tmp_path / "a", b"new")
    assert there == [False, True]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunError, match=r"missing.*the folder does not exist"):
        write_file(tmp_path / "missing" / "a", b"")


def aside(folder, name):
    (folder / ".aside").mkdir()
    (folder / ".aside" / name).write_text("new")
    return folder / ".aside"


def test_a_folder_is_put_in_its_place(tmp_path):
    put_in_place(aside(tmp_path, "a"), tmp_path / "it")
    assert (tmp_path / "it" / "a").read_text() == "new"
    assert names(tmp_path) == ["it"]


def test_a_folder_replaces_all_of_the_old(tmp_path):
    for name in "ab":
        put_in_place(aside(tmp_path, name), tmp_path / "it")
    assert names(tmp_path / "it") == ["b"]
    assert names(tmp_path) == ["it"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "a").write_text("old")
    rename = Path.rename

    def refused(self, target):
        if (self / "b").exists():
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(RunError, match="no permission"):
        put_in_place(aside(tmp_path, "b"), tmp_path / "it")
    assert names(tmp_path / "it") == ["a"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "flawed cable"),
    ],
)
def test_what_the_disk_refuses_is_one_line_with_path_and_reason(number, cure):
    with pytest.raises(RunError, match=f"^there: cannot be written: .*{cure}") as caught, disk_errors(Path("there")):
        raise OSError(number, "flawed cable")
    assert "\n" not in str(caught.value)


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError, match="mine"), disk_errors(Path("there")):
        raise KeyError("mine")


NOT_FLUSHED = ["EINVAL", "EACCES", "EBADF", "ESTALE", "ENOSYS", "ENOTSUP", "EROFS", "EISDIR", "EPERM"]


def refuse_flush(monkeypatch, number, folders):
    """Flushing what is a folder, or what is none, is refused."""
    fsync = os.fsync

    def refused(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("name", NOT_FLUSHED)
def test_a_file_system_that_does_not_flush_is_worked_on_and_that_is_said_once(
    tmp_path, monkeypatch, caplog, name, folders
):
    refuse_flush(monkeypatch, getattr(errno, name), folders)
    write_file(tmp_path / "a", b"one", predecessor=tmp_path / "b")
    write_file(tmp_path / "a", b"two", predecessor=tmp_path / "b")
    append(tmp_path / "c", b"three")
    assert [(tmp_path / one).read_bytes() for one in "abc"] == [b"two", b"one", b"three"]
    assert [record.name for record in caplog.records] == ["metalearn_cli"]
    assert f"does not flush to the disk ({os.strerror(getattr(errno, name))})" in caplog.text


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_flush_that_lost_what_was_written_is_an_error(tmp_path, monkeypatch, name, folders):
    refuse_flush(monkeypatch, getattr(errno, name), folders)
    with pytest.raises(RunError, match="a: cannot be written: "):
        write_file(tmp_path / "a", b"one")


@pytest.mark.parametrize("name", [*NOT_FLUSHED, "EIO", "EMLINK", "EXDEV", "EOPNOTSUPP"])
def test_a_predecessor_is_kept_whatever_a_file_system_says_to_links(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "link", refuse(OSError(getattr(errno, name), "refused")))
    test_what_a_file_held_before_becomes_its_predecessor(tmp_path)


def test_nothing_is_appended_to_a_link_a_pipe_or_another_name_of_a_file(tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "second name").hardlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("link", "symbolic link"), ("second name", "hard link"), ("pipe", "")):
        with pytest.raises(RunError, match=f"{name}: cannot be written: .*{why}"):
            append(tmp_path / name, b"more")
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_a_folder_is_made_below_a_link_but_not_through_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "top").symlink_to(tmp_path / "disk")
    make_folder(tmp_path / "top" / "a" / "b", tmp_path / "top")
    assert (tmp_path / "disk" / "a" / "b").is_dir()
    (tmp_path / "top" / "c").symlink_to(tmp_path)
    for below in ("c", "c/d"):
        with pytest.raises(OSError, match="symbolic links"):
            make_folder(tmp_path / "top" / below, tmp_path / "top")
    assert not (tmp_path / "d").exists()


def test_of_a_link_to_a_folder_the_link_alone_is_removed(tmp_path):
    (tmp_path / "kept" / "in it").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("link", "not there"):
        remove_folder(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    remove_folder(tmp_path / "kept")
    assert names(tmp_path) == []


def plant(kind: str, place: Path) -> None:
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "file":
            place.write_text("a file")
        case "dangling link":
            place.symlink_to(place.with_name("nowhere"))
        case "link to a pipe":
            os.mkfifo(place.with_name("pipe elsewhere"))
            place.symlink_to(place.with_name("pipe elsewhere"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "file", "dangling link", "link to a pipe"])
def test_what_stands_where_a_folder_belongs_is_replaced_without_being_opened(tmp_path, kind):
    plant(kind, tmp_path / "it")
    put_in_place(aside(tmp_path, "new"), tmp_path / "it")
    assert names(tmp_path / "it") == ["new"]
    assert set(names(tmp_path)) <= {"it", "pipe elsewhere"}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "file", "dangling link", "link to a pipe"])
def test_what_a_killed_process_left_of_it_is_deleted_without_being_opened(tmp_path, kind):
    (tmp_path / "it").mkdir()
    plant(kind, tmp_path / f".it.{'0' * 32}.old")
    put_right(tmp_path / "it")
    assert set(names(tmp_path)) <= {"it", "pipe elsewhere"}
