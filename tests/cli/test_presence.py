"""A checkpoint that is not there is said at once, with what there is."""

import subprocess
import sys

import pytest

from tests.commands import ROOT, environment


@pytest.mark.parametrize("command", [["eval"], ["finetune", "--query", "x.png"]])
def test_torch_is_not_imported_to_say_that_a_file_is_missing(command, tmp_path):
    code = (
        "import sys\nfrom metalearn_cli.cli import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\nexcept Exception as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    line = [sys.executable, "-c", code, command[0], "--checkpoint", "nowhere/best.pt", *command[1:]]
    result = subprocess.run(line, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert result.stdout == "nowhere/best.pt: no such file; there is no folder nowhere either\nFalse\n"
    assert ROOT.exists()


def test_the_checkpoints_that_are_there_are_named(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/bets.pt")
    assert outcome.code == 2
    assert "bets.pt: no such file; in this folder there are best.pt, last.pt, previous.pt" in outcome.err


@pytest.mark.parametrize(
    ("settings", "first"),
    [(["eval.every=3"], 3), (["eval.every=400", "outer.iterations=900"], 40), (["eval.every=50"], 4)],
)
def test_a_run_without_a_best_checkpoint_says_when_there_will_be_one(cli, tiny_config, settings, first):
    given = [part for one in settings for part in ("--set", one)]
    assert cli("train", tiny_config, *given, "--run-dir", "run", "--max-time", "0s").code == 0
    outcome = cli("eval", "--checkpoint", "run/checkpoints/best.pt")
    assert outcome.code == 2
    expected = f"first validation, at iteration {first}; until then there is run/checkpoints/last.pt\n"
    assert outcome.err.endswith(expected)
    assert cli("eval", "--checkpoint", "run/checkpoints/last.pt", "--episodes", "2").code == 0


def test_a_run_goes_on_by_its_folder_alone(cli, tiny_config, tiny_run, tmp_path):
    stopped = cli("train", tiny_config, "--run-dir", "a run", "--max-time", "0s")
    assert "--resume" in stopped.err
    outcome = cli("train", "--resume", "a run", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["resumed_from"] == 1
    assert outcome.fields["iterations"] == 4
    assert outcome.fields["run_dir"] == "a run"
    assert (tmp_path / "a run/config.yaml").read_text() == (tiny_run / "config.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["a run"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["run"], "run: is the folder of a run; add --resume to go on with it"),
        (["run", "--resume", "--run-dir", "other"], "--run-dir other: the run to go on with is run"),
        (["empty", "--resume"], "empty: is a folder without config.yaml"),
    ],
)
def test_a_folder_that_is_no_experiment_is_refused_by_what_it_is(cli, tmp_path, given, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("name: x\n")
    (tmp_path / "empty").mkdir()
    outcome = cli("train", *given)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {message}")
