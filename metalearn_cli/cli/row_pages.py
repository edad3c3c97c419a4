"""The HTML pages and figures of `finetune` for rows of a table: what runtime found, in the words that report writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import answers, classifying, pages
from metalearn_cli.storage.files.delivery import deliver

if TYPE_CHECKING:
    from torch import Tensor

    from metalearn_cli.cli.regressing import Regressed
    from metalearn_cli.report.classified_rows import ClassifiedRow
    from metalearn_cli.report.fitting import Fitted
    from metalearn_cli.report.regressing import Regression
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled
    from metalearn_cli.runtime.use.table_finetuning import Valued


def write_classified_rows_page(
    path: Path, classifier: "Classifier", support: "Labelled | None", queries: "Labelled", fields: Mapping[str, Any],
    made: pages.Made,
) -> None:  # fmt: skip
    """`path` is the page of the rows, each with its answer in `fields`; those that are wrong come first."""
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.report.classified_rows import ClassifiedRow, ClassifiedRows, classified_rows_page
    from metalearn_cli.report.web_page import as_html

    predictions, shown = fields["predictions"], _cells(queries.inputs, classifier)
    order = answers.wrong_first(predictions)
    rows = [
        ClassifiedRow(
            one["file"], cells, str(one["label"]), one["probability"],
            known=None if one["known"] is None else str(one["known"]), note=answers.note(one),
        )
        for one, cells in ((predictions[place], shown[place]) for place in order)
    ]  # fmt: skip
    classes = [str(name) for name in classifier.classes]
    judged = classifying.judged_of(classes, fields, classifier.interface.noun)
    known = _learned_from(classifier, support)
    noun = classifier.interface.noun
    found = ClassifiedRows(_source(fields), classes, _columns(classifier), known, rows, judged=judged, noun=noun)
    origin = pages.origin([("", to_yaml(classifier.experiment))], str(classifier.device), made)
    deliver(path, as_html(classified_rows_page(found, origin)))


def _learned_from(classifier: "Classifier", support: "Labelled | None") -> "list[ClassifiedRow]":
    """The rows that a classifier learned from, with their classes where they are known."""
    from metalearn_cli.report.classified_rows import ClassifiedRow

    count = len(classifier.support)
    known = support is not None and len(support.labels) == count
    files = support.files if support is not None and known else [str(number) for number in range(1, count + 1)]
    labels = support.labels if support is not None and known else [None] * count
    cells = _cells(classifier.support, classifier)
    return [
        ClassifiedRow(file, row, None, None, known=None if label is None else str(label))
        for file, row, label in zip(files, cells, labels, strict=True)
    ]


def write_regression(found: "Regressed", report: Path | None, figures: Path | None, made: pages.Made) -> None:
    """Write the page of the values in `found` to `report`, and its charts into `figures`, where asked for."""
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.report.figures import write_figures
    from metalearn_cli.report.regressing import regression_page
    from metalearn_cli.report.web_page import as_html, charts_of

    last = found.classifier
    origin = pages.origin([("", to_yaml(last.experiment))], str(last.device), made)
    page = regression_page(_regression(found), origin)
    if report is not None:
        deliver(report, as_html(page))
    if figures is not None:
        write_figures(figures, charts_of(page))


def _regression(found: "Regressed") -> "Regression":
    from metalearn_cli.report.regressing import Regression, ValuedRow

    last, fields = found.steps[-1], found.fields
    inputs = [] if found.queries is None else _cells(found.queries.inputs, last)
    queries = [
        ValuedRow(one["file"], cells, list(one["known"].values()), list(one["values"].values()))
        for one, cells in zip(fields["predictions"], inputs, strict=True)
    ]
    own, cells = found.support, _cells(last.support, last)
    files = [str(number) for number in range(1, len(cells) + 1)] if own is None else own.files
    known: Sequence[Sequence[float]] = [()] * len(cells) if own is None else own.values.tolist()
    support = list(map(ValuedRow, files, cells, known))
    return Regression(
        _source(fields), last.targets, _columns(last), support, queries,
        measured_on=fields["measured_on"], steps=fields["per_step"], fits=_fits(found),
        noun=last.interface.noun,
    )  # fmt: skip


def _fits(found: "Regressed") -> "list[Fitted]":
    """The fitted function of each target after some inner steps; [] unless rows have exactly one numeric input."""
    from metalearn_cli.report.fitting import Fitted
    from metalearn_cli.runtime.use.regression_examples import grid_over, told_steps

    last = found.steps[-1]
    encoding = last.interface.table
    if encoding is None or encoding.input_shape != (1,) or encoding.categorical:
        return []
    queries = found.queries
    grid = grid_over([last.support, *([] if queries is None else [queries.inputs])])
    shown = [found.steps[place] for place in told_steps(len(found.steps) - 1)]
    outputs = [one.values(grid) for one in shown]
    asked = None if queries is None else queries.inputs
    return [
        Fitted(
            _points(last.support, found.support, last, place), _points(asked, queries, last, place), _own(grid, last),
            [one.steps for one in shown], outputs=[values[:, place].tolist() for values in outputs],
            axes=(encoding.numeric[0], name),
        )
        for place, name in enumerate(last.targets)
    ]  # fmt: skip


def _points(
    inputs: "Tensor | None", valued: "Valued | None", last: "Classifier", place: int
) -> tuple[list[float], list[float]]:  # fmt: skip
    """The points (input, known value) of a target in their own units; none for rows whose value is unknown."""
    if inputs is None or valued is None:
        return [], []
    pairs = zip(_own(inputs, last), valued.values[:, place].tolist(), strict=True)
    known = [(x, y) for x, y in pairs if y == y]  # NaN stands for an unknown value
    return [x for x, _ in known], [y for _, y in known]


def _own(inputs: "Tensor", last: "Classifier") -> list[float]:
    encoding = last.interface.table
    assert encoding is not None
    return [value * encoding.std[0] + encoding.mean[0] for value in inputs.flatten().tolist()]


def _columns(classifier: "Classifier") -> list[str]:
    encoding = classifier.interface.table
    assert encoding is not None
    return [] if encoding.series is not None else [*encoding.numeric, *encoding.categorical]


def _cells(inputs: "Tensor", classifier: "Classifier") -> list[list[str]]:
    from metalearn_cli.datasets.tabular.encoding import cells

    assert classifier.interface.table is not None
    return cells(inputs.cpu().numpy(), classifier.interface.table)


def _source(fields: Mapping[str, Any]) -> str:
    return fields["checkpoint"] or f"--config {fields['config']}"
