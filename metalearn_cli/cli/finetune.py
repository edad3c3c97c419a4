"""`metalearn finetune`: adapts a learner to a few labelled pictures or rows, and answers for new ones."""

import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from metalearn_cli.cli import adapting, answer_tables, answers, classifying, pages, regressing, row_pages, tables
from metalearn_cli.cli.finetune_options import check_coverage, check_options
from metalearn_cli.cli.options import Device, Figures, Json, OneCheckpoint, Overrides, Quiet, Verbose
from metalearn_cli.cli.outputs import require_figures
from metalearn_cli.errors import ConfigError
from metalearn_cli.nouns import Noun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress

    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled, Measured


def finetune(
    checkpoint: OneCheckpoint = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", help="In place of a checkpoint: an experiment that needs no training, photos."),
    ] = None,
    support: Annotated[
        Path | None, typer.Option(help="A folder (or zip) of class folders to learn from; a table.")
    ] = None,
    query: Annotated[
        list[Path] | None, typer.Option(metavar="DIR|FILE", help="Pictures (or tables) to classify; repeat for more.")
    ] = None,
    overrides: Overrides = None,
    coverage: Annotated[
        float | None, typer.Option(help="Give sets that hold the right class so often in new tasks, such as 0.9.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the classifier: .pt, .safetensors (weights) or .pt2 (torch.export)."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all probabilities of queries.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page of the queries and what is near to them.")
    ] = None,
    figures: Figures = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Adapt a checkpoint to your own classes, or with --config photos a pretrained network, with nothing trained.

    A classifier that was adapted before needs --query alone; with --support it learns more classes, or more pictures of
    those that it has. With --output and neither --support nor --query, what the checkpoint holds is written in another
    form.
    """
    made = pages.Made(pages.command(), time.monotonic(), quiet, figures)
    check_options(checkpoint, config, support, query, (output, csv, report))
    check_coverage(coverage, query)
    require_figures(figures)
    if figures is not None and support is None and query is None:
        raise ConfigError("--figures: there is nothing to draw; give --support or --query")
    with tables.loading(quiet):
        from metalearn_cli.omissions import Omission
        from metalearn_cli.runtime.use import finetuning  # noqa: F401
    given = adapting.Given(checkpoint, config, overrides or [], device, output=output, report=report)
    if checkpoint is not None and support is None and query is None and output is not None:
        fields, noun = adapting.converted(checkpoint, output, overrides or [], device)
    else:
        with tables.bar(quiet) as progress:
            found = _adapted(given, support, query or [], coverage, progress)
        fields, noun = found.fields, found.classifier.interface.noun
        _write(found, output, csv)
        _show(found, report, figures, made)
    written = (("output", output), ("csv", csv), ("report", report), ("figures", figures))
    fields |= {name: None if path is None else str(path) for name, path in written}
    if json:
        tables.print_json(fields)
    else:
        _print(fields, noun, verbose)
    tables.left_out(map(Omission.model_validate, fields["left_out"]), fields["remarks"])
    _hint(given, support, noun.file, quiet)


class Found(NamedTuple):
    """The fields that the command prints, the classifier, its support set, and queries with probabilities [N, W].

    `regressed` is all of this for a table whose targets are numbers.
    """

    fields: dict[str, Any]
    classifier: "Classifier"
    support: "Labelled | None"
    queries: "Labelled | None"
    probabilities: "NDArray[np.float32] | None"
    regressed: "regressing.Regressed | None" = None


def _adapted(
    given: adapting.Given, support: Path | None, query: list[Path], coverage: float | None, progress: "Progress"
) -> Found:
    from metalearn_cli.omissions import as_fields, merged
    from metalearn_cli.runtime.use import classifier, finetuning, repeated_pictures

    found = adapting.steps_of(given, support, progress)
    if not found.interface.tells_classes_apart:
        return _regressed(given, found, support, query, coverage)
    steps, shown, last = found.classifiers, found.shown, found.classifiers[-1]
    for line in (*last.remarks, *found.told):
        tables.warn(line)
    queries = _queries(query, last, progress) if query else None
    if coverage is not None and last.calibration is None:
        raise ConfigError(f"--coverage: {given.name} is not calibrated: {classifier.NOT_CALIBRATED}")
    rows = None if queries is None else last.probabilities(queries.inputs)
    every = found.learned_from
    measured = finetuning.measured(steps, queries, found.learner, every)
    if measured is not None:
        _warn_of_lost(measured, [one.steps for one in steps], found.interface.noun)
    fields = {
        "checkpoint": None if given.checkpoint is None else str(given.checkpoint),
        "config": given.config,
        "classes": last.classes,
        "support": None if shown is None else dict(sorted(Counter(shown.labels).items(), key=lambda one: str(one[0]))),
        **answers.measured_fields(measured, [one.steps for one in steps], last.classes),
        "predictions": []
        if queries is None or rows is None
        else answers.prediction_fields(last, queries, rows, coverage),
        "coverage": coverage,
        "calibration": None if last.calibration is None else last.calibration.model_dump(mode="json"),
        "temperature": last.temperature,
        "left_out": as_fields(merged(one.left_out for one in (shown, queries) if one is not None)),
        "remarks": [remark for one in (shown, queries) if one is not None for remark in one.remarks]
        + repeated_pictures.remarks_on_repeats(shown, queries),
    }
    return Found(fields, last, shown, queries, rows)


def _queries(query: list[Path], last: "Classifier", progress: "Progress") -> "Labelled":
    """The pictures or rows to be classified."""
    from metalearn_cli.runtime.data.view import typical_of
    from metalearn_cli.runtime.use import finetuning, table_finetuning

    if last.interface.table is not None:
        found = table_finetuning.labelled_rows(query, last.interface, support=False)
        named: dict[str, Any] = {str(label): label for label in last.classes}
        return found._replace(labels=[named.get(label, label) for label in found.labels])
    expected = typical_of(last.support) if last.interface.view is not None else None
    return finetuning.queries_in(query, last.classes, last.interface, expected, tables.Stages(progress))


def _regressed(
    given: adapting.Given, steps: adapting.Steps, support: Path | None, query: list[Path], coverage: float | None
) -> Found:
    """As `_adapted`, for a table whose targets are numbers."""
    from metalearn_cli.report.charts import require_matplotlib
    from metalearn_cli.runtime.use.regressor import Regressor

    if coverage is not None:
        raise ConfigError(f"--coverage: {given.name} predicts values; sets are of classes")
    if given.report is not None:  # the page of classes needs none
        require_matplotlib("--report")
    adapted = next((one for one in steps.classifiers if isinstance(one, Regressor)), None)
    found = regressing.regressed(given.name, steps.learner, adapted, support, query)
    return Found(found.fields, found.classifier, None, None, None, regressed=found)


def _warn_of_lost(measured: "Measured", steps: list[int], noun: Noun) -> None:
    """Warn of examples without a finite answer, with the inner steps after which they have none."""
    lost = [(step, count) for step, count in zip(steps, measured.counted.unanswered, strict=True) if count]
    if lost:
        listed = ", ".join(f"{count} after inner step {step}" for step, count in lost[:5])
        more = f" and after {len(lost) - 5} more" if len(lost) > 5 else ""
        total = len(measured.counted.targets)
        tables.warn(
            f"accuracy on {measured.on}: of {noun.counted(total)} some have no finite answer and count as wrong: "
            f"{listed}{more}"
        )


def _write(found: Found, output: Path | None, csv: Path | None) -> None:
    from metalearn_cli.storage.files.delivery import deliver

    if output is not None:
        found.classifier.save(output)
    if csv is not None and not found.classifier.interface.tells_classes_apart:
        deliver(csv, regressing.csv_of_values(found.fields))
    elif csv is not None and found.probabilities is not None:
        deliver(csv, answers.csv_table(found.classifier.classes, found.fields["predictions"], found.probabilities))


def _show(found: Found, report: Path | None, figures: Path | None, made: pages.Made) -> None:
    """Write the page and the figures that were asked for."""
    if found.regressed is not None:
        row_pages.write_regression(found.regressed, report, figures, made)
        return
    if report is not None and found.queries is not None:
        of_rows = found.classifier.interface.table is not None
        write = row_pages.write_classified_rows_page if of_rows else classifying.write_classifying_page
        write(report, found.classifier, found.support, found.queries, found.fields, made=made)
    if figures is not None:
        classifying.write_classifying_figures(figures, found.classifier, found.fields)


def _print(fields: dict[str, Any], noun: Noun, verbose: bool) -> None:
    out = tables.console(stderr=False)
    if fields.get("targets"):
        regressing.print_regressed(fields, noun, verbose)
    elif fields["predictions"]:
        answer_tables.print_predictions(fields["predictions"], noun, verbose)
        out.print(answers.promised(fields, noun), markup=False)
    if fields["per_step"] and not fields.get("targets"):
        answer_tables.print_measured(fields, noun, verbose)
    if fields["output"]:
        kind = "regressor" if fields.get("targets") else "classifier"
        what = "initialisation" if fields["classes"] is fields.get("targets") is None else f"adapted {kind}"
        out.print(f"{what} {fields['output']}", markup=False)
    in_csv = "values" if fields.get("targets") else "probabilities"
    for name, what in (("csv", in_csv), ("report", "report"), ("figures", "figures")):
        if fields[name]:
            out.print(f"{what} {fields[name]}", markup=False)


def _hint(given: adapting.Given, support: Path | None, queries: str, quiet: bool) -> None:
    checkpoint, output = given.checkpoint, given.output
    if output is not None and output.suffix != ".pt":
        tables.hint(f"open {output} without metalearn, as docs/export.md shows", quiet)
        return
    kept = output or (None if support else checkpoint)
    source = ["--checkpoint", checkpoint] if checkpoint is not None else ["--config", given.config]
    used = ["--checkpoint", kept] if kept else [*source, "--support", support, "--output", "mine.pt"]
    tables.hint(shlex.join(["metalearn", "finetune", *map(str, used), "--query", queries]), quiet)
