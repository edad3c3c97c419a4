"""The charts of a page as files, to be put into a paper or a talk, and their numbers as tables."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metalearn_cli.report.charts import Chart, Palette
from metalearn_cli.report.drawing import drawn_figure
from metalearn_cli.report.spreadsheet import as_csv
from metalearn_cli.storage.files.atomic import write_file

_ON_PAPER = Palette("#1c2128", ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e5c00"))
# Without the date, equal numbers give equal bytes.
_UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None}, "png": {"Software": None},
}  # fmt: skip


class Numbers(NamedTuple):
    """A table without a chart. `name` is the name of its csv file without the suffix."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


def write_figures(folder: Path, charts: Iterable[Chart], tables: Iterable[Numbers] = ()) -> None:
    """Write each chart into the folder as SVG, PNG and PDF, its numbers as CSV, and the other tables as CSV."""
    folder.mkdir(exist_ok=True)
    for chart in charts:
        with drawn_figure(chart, _ON_PAPER, transparent=False) as figure:
            for form, metadata in _UNDATED.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=form, metadata=metadata)
                write_file(folder / f"{chart.name}.{form}", buffer.getvalue())
        write_file(folder / f"{chart.name}.csv", as_csv(chart.header, chart.rows))
    for table in tables:
        write_file(folder / f"{table.name}.csv", as_csv(table.header, table.rows))
