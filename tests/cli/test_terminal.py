"""The real command where a real terminal or a real pipe matters."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import environment

COMMAND = [sys.executable, "-m", "metalearn_cli"]
ENDLESS = ["--set", "outer.iterations=100000"]


def interrupted_at(wanted: bytes, data, cwd, *arguments, columns=80) -> tuple[int, str]:
    """Exit code and all that a terminal shows, if a person types Ctrl-C as soon as it shows `wanted`."""
    env = {name: value for name, value in environment(data).items() if name not in ("NO_COLOR", "COLUMNS")}
    env["TERM"] = "xterm-256color"
    ours, theirs = pty.openpty()
    size = f'stty cols {columns} rows 24; exec "$@"'
    process = subprocess.Popen(
        ["sh", "-c", size, "sh", *COMMAND, *map(str, arguments)],
        cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, typed = b"", False
    try:
        while piece := os.read(ours, 65536):
            shown += piece
            if wanted in shown and not typed:
                process.send_signal(signal.SIGINT)
                typed = True
    except OSError:  # Linux says so when nobody has the other end any more
        pass
    finally:
        os.close(ours)
    return process.wait(timeout=60), shown.decode()


def rows_in(shown: str) -> list[str]:
    """The lines that are left on the screen when all is over."""
    return [line.rsplit("\x1b[2K", 1)[-1] for line in shown.replace("\r\n", "\n").split("\n")]


def test_the_first_line_is_there_before_torch_is_loaded(data_dir, tmp_path):
    code, shown = interrupted_at(b"loading torch ...", data_dir, tmp_path, "train", "quickstart")
    first, second, *_ = shown.splitlines()
    assert first.startswith("metalearn ")
    assert first.endswith(": train quickstart")
    assert second.startswith("loading torch ...")
    assert code == 130
    assert "Traceback" not in shown


def test_rows_fit_a_narrow_terminal_and_ctrl_c_says_how_to_go_on(data_dir, tiny_config, tmp_path):
    code, shown = interrupted_at(b"val accuracy %", data_dir, tmp_path, "train", tiny_config, *ENDLESS, columns=50)
    assert code == 130, shown
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor stayed hidden"
    rows = [line for line in rows_in(shown) if "±" in line and "┃" not in line]
    assert rows
    assert max(len(row) for row in rows if "val" not in row) < 50
    assert "--resume" in shown
    assert read_checkpoint(tmp_path / "runs/tiny/checkpoints/last.pt").header["iteration"] > 0


@pytest.mark.parametrize(
    "arguments", [["train", "list"], ["prepare", "--list"], ["prepare", "--list", "--json"], ["--help"]]
)
def test_141_when_nobody_reads_the_result(arguments, data_dir, tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=tmp_path, env=environment(data_dir), stdout=theirs, stderr=subprocess.PIPE
        )
    finally:
        os.close(theirs)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_closed_progress_pipe_ends_a_run_with_its_checkpoint(data_dir, tiny_config, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", str(tiny_config), *ENDLESS], cwd=tmp_path, env=environment(data_dir),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while b"val accuracy %" not in process.stderr.readline():
        assert process.poll() is None
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert read_checkpoint(tmp_path / "runs/tiny/checkpoints/last.pt").header["iteration"] > 0


def test_130_also_when_the_reader_of_a_pipe_took_the_same_ctrl_c(data_dir, tiny_config, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", str(tiny_config), *ENDLESS, "--set", "eval.every=100000"],
        cwd=tmp_path, env=environment(data_dir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while b"iterations of 2 tasks" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert read_checkpoint(tmp_path / "runs/tiny/checkpoints/last.pt").header["iteration"] > 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_2_when_the_result_cannot_be_written(data_dir, tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*COMMAND, "train", "list"], cwd=tmp_path, env=environment(data_dir), stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr.decode() == "error: output: No space left on device\n"


def test_closed_streams_are_no_fault(data_dir, tmp_path):
    for closing, code in (("train list >&-", 0), ("prepare --list 2>&-", 0), ("train nothing 2>&-", 2)):
        command = f"{sys.executable} -m metalearn_cli {closing}"
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment(data_dir), stdout=subprocess.PIPE)
        assert done.returncode == code, closing
        assert b"rror" not in done.stdout
