"""Outputs that go to what is no plain file, and inputs that are none: written to, or refused with a line, at once."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import SECONDS, environment


@pytest.fixture
def adapted(cli, tiny_run, support, tmp_path) -> Path:
    checkpoint = tiny_run / "checkpoints/best.pt"
    outcome = cli("finetune", "--checkpoint", checkpoint, "--support", support, "--output", "mine.pt")
    assert outcome.code == 0, outcome.err
    return tmp_path / "mine.pt"


@pytest.fixture
def answer(cli, adapted, query):
    return lambda *more, **options: cli("finetune", "--checkpoint", adapted, "--query", query, *more, **options)


def in_shell(data_dir, cwd, line, *arguments) -> subprocess.CompletedProcess:
    command = ["sh", "-c", line, "sh", sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(data_dir), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def device(path: Path) -> Path:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("devices can be made by root alone")
    return path


@pytest.mark.parametrize(("option", "name"), [("--csv", "null"), ("--report", "null.html")])
def test_a_device_is_written_to_and_stays_one(answer, tmp_path, option, name):
    path = device(tmp_path / name)
    assert answer(option, path).code == 0
    assert stat.S_ISCHR(path.lstat().st_mode)
    (tmp_path / "to device.html").symlink_to(path)
    assert answer(option, tmp_path / "to device.html").code == 0
    assert (tmp_path / "to device.html").is_symlink()
    assert stat.S_ISCHR(path.lstat().st_mode)


@pytest.mark.parametrize("name", ["mine.pt", "mine.safetensors", "mine.pt2"])
def test_a_classifier_is_never_written_into_a_device(cli, adapted, tmp_path, name):
    path = device(tmp_path / f"device {name}")
    outcome = cli("finetune", "--checkpoint", adapted, "--output", path)
    assert outcome.code == 2
    assert f"--output {path}: is a pipe or a device, expected a file name" in outcome.err
    assert stat.S_ISCHR(path.lstat().st_mode)


@pytest.mark.parametrize(("option", "name"), [("--csv", "a.csv"), ("--report", "a.html"), ("--output", "a.pt")])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_file_is_refused_by_its_target(answer, tmp_path, option, name, there):
    target = tmp_path / "precious"
    if there:
        target.write_text("the only copy")
    (tmp_path / name).symlink_to(target)
    outcome = answer(option, name)
    assert outcome.code == 2
    assert f"error: {option} {name}: is a symbolic link; name the file that it leads to, {target}" in outcome.err
    assert (tmp_path / name).is_symlink()
    assert not there or target.read_text() == "the only copy"


@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/3", "/proc/self/fd/3"])
def test_a_list_goes_where_the_shell_says(data_dir, adapted, query, tmp_path, target):
    line = '"$1" -m metalearn_cli finetune --checkpoint "$2" --query "$3" --csv "$4" 3> there > out'
    result = in_shell(data_dir, tmp_path, line, adapted, query, target)
    assert result.returncode == 0, result.stderr
    out, there = ((tmp_path / name).read_text() for name in ("out", "there"))
    assert "predictions" in out
    assert (out if target == "/dev/stdout" else there).count("file,predicted,probability") == 1


def test_a_list_goes_through_a_pipe(data_dir, adapted, query, tmp_path):
    line = 'mkfifo p; cat p > got & "$1" -m metalearn_cli finetune --checkpoint "$2" --query "$3" --csv p > out; wait'
    result = in_shell(data_dir, tmp_path, line, adapted, query)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "got").read_text().startswith("file,predicted,probability")
    assert stat.S_ISFIFO((tmp_path / "p").lstat().st_mode)


@pytest.fixture(params=["pipe", "device", "link to a device"])
def no_file(request, tmp_path) -> Path:
    path = tmp_path / "strange"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "device":
            device(tmp_path / "device").rename(path)
        case "link to a device":
            path.symlink_to("/dev/zero")
    return path


COMMANDS = {
    "eval": ["eval", "--checkpoint", "strange"],
    "finetune": ["finetune", "--checkpoint", "strange", "--query", "."],
    "support": ["finetune", "--checkpoint", "BEST", "--support", "strange"],
    "query": ["finetune", "--checkpoint", "MINE", "--query", "strange"],
    "source": ["prepare", "folder", "--source", "strange"],
    "config": ["train", "strange"],
    "data": ["prepare", "glyphs", "--data-dir", "strange"],
    "run": ["train", "CONFIG", "--run-dir", "strange"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_plain_file_is_refused_at_once(cli, no_file, adapted, tiny_run, tiny_config, name):
    places = {"BEST": tiny_run / "checkpoints/best.pt", "MINE": adapted, "CONFIG": tiny_config}
    outcome = cli(*(places.get(argument, argument) for argument in COMMANDS[name]))
    assert outcome.code == 2
    assert [line for line in outcome.err.splitlines() if line.startswith("error: ")], outcome.err
    assert "strange" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("name", ["manifest.json", "images.npy"])
def test_no_pipe_of_a_dataset_is_waited_for(cli, tmp_path, name):
    settings = ["--set", "dataset.classes=40", "--data-dir", "data"]
    assert cli("prepare", "glyphs", *settings).code == 0
    (path,) = (tmp_path / "data").glob(f"*/{name}")
    path.unlink()
    os.mkfifo(path)
    outcome = cli("prepare", "glyphs", *settings, "--verify")
    assert outcome.code == 2
    assert f"{name}: cannot be read: is a pipe or a device, expected a plain file" in outcome.err


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    from metalearn_cli.errors import DataError
    from metalearn_cli.storage.prepared.checking import opened_rows

    def refused(*_arguments, **_options):
        raise PermissionError(13, "Permission denied", "images.npy")

    (tmp_path / "images.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"images\.npy: cannot be read: Permission denied$"):
        opened_rows(refused, tmp_path / "images.npy", (0, 1, 1, 1), 0)
