"""The results of `eval` for each family of functions, as fields for JSON and as a table."""

from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import tables
from metalearn_cli.cli.signs import digits

if TYPE_CHECKING:
    from metalearn_cli.report.sections import Titled
    from metalearn_cli.runtime.use.measurement import Result


def family_fields(tested: "Result") -> dict[str, Any]:
    """The field `families` for JSON, with errors as in `per_step`; {} for data without families."""
    rows = [
        {"name": one.name, "episodes": one.episodes, "per_step": tables.steps_fields(one.steps, False, one.explained)}
        for one in tested.families
    ]
    return {"families": rows} if rows else {}


def family_tables(tested: "Result") -> "list[Titled]":
    """Title, header and rows of the table of all families; [] for data without families."""
    if not tested.families:
        return []
    sign, last = tables.plus_minus(), tested.steps[-1].step
    title = f"mean squared error of each family, after {last} inner step{'' if last == 1 else 's'}"
    header = ["family", "episodes", "before", "mse", f"{sign} 95 %", "median", "R2"]
    rows = [
        [
            one.name, str(one.episodes), digits(one.steps[0].score, 4), digits(one.steps[-1].score, 4),
            digits(one.steps[-1].ci95, 2), digits(one.steps[-1].median, 4), f"{one.explained[-1]:.3f}",
        ]
        for one in tested.families
    ]  # fmt: skip
    return [(title, header, rows)]
