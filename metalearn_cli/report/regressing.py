"""The page of `finetune` for a regression: every query with its values and their errors, and the support rows."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

from metalearn_cli.nouns import ROW, Noun
from metalearn_cli.report.charts import Chart
from metalearn_cli.report.fitting import Fitted, errors_chart, known_chart, own_fit_chart
from metalearn_cli.report.page import Html, element, number, paragraph, table
from metalearn_cli.report.row_tables import MOST_INPUTS, MOST_ROWS, hidden_inputs, learned_from
from metalearn_cli.report.sections import SQUARED_ERROR
from metalearn_cli.report.web_page import Origin, Section, WebPage


class ValuedRow(NamedTuple):
    """A row: its place (`file`), its cells, its known values (None if unknown), and a query's predicted values."""

    file: str
    cells: Sequence[str]
    known: Sequence[float | None]
    values: Sequence[float] = ()


class Regression(NamedTuple):
    """A regressor's values: `columns` are the names of the inputs, `steps` the measured errors after each inner step,
    as the command's JSON has them (`per_step`), on the rows that `measured_on` names.

    `fits` (only for a single input): the fitted function of each target. `noun`: the word for a row.
    """

    checkpoint: str
    targets: Sequence[str]
    columns: Sequence[str]
    support: Sequence[ValuedRow]
    queries: Sequence[ValuedRow]
    measured_on: str | None
    steps: Sequence[Mapping[str, Any]]
    fits: Sequence[Fitted]
    noun: Noun = ROW


def regression_page(found: Regression, came_from: Origin) -> WebPage:
    """The page of a regressor's values."""
    parts = [_errors(found), *_fits(found), _queries(found), _support(found)]
    noun = found.noun
    title = f"{', '.join(found.targets)} of {noun.counted(len(found.queries))}"
    return WebPage(title, f"predicted by {found.checkpoint}; every {noun.one} is answered by itself", parts, came_from)


def _error_charts(found: Regression) -> list[Chart]:
    by_target = {
        name: [nan if step["by_target"][name] is None else step["by_target"][name] for step in found.steps]
        for name in found.targets
    }
    return errors_chart([step["step"] for step in found.steps], by_target, _extent(found))


def _fit_charts(found: Regression) -> list[Chart]:
    if found.fits:
        return [own_fit_chart(f"fit-{place}", fit) for place, fit in enumerate(found.fits)]
    judged = [row for row in found.queries if None not in row.known]
    return [
        known_chart(
            f"known-{place}", name, [row.known[place] or 0.0 for row in judged], [row.values[place] for row in judged]
        )
        for place, name in enumerate(found.targets)
        if judged
    ]


def _extent(found: Regression) -> str:
    return f"on {found.measured_on}, {found.noun.counted(found.steps[-1]['rows'])}" if found.steps else ""


def _errors(found: Regression) -> Section:
    if not found.steps:
        told = (
            f"No query has a known value, and no {found.noun.one} could be left out, so nothing says how far off it is."
        )
        return Section("", [paragraph(told)])
    last, several = found.steps[-1], len(found.targets) > 1
    said = Html(f"Mean squared error {_squared(last['mse'])}, R2 {_share(last['explained'])}")
    note = paragraph(
        f"Measured {_extent(found)}, after {last['step']} inner steps, in the squared unit of each target. R2 is the "
        "share of the known values' variance that is explained; a guess that is always their mean has 0."
    )
    header = ["inner step", SQUARED_ERROR.name, *(found.targets if several else ()), "R2"]
    rows = [
        [
            str(step["step"]),
            _squared(step["mse"]),
            *(_squared(step["by_target"][name]) for name in found.targets if several),
            _share(step["explained"]),
        ]
        for step in found.steps
    ]
    return Section(
        "", [element("p", said, "big"), note, *_error_charts(found), table(header, rows, range(len(header)))]
    )


def _squared(value: float | None) -> Html:
    return SQUARED_ERROR.value(nan if value is None else value)


def _share(value: float | None) -> Html:
    return Html("-") if value is None else number(value, f"{value:.3f}")


def _fits(found: Regression) -> list[Section]:
    drawn = _fit_charts(found)
    title = "Fit" if found.fits else "Values and known values"
    return [Section(title, drawn)] if drawn else []


def _queries(found: Regression) -> Section:
    """The section of the queries, those with the largest absolute error first."""
    order = sorted(range(len(found.queries)), key=lambda place: -_off(found, found.queries[place]))[:MOST_ROWS]
    judged = any(value is not None for row in found.queries for value in row.known)
    cut = f" Shown are {len(order)} of {found.noun.counted(len(found.queries))}; --csv or --json has all."
    note = (
        f"{'Those that are furthest off come first.' if judged else ''}{cut if len(order) < len(found.queries) else ''}"
    )
    header = [found.noun.one, *found.columns[:MOST_INPUTS], *found.targets]
    header += [f"{word} {name}" for name in found.targets if judged for word in ("known", "off")]
    rows = [_cells(found.queries[place], judged) for place in order]
    return Section(
        "Queries", [paragraph(note + hidden_inputs(found.columns)), table(header, rows, range(1, len(header)))]
    )


def _off(found: Regression, row: ValuedRow) -> float:
    return max((abs(value - known) for value, known in zip(row.values, row.known, strict=True) if known is not None),
               default=-1.0) if found.targets else 0.0  # fmt: skip


def _cells(row: ValuedRow, judged: bool) -> list[Html | str]:
    found: list[Html | str] = [row.file, *row.cells[:MOST_INPUTS], *(number(one, f"{one:.6g}") for one in row.values)]
    for value, known in zip(row.values, row.known, strict=True):
        if judged and known is None:
            found += ["", ""]
        elif judged and known is not None:
            found += [number(known, f"{known:.6g}"), number(value - known, f"{value - known:+.4g}")]
    return found


def _support(found: Regression) -> Section:
    known = any(row.known for row in found.support[:MOST_ROWS])
    note = "" if known else f"An adapted file keeps the {found.noun.many}, not their known values."
    header = [found.noun.one, *found.columns[:MOST_INPUTS], *(found.targets if known else ())]
    rows = [[row.file, *row.cells[:MOST_INPUTS], *(f"{value:.6g}" for value in row.known if value is not None)]
            for row in found.support]  # fmt: skip
    return learned_from(found.noun, header, rows, note, range(1, len(header)))
