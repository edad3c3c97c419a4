import json
import subprocess
import sys

import pytest

from metalearn_cli.errors import RunError
from metalearn_cli.storage.runs import run_folder


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path):
    with run_folder.open_run(tmp_path / "run", resume=False) as folder:
        folder.last.write_bytes(b"x")
    with (
        pytest.raises(RunError, match="holds a run already; add --resume"),
        run_folder.open_run(tmp_path / "run", resume=False),
    ):
        pass


def test_a_folder_with_nothing_but_one_of_the_best_holds_a_run_too(tmp_path):
    with run_folder.open_run(tmp_path / "run", resume=False) as folder:
        folder.kept(5).write_bytes(b"x")
    with pytest.raises(RunError, match="holds a run already"), run_folder.open_run(tmp_path / "run", resume=False):
        pass


def test_only_what_a_run_kept_itself_goes(tmp_path):
    with run_folder.open_run(tmp_path / "run", resume=False) as folder:
        own = folder.best.with_name("best-model.pt")
        for path in (own, folder.best, folder.kept(5), folder.kept(7)):
            path.write_bytes(b"x")
        folder.keep_only([7, 9])
    assert folder.all_kept == [folder.kept(7)]
    assert own.exists()
    assert folder.best.exists()


def test_a_second_writer_is_refused_and_told_who_holds_it(tmp_path):
    with run_folder.open_run(tmp_path, resume=True):
        code = (
            "import sys; from pathlib import Path; from metalearn_cli.storage.runs import run_folder\n"
            "from metalearn_cli.errors import RunError\n"
            "try:\n with run_folder.open_run(Path(sys.argv[1]), resume=True): print('in')\n"
            "except RunError as error: print(error)"
        )
        result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another process writes this run (process " in result.stdout


def test_the_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with run_folder.open_run(tmp_path, resume=True):
            pass


def test_rows_after_an_iteration_are_forgotten(tmp_path):
    folder = run_folder.RunFolder(tmp_path)
    for iteration in (10, 20, 30):
        folder.append({"iteration": iteration})
    with folder.metrics.open("a") as file:
        file.write('{"iteration": 4')
    folder.forget_after(20)
    assert [json.loads(row)["iteration"] for row in folder.metrics.read_text().splitlines()] == [10, 20]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    folder = run_folder.RunFolder(tmp_path)
    folder.append({"iteration": 1, "val": [{"loss": float("inf")}, float("nan"), 0.5]})
    assert json.loads(folder.metrics.read_text())["val"] == [{"loss": None}, None, 0.5]


def test_a_path_that_is_a_file_is_an_error_of_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"), run_folder.open_run(tmp_path / "file", resume=False):
        pass
