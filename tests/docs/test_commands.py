"""The page of all options is what the commands say today."""

import re

import pytest
import typer.main

from docs.generator.commands import PAGE, page
from metalearn_cli.cli import app

COMMANDS = typer.main.get_command(app).commands


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run python -m docs.generator.commands"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_row_that_says_what_it_does(name):
    section = page().split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| `", line)]
    assert len(rows) == len(COMMANDS[name].params)
    assert all(len(cells := row.strip("|").split(" | ")) == 4 and cells[3].strip() for row in rows)
