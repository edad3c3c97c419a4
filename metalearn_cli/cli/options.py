"""The options that several commands share, and the functions that read their values."""

import re
from pathlib import Path
from typing import Annotated

import typer

from metalearn_cli.errors import ConfigError
from metalearn_cli.version import own_version


def version_asked(asked: bool) -> None:
    """Print the version and end, if it was asked for."""
    if asked:
        typer.echo(own_version())
        raise typer.Exit


def config_names(incomplete: str) -> list[str]:
    """The shipped configs whose names begin with `incomplete`, for the shell's completion."""
    from metalearn_cli.experiment import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def dataset_names(incomplete: str) -> list[str]:
    """The datasets whose names begin with `incomplete`, for the shell's completion."""
    from metalearn_cli.experiment.registry import known_names

    return [name for name in known_names("datasets") if name.startswith(incomplete)]


Version = Annotated[bool, typer.Option("--version", is_eager=True, callback=version_asked, help="Print the version.")]
Config = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help="An experiment file, or the name of a shipped one.", autocompletion=config_names
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is done.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the experiment, as YAML; repeat for more."),
]
Figures = Annotated[
    Path | None,
    typer.Option("--figures", metavar="DIR", help="Write the page's figures there: SVG, PNG, PDF, numbers as CSV."),
]
OneCheckpoint = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="FILE", help="A file that metalearn wrote.")
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_in(text: str | None) -> float | None:
    """The seconds in "90s", "55m", "2h", "1h30m" or "3600".

    Raises ConfigError for another text.
    """
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"--max-time: found {text!r}, expected a duration such as 90s, 55m or 1h30m")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
