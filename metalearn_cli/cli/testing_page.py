"""The HTML page of `eval` and its figures: values of runtime/ become those that report/ shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import families, pages, promising, tables
from metalearn_cli.storage.files.delivery import deliver

if TYPE_CHECKING:
    from metalearn_cli.report.testing import MeasuredCheckpoint
    from metalearn_cli.runtime.use.measurement import Result


def write_testing_page(
    path: Path | None, checkpoints: Sequence[Path], results: "Sequence[Result]", compared: Sequence[Mapping[str, Any]],
    notes: Sequence[str], made: pages.Made,
) -> None:  # fmt: skip
    """Write a page to `path` if it is given: of one checkpoint in detail, or of several side by side.

    Write its figures into `made.figures` if that is given, with the score of every single episode as a table.
    """
    from metalearn_cli.core.meta import device_of
    from metalearn_cli.report import testing
    from metalearn_cli.report.figures import Numbers, write_figures
    from metalearn_cli.report.sections import ACCURACY, SQUARED_ERROR
    from metalearn_cli.report.web_page import as_html, charts_of

    kind = ACCURACY if results[0].accuracy else SQUARED_ERROR
    measured = [_measured(checkpoint, one) for checkpoint, one in zip(checkpoints, results, strict=True)]
    names = list(map(tables.named, checkpoints, results)) if len(results) > 1 else [""]
    settings = [(name, one.settings) for name, one in zip(names, results, strict=True)]
    device = str(device_of(results[0].subject.meta))
    if len(results) == 1:
        with tables.bar(made.quiet) as progress:
            looked, _ = pages.looked_at(results[0].subject, results[0].protocol, tables.Stages(progress))
        page = testing.testing_page(measured[0], kind, looked, pages.origin(settings, device, made))
    else:
        differences = [testing.Difference(one["difference"], one["ci95"], int(one["episodes"])) for one in compared]
        page = testing.comparison_page(measured, kind, differences, notes, pages.origin(settings, device, made))
    if path is not None:
        deliver(path, as_html(page))
    if made.figures is not None:
        scored = [(one.checkpoint, enumerate(kind.scaled(one.scores))) for one in measured]
        rows = [(checkpoint, number, score) for checkpoint, scores in scored for number, score in scores]
        numbers = Numbers("episodes", ["checkpoint", "episode", kind.label], rows)
        write_figures(made.figures, charts_of(page), [numbers])


def _measured(checkpoint: Path, one: "Result") -> "MeasuredCheckpoint":
    from metalearn_cli.report.testing import MeasuredCheckpoint

    title = tables.measurement_title(one).replace("\n", "; ")
    steps = [step._asdict() for step in one.steps]
    for step, share in zip(steps, one.explained, strict=False):
        step["explained"] = share
    lost = f", {one.lost} of them with answers that are not finite" if one.lost else ""
    extent = f"{one.episodes} {one.protocol.part} episodes{lost}"
    name, files = tables.named(checkpoint, one), [str(path) for path in one.members]
    promised = [*families.family_tables(one), *promising.promise_tables(one)]
    return MeasuredCheckpoint(
        name, title, extent, steps, one.scores.tolist(), fingerprint=one.fingerprint, members=files, promised=promised
    )
