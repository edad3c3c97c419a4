import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from metalearn_cli.errors import RunError
from metalearn_cli.storage.files.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from metalearn_cli.storage.files.locks import locked
with locked(Path(sys.argv[1]), lambda who: None):
    print("held", flush=True)
    time.sleep(60)
"""


def refuse(who):
    raise RunError(f"held by {who}")


def test_the_lock_goes_with_its_block(tmp_path):
    with locked(tmp_path / "lock", refuse):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_with_a_block_that_fails(tmp_path):
    def fail():
        with locked(tmp_path / "lock", refuse):
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    with locked(tmp_path / "lock", refuse):
        pass


def test_a_second_holder_hears_who_is_first(tmp_path):
    with (
        locked(tmp_path / "lock", refuse),
        pytest.raises(RunError, match=r"held by process \d+ on"),
        locked(tmp_path / "lock", refuse),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"held by process {process.pid} on"), locked(tmp_path / "lock", refuse):
            pass
        process.kill()
    with locked(tmp_path / "lock", refuse):
        pass


def test_of_many_that_wait_one_at_a_time_is_in_the_block(tmp_path):
    inside, most = 0, []

    def enter():
        nonlocal inside
        with locked(tmp_path / "lock", lambda who: time.sleep(0.001)):
            inside += 1
            most.append(inside)
            time.sleep(0.002)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    code = HOLD.replace('print("held", flush=True)', "import os\n    os.write(1, f'{os.fork()}\\n'.encode())")
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE) as process:
        child = max(int(process.stdout.readline()), int(process.stdout.readline()))  # the child itself prints 0
        process.kill()
        process.wait()
        try:
            with locked(tmp_path / "lock", refuse):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


REFUSALS = ["ENOLCK", "ENOTSUP", "ENOSYS", "EINVAL", "EACCES", "EPERM", "EIO", "EBADF", "ESTALE", "EINTR", "EROFS"]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_file_system_without_locks_is_worked_on_without_and_that_is_said(tmp_path, monkeypatch, caplog, name):
    number = getattr(errno, name)

    def refused(_file, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with locked(tmp_path / "lock", refuse):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
    assert f"gives no locks ({os.strerror(number)})" in caplog.text
    assert [record.name for record in caplog.records] == ["metalearn_cli"]
