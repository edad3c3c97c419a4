"""The HTML page of what `eval` measured, and its figures: what runtime found, in the words that report writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import pages, promising, tables
from metalearn_cli.storage.files.delivery import deliver

if TYPE_CHECKING:
    from metalearn_cli.report.charts import Chart
    from metalearn_cli.report.sections import ScoreKind
    from metalearn_cli.report.testing import MeasuredCheckpoint
    from metalearn_cli.runtime.use.measurement import Result


def write_testing_page(
    path: Path | None, checkpoints: Sequence[Path], results: "Sequence[Result]", compared: Sequence[Mapping[str, Any]],
    notes: Sequence[str], made: pages.Made,
) -> None:  # fmt: skip
    """`path` is the page of what was measured: of one checkpoint closely, or of several side by side.

    Its figures go where they were asked for, with the score of every single episode; both may be, or one of them.
    """
    from metalearn_cli.report import testing
    from metalearn_cli.report.sections import ACCURACY, SQUARED_ERROR, Origin

    kind = ACCURACY if results[0].accuracy else SQUARED_ERROR
    measured = [_measured(checkpoint, one) for checkpoint, one in zip(checkpoints, results, strict=True)]
    names = list(map(tables.named, checkpoints, results)) if len(results) > 1 else [""]
    settings = [(name, one.settings) for name, one in zip(names, results, strict=True)]
    device = str(next(iter(results[0].subject.meta.params.values())).device)
    if len(results) == 1:
        with tables.bar(made.quiet) as progress:
            looked, _ = pages.looked_at(results[0].subject, results[0].protocol, tables.Stages(progress))
        came_from = Origin(settings, pages.environment(device, made.seconds), made.command)
        content = testing.testing_page(measured[0], kind, looked, came_from)
        charts = testing.testing_charts(measured[0], kind, looked)
    else:
        differences = [testing.Difference(one["difference"], one["ci95"], int(one["episodes"])) for one in compared]
        came_from = Origin(settings, pages.environment(device, made.seconds), made.command)
        content = testing.comparison_page(measured, kind, differences, notes, came_from)
        charts = testing.comparison_charts(measured, kind, differences)
    if path is not None:
        deliver(path, content)
    if made.figures is not None:
        _write_figures(made.figures, charts, measured, kind)


def _write_figures(
    folder: Path, charts: "Sequence[Chart]", measured: "Sequence[MeasuredCheckpoint]", kind: "ScoreKind"
) -> None:
    from metalearn_cli.report.figures import Numbers, write_figures

    rows = [(one.checkpoint, number, score) for one in measured for number, score in enumerate(kind.scaled(one.scores))]
    write_figures(folder, charts, [Numbers("episodes", ["checkpoint", "episode", kind.label], rows)])


def _measured(checkpoint: Path, one: "Result") -> "MeasuredCheckpoint":
    from metalearn_cli.report.testing import MeasuredCheckpoint

    title = tables.title(one).replace("\n", "; ")
    steps = [step._asdict() for step in one.steps]
    for step, share in zip(steps, one.explained, strict=False):
        step["explained"] = share
    lost = f", {one.lost} of them with answers that are not finite" if one.lost else ""
    extent = f"{one.episodes} {one.protocol.part} episodes{lost}"
    name, files = tables.named(checkpoint, one), [str(path) for path in one.members]
    promised = promising.promise_tables(one)
    return MeasuredCheckpoint(
        name, title, extent, steps, one.scores.tolist(), fingerprint=one.fingerprint, members=files, promised=promised
    )
