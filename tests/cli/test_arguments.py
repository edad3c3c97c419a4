"""What a shell hands over: several values after one option, and empty ones where a variable is not set."""

from types import SimpleNamespace

import pytest
import typer

from metalearn_cli.cli import app
from metalearn_cli.cli.arguments import Command, _spelled_out
from metalearn_cli.errors import ConfigError

VALUED = dict.fromkeys(("--query", "--support", "--set"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--query a b c", "--query a --query b --query c"),
        ("--query=a b", "--query=a --query b"),
        ("--query a --support s --query b c", "--query a --support s --query b --query c"),
        ("--query a b --json --support s", "--query a --query b --json --support s"),
        ("--query a --query b", "--query a --query b"),
        ("--support s t", "--support s t"),
        ("--json a", "--json a"),
        ("--query -", "--query -"),
        ("--query a -- b", "--query a -- b"),
        ("--query --json", "--query --json"),
    ],
)
def test_words_after_a_repeatable_option_are_its_values(given, expected):
    assert list(_spelled_out(given.split(), VALUED, ["--query"])) == expected.split()


PATHS = [
    (name, option)
    for name, command in typer.main.get_command(app).commands.items()
    for parameter in command.params
    for option in parameter.opts
    if option.startswith("--") and not getattr(parameter, "is_flag", True)
]


@pytest.mark.parametrize(("command", "option"), PATHS)
@pytest.mark.parametrize("form", ["{} ''", "{}="])
def test_no_option_of_any_command_takes_an_empty_value(command, option, form):
    given = [option, ""] if "'" in form else [f"{option}="]
    found = typer.main.get_command(app).commands[command]
    with pytest.raises(ConfigError, match=f"{option}: is empty"):
        found.parse_args(SimpleNamespace(resilient_parsing=False), given)


def test_every_command_is_read_so():
    assert all(isinstance(one, Command) for one in typer.main.get_command(app).commands.values())


def test_an_empty_run_folder_writes_nothing_where_the_command_runs(cli, tiny_config, tmp_path):
    outcome = cli("train", tiny_config, "--run-dir", "")
    assert outcome.code == 2
    assert outcome.err.startswith("error: --run-dir: is empty")
    assert list(tmp_path.iterdir()) == []
    assert cli("train", "").code == 2


def test_a_shells_glob_of_queries_is_several_queries(cli, tiny_run, support, query):
    pictures = sorted((query / "one").iterdir())
    given = ("finetune", "--checkpoint", tiny_run / "checkpoints/best.pt", "--support", support)
    outcome = cli(*given, "--query", *pictures, "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.fields["predictions"]) == len(pictures)


def test_a_shells_glob_of_checkpoints_is_several_checkpoints(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", tiny_run / "checkpoints/last.pt", "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.fields["checkpoints"]) == 2


def test_the_experiment_may_still_stand_after_an_override(cli, tiny_config):
    assert cli("train", "--set", "outer.iterations=1", tiny_config, "--dry-run", "--quiet").code == 0
