"""The option lists are a contract: new knobs go into the experiment file, not here."""

import pytest
import typer

from metalearn_cli.cli import app

FROZEN = {
    "prepare": "--source --data-dir --features --set --list --verify --force --json --quiet --verbose",
    "train": "--set --run-dir --resume --max-time --dry-run --figures --device --json --quiet --verbose",
    "eval": "--checkpoint --set --split --episodes --until-ci --min-accuracy --report --figures "
    "--device --json --quiet --verbose",
    "finetune": "--checkpoint --config --support --query --coverage --set --output --csv --report --figures "
    "--device --json --quiet --verbose",
    "info": "--json --schema",
}


@pytest.mark.parametrize("command", FROZEN)
def test_the_options_of_a_command_are_frozen(command):
    parameters = typer.main.get_command(app).commands[command].params
    long = {name for parameter in parameters for name in parameter.opts if name.startswith("--")}
    assert long - {"--help"} == set(FROZEN[command].split())


def test_the_commands_are_frozen():
    assert set(typer.main.get_command(app).commands) == set(FROZEN)
