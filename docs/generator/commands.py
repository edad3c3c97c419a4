"""Writes docs/commands.md from the commands themselves: every argument and option, as --help has them.

python -m docs.generator.commands
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from metalearn_cli.cli import app

_KINDS = {"int": "INTEGER", "float": "NUMBER", "str": "TEXT", "Path": "PATH"}
PAGE = Path(__file__).parent.parent / "commands.md"
_HEAD = """\
<!-- Written by `python -m docs.generator.commands`; change the commands' own help instead. -->
# All options of the commands

`metalearn COMMAND --help` prints the same. The settings of an experiment are not options: they stand in its file, and
`--set KEY=VALUE` changes one of them for one call ([every key](reference.md)). What the commands print, the files that
they write and their exit codes: [what the commands print and write](output.md).
"""


def page() -> str:
    """The whole page."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([_HEAD, *(line for name in commands for line in _command(name, commands[name]))]).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    yield f"## `{name}`\n"
    usage = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments]
    yield f"```\nmetalearn {' '.join([name, *usage])} [OPTIONS]\n```\n"
    yield f"{inspect.cleandoc(command.help)}\n"
    yield "| | value | default | what it does |\n|---|---|---|---|"
    yield from (_row(one) for one in [*arguments, *options])
    yield ""


def _row(one: Any) -> str:
    """A line of the table; pipes in it would be taken for the ends of cells."""
    option = one.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts]) if option else f"`{one.metavar}`"
    value = "" if not option or one.is_flag else f"`{one.metavar or _KINDS[one.bare_type()]}`"
    cells = [names, value, _default(one), (one.help or "").replace("|", "or")]
    return f"| {' | '.join(cells)} |"


def _default(one: Any) -> str:
    if one.required:
        return "must be given"
    return "" if one.default in (None, False, [], ()) else f"`{one.default}`"


if __name__ == "__main__":
    PAGE.write_text(page())
