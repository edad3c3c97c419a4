"""A regressor's values for `finetune`, as fields for JSON, as tables on a terminal, and as a csv file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from metalearn_cli.cli import tables
from metalearn_cli.cli.answers import NOTHING_MEASURED
from metalearn_cli.cli.signs import digits
from metalearn_cli.nouns import Noun

if TYPE_CHECKING:
    from metalearn_cli.runtime.use.adaptation import Adaptable
    from metalearn_cli.runtime.use.regressor import Regressor
    from metalearn_cli.runtime.use.table_finetuning import Errors, Valued

_MOST_ROWS = 50
_TITLE: Any = {"title_justify": "left", "title_style": "bold"}


class Regressed(NamedTuple):
    """The fields that the command prints, the regressors after 0..K inner steps, and the rows that were given."""

    fields: dict[str, Any]
    steps: "list[Regressor]"
    support: "Valued | None" = None
    queries: "Valued | None" = None

    @property
    def classifier(self) -> "Regressor":
        """The regressor after the last inner step, which answers."""
        return self.steps[-1]


def regressed(
    checkpoint: str, learner: "Adaptable | None", adapted: "Regressor | None", support: Path | None, query: list[Path]
) -> Regressed:
    """A regressor adapted to the rows of `support`, or the saved one (`adapted`), and its values for the queries."""
    from metalearn_cli.omissions import as_fields, merged
    from metalearn_cli.runtime.use import reopened, table_finetuning

    shown: Valued | None = None
    steps = [adapted] if adapted is not None else []
    if learner is not None and support is not None:
        shown = table_finetuning.valued_rows([support], learner.interface, support=True)
        steps = table_finetuning.regressors(learner, shown)
        reopened.require_finite(steps)
    last = steps[-1]
    queries = table_finetuning.valued_rows(query, last.interface, support=False) if query else None
    judged = table_finetuning.judged(steps, queries, learner, shown)
    for line in last.remarks:
        tables.warn(line)
    fields = {
        "checkpoint": checkpoint, "config": None, "classes": None, "targets": last.targets,
        "support": None if shown is None else {"rows": len(shown.files)},
        **_judged_fields(judged, [one.steps for one in steps], last.targets),
        "predictions": [] if queries is None else _predictions(last, queries),
        "left_out": as_fields(merged(given.left_out for given in (shown, queries) if given is not None)), "remarks": [],
        "coverage": None, "calibration": None, "temperature": None,
    }  # fmt: skip
    return Regressed(fields, steps, shown, queries)


def _judged_fields(judged: "Errors | None", steps: Sequence[int], targets: Sequence[str]) -> dict[str, Any]:
    if judged is None:
        return NOTHING_MEASURED
    from metalearn_cli.runtime.use.table_finetuning import finite_or_none

    rows = [
        {
            "step": step, "mse": finite_or_none(float(judged.mse[place].mean())),
            "explained": finite_or_none(judged.explained(place)), "rows": judged.rows,
            "by_target": dict(zip(targets, map(finite_or_none, judged.mse[place].tolist()), strict=True)),
        }
        for place, step in enumerate(steps)
    ]  # fmt: skip
    return NOTHING_MEASURED | {"measured_on": judged.on, "per_step": rows}


def _predictions(last: "Regressor", queries: "Valued") -> list[dict[str, Any]]:
    from metalearn_cli.runtime.run.divergence import adaptation_diverged
    from metalearn_cli.runtime.use.table_finetuning import finite_or_none

    found = last.values(queries.inputs)
    if found.size and not bool((abs(found) < float("inf")).all()):
        raise adaptation_diverged(last.steps, "answers")
    return [
        {
            "file": file, "values": dict(zip(last.targets, values, strict=True)),
            "known": dict(zip(last.targets, map(finite_or_none, known), strict=True)),
        }
        for file, values, known in zip(queries.files, found.tolist(), queries.values.tolist(), strict=True)
    ]  # fmt: skip


def csv_of_values(fields: Mapping[str, Any]) -> bytes:
    """A csv file with a row for each query, in order: the value of every target, and the known one."""
    from metalearn_cli.report.spreadsheet import as_csv

    targets = fields["targets"]
    header = ["file", *targets, *(f"known {name}" for name in targets)]
    rows = [
        [row["file"], *(row["values"][name] for name in targets), *(row["known"][name] for name in targets)]
        for row in fields["predictions"]
    ]
    return as_csv(header, rows)


def print_regressed(fields: Mapping[str, Any], noun: Noun, verbose: bool) -> None:
    """Print tables of the values and of their errors. `noun` names the examples."""
    out = tables.console(stderr=False)
    if rows := fields["predictions"]:
        out.print(_values_table(rows if verbose else rows[:_MOST_ROWS], fields["targets"], noun))
        if len(rows) > _MOST_ROWS and not verbose:
            out.print(f"and {len(rows) - _MOST_ROWS} more; --verbose or --json shows all", markup=False)
    if fields["per_step"]:
        judged = fields["per_step"][-1]["rows"]
        table = Table(title=f"mean squared error on {fields['measured_on']}, {noun.counted(judged)}", **_TITLE)
        for name in ("step", "mse", "R2"):
            table.add_column(name, justify="right")
        for row in tables.shown_steps(fields["per_step"], lambda row: int(row["step"])):
            explained = "-" if row["explained"] is None else f"{row['explained']:.3f}"
            table.add_row(str(row["step"]), "-" if row["mse"] is None else digits(row["mse"], 4), explained)
        out.print(table)
        if fields["measured_on"] == "support":
            out.print(f"This is the {noun.one} that it learned from, which says nothing of new ones.")


def _values_table(rows: Sequence[Mapping[str, Any]], targets: Sequence[str], noun: Noun) -> Table:
    table = Table(title="predictions", **_TITLE)
    table.add_column(noun.one, overflow="fold")
    judged = any(value is not None for row in rows for value in row["known"].values())
    for name in [*targets, *(f"known {name}" for name in targets if judged)]:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        cells = [f"{row['values'][name]:.6g}" for name in targets]
        known = [row["known"][name] for name in targets if judged]
        table.add_row(Path(row["file"]).name, *cells, *("" if one is None else f"{one:.6g}" for one in known))
    return table
