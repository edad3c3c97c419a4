"""What the environment and the system give may be missing, empty or strange: work goes on, or one line says why not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands import SECONDS, Outcome, environment

FEW = ["--set", "outer.iterations=2", "--set", "eval.every=2", "--set", "eval.val_episodes=4", "--run-dir", "run"]
SLOW = pytest.mark.slow
WIDTHS = ["abc", "0", "-5", "1.5", "²", "٣", "1e3", " ", "80 ", "99999", "9" * 5000]


@pytest.fixture
def run(tmp_path, data_dir):
    """The command in a process of its own, with variables that are set, or missing where they are None."""

    def run(*arguments: object, **variables: str | None) -> Outcome:
        env = environment(data_dir) | variables
        env = {name: value for name, value in env.items() if value is not None}
        line = [sys.executable, "-P", "-c", "from metalearn_cli.__main__ import main; main()", *map(str, arguments)]
        result = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=SECONDS)
        return Outcome(result.returncode, result.stdout, result.stderr)

    return run


@pytest.fixture
def open_folder():
    """A folder that anybody may write to; those of pytest are closed to others."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def nobody(data_dir, open_folder):
    """The command as a user who has no entry in passwd, as `docker run --user` has it; the variables are all it has."""
    become = shutil.which("setpriv")
    if become is None or os.geteuid() != 0:
        pytest.skip("only root can become somebody else, by setpriv")
    env = {name: value for name, value in environment(data_dir).items() if name not in ("HOME", "METALEARN_DATA")}
    stranger = [become, "--reuid", "54321", "--regid", "54321", "--clear-groups"]

    def run(*arguments: object, **variables: str) -> Outcome:
        code = "from metalearn_cli.__main__ import main; main()"
        line = [*stranger, sys.executable, "-P", "-c", code, *map(str, arguments)]
        result = subprocess.run(
            line, cwd=open_folder, env=env | variables, capture_output=True, text=True, timeout=SECONDS
        )
        return Outcome(result.returncode, result.stdout, result.stderr)

    if run("--version").code:
        pytest.skip("this package lies where only root can read it")
    return run


def require_one_line(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line


def test_without_a_home_only_what_needs_one_says_so(nobody):
    require_one_line(nobody("prepare", "--list"), "HOME is not set", "METALEARN_DATA")
    require_one_line(nobody("train", "quickstart", *FEW), "HOME is not set")
    assert nobody("train", "sinusoid", *FEW).code == 0
    told = nobody("info", "--json")
    assert told.code == 0
    assert told.fields["data"]["folder"] is None
    assert "warning: environment: HOME is not set" in told.err


@pytest.mark.parametrize("name", [pytest.param("METALEARN_DATA", marks=pytest.mark.slow), "XDG_CACHE_HOME"])
def test_without_a_home_a_folder_that_is_named_is_enough(nobody, open_folder, name):
    data = str(open_folder / "data")
    more = ["--set", "dataset.classes=40", "--set", "backbone.channels=4", "--set", "task.ways=2"]
    trained = nobody("train", "quickstart", *FEW, *more, **{name: data})
    assert trained.code == 0, trained.err
    measured = nobody(
        *("eval", "--checkpoint", "run/checkpoints/best.pt", "--episodes", "4", "--report", "page.html"),
        **{name: data},
    )
    assert measured.code == 0, measured.err
    assert "warning" not in measured.err


@pytest.mark.parametrize("value", ["~no-such-user/x", "~no-such-user"])
def test_a_data_folder_of_a_user_who_is_not_there_is_one_line(run, value):
    require_one_line(run("prepare", "--list", METALEARN_DATA=value), f"METALEARN_DATA={value}", "no home folder")


@pytest.mark.parametrize("value", ["", "relative", "."])
def test_a_cache_folder_that_is_not_absolute_is_ignored(run, tmp_path, value):
    told = run("info", "--json", METALEARN_DATA=None, XDG_CACHE_HOME=value, HOME=str(tmp_path / "home"))
    assert told.fields["data"]["folder"] == str(tmp_path / "home/.cache/metalearn")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("COLUMNS", value) for value in WIDTHS),
        *(pytest.param(name, value, marks=SLOW) for name in ("LINES", "TERMINAL_WIDTH") for value in WIDTHS),
    ],
)
def test_a_size_that_no_terminal_has_is_said_and_not_used(cli, name, value):
    outcome = cli("prepare", "--list", **{name: value})
    assert outcome.code == 0, outcome.err
    assert f"warning: {name} is" in outcome.err
    assert len(outcome.err) < 300
    assert "Traceback" not in outcome.err


def test_an_empty_size_is_no_size(cli):
    outcome = cli("prepare", "--list", COLUMNS="", LINES="", TERMINAL_WIDTH="")
    assert (outcome.code, outcome.err.count("warning")) == (0, 0)


@pytest.mark.parametrize(
    "backend",
    [
        "module://matplotlib_inline.backend_inline",
        *(pytest.param(one, marks=SLOW) for one in ("nonsense", "TkAgg", "")),
    ],
)
def test_the_backend_of_a_notebook_is_not_asked_for_a_page(run, tiny_run, tmp_path, backend):
    arguments = ["--episodes", "4", "--report", "page.html"]
    outcome = run("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", *arguments, MPLBACKEND=backend)
    assert outcome.code == 0, outcome.err
    assert "<svg" in (tmp_path / "page.html").read_text()


STRANGE = {
    "ascii": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    "no such locale": {"LC_ALL": "xx_YY.UTF-99", "LANG": "zz"},
    "no such terminal": {"TERM": "nonsense", "FORCE_COLOR": "1"},
    "no numbers": {"OMP_NUM_THREADS": "abc", "OPENBLAS_NUM_THREADS": "abc", "MKL_NUM_THREADS": "abc"},
    "empty": {"HOME": "", "TMPDIR": "", "TERM": "", "LANG": "", "METALEARN_TRUST": ",", "PATH": "", "WORLD_SIZE": ""},
    "no temporary folder": {"TMPDIR": "/no/such/folder"},
    "left over": {"RANK": "1", "LOCAL_RANK": "x", "MASTER_PORT": "x", "SLURM_PROCID": "7", "LOCAL_WORLD_SIZE": "0"},
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_elsewhere_does_not_matter_here(run, tiny_run, name):
    outcome = run("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--episodes", "4", **STRANGE[name])
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err


def test_a_folder_that_is_gone_is_one_line(data_dir, tmp_path, tiny_run):
    line = 'mkdir gone; cd gone; rmdir ../gone; "$@"'
    command = [sys.executable, "-m", "metalearn_cli", "eval", "--checkpoint", tiny_run / "checkpoints/best.pt"]
    result = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        cwd=tmp_path, env=environment(data_dir), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    require_one_line(Outcome(result.returncode, result.stdout, result.stderr), "folder", "is gone")


@pytest.mark.parametrize("closed", [*(pytest.param(one, marks=SLOW) for one in ("<&-", ">&-", "2>&-")), "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_stream_that_is_closed(data_dir, tiny_config, tmp_path, closed):
    command = [sys.executable, "-m", "metalearn_cli", "train", tiny_config, *FEW]
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command],
        cwd=tmp_path, env=environment(data_dir), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    code = (
        "import os, sys; sys.argv = ['metalearn', '--version']\n"
        "from metalearn_cli import __main__\n"
        "__main__._open_streams()\n"
        "os._exit(0 if os.open(sys.executable, os.O_RDONLY) > 2 else 1)\n"
    )
    opened = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", code], env=environment(data_dir))
    assert opened.returncode == 0


def test_a_limit_of_the_system_is_one_line(data_dir, tiny_config, tmp_path):
    line = 'ulimit -n 12; "$@"'
    command = [sys.executable, "-m", "metalearn_cli", "train", tiny_config, *FEW]
    result = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        cwd=tmp_path, env=environment(data_dir), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    if result.returncode:
        require_one_line(Outcome(result.returncode, result.stdout, result.stderr), "")
