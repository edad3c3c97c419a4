"""`metalearn finetune`: a few labelled pictures into a classifier, and its answers for new ones."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from metalearn_cli.cli import pages, tables
from metalearn_cli.cli.options import Device, Json, OneCheckpoint, Overrides, Quiet, Verbose
from metalearn_cli.cli.outputs import require_page, require_writable
from metalearn_cli.errors import ConfigError
from metalearn_cli.omissions import Omission, as_fields, merged
from metalearn_cli.storage.forms import require_form

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from metalearn_cli.runtime.classifier import Classifier
    from metalearn_cli.runtime.finetuning import Labelled


def finetune(
    checkpoint: OneCheckpoint,
    support: Annotated[Path | None, typer.Option(help="A folder (or zip) of class folders to learn from.")] = None,
    query: Annotated[
        list[Path] | None, typer.Option(metavar="DIR|FILE", help="Pictures to classify; repeat for more.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the classifier: .pt, .safetensors (weights) or .pt2 (torch.export)."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all probabilities of queries.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page of the queries and what is near to them.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Adapt a checkpoint to your own classes.

    A classifier that was adapted before needs --query alone. With --output and neither --support nor --query, what the
    checkpoint holds is written in another form.
    """
    _check(checkpoint, support, query, output, csv, report)
    with tables.loading(quiet):
        from metalearn_cli.runtime import finetuning  # noqa: F401
    if support is None and query is None and output is not None:
        fields = _converted(checkpoint, output, overrides or [], device)
    else:
        answers = _adapted(checkpoint, support, query or [], overrides or [], device)
        fields = answers.fields
        _write(answers, output, csv)
        if report is not None and answers.queries is not None:
            pages.write_classifying_page(report, answers.classifier, answers.support, answers.queries, fields)
    written = (("output", output), ("csv", csv), ("report", report))
    fields |= {name: None if path is None else str(path) for name, path in written}
    if json:
        tables.print_json(fields)
    else:
        _print(fields, verbose)
    tables.left_out(map(Omission.model_validate, fields["left_out"]), fields["remarks"])
    _hint(checkpoint, support, output, quiet)


def _check(
    checkpoint: Path, support: Path | None, query: list[Path] | None,
    output: Path | None, csv: Path | None, report: Path | None,
) -> None:  # fmt: skip
    """Raise ConfigError, before the work, for options that do not go together or files that cannot be written."""
    if support is None and query is None and output is None:
        raise ConfigError("--support is missing: a folder with one sub-folder of pictures per class")
    for option, path in (("--csv", csv), ("--report", report)):
        if path is not None and query is None:
            raise ConfigError(f"{option}: there are no queries to write; give --query")
    for option, path, example in (("--output", output, "mine.pt"), ("--csv", csv, "mine.csv")):
        if path is not None:
            require_writable(option, path, example, [checkpoint])
    if report is not None:
        require_page(report, [checkpoint], charts=False)
    if output is not None:
        require_form(output)
    files = [path.resolve() for path in (output, csv, report) if path is not None]
    if len(set(files)) < len(files):
        raise ConfigError("--output, --csv and --report: two of them name the same file; give each its own")


class Answers(NamedTuple):
    """What the command prints, the classifier and what it learned from, the queries and their probabilities [N, W]."""

    fields: dict[str, Any]
    classifier: "Classifier"
    support: "Labelled | None"
    queries: "Labelled | None"
    probabilities: "NDArray[np.float32] | None"


def _converted(path: Path, output: Path, overrides: list[str], device: str) -> dict[str, Any]:
    """What a checkpoint holds, an adapted classifier or the initialisation of a learner, in the form of `output`."""
    from metalearn_cli.runtime import assembly, classifier, export
    from metalearn_cli.storage import checkpoints

    if overrides:
        raise ConfigError("--set: has no effect without --support")
    file, classes = checkpoints.load(path), None
    if file.header.get("kind") == "adapted":
        found = classifier.classifier_in(file, assembly.device_named(device), path)
        found.save(output)
        classes = found.classes
    else:
        export.save_initialisation(file, path, output)
    return {"checkpoint": str(path), "classes": classes} | _NOTHING_ASKED


_NOTHING_ASKED: dict[str, Any] = {"support": None, "measured_on": None, "per_step": [], "predictions": [],
                                  "left_out": [], "remarks": []}  # fmt: skip


def _adapted(path: Path, support: Path | None, query: list[Path], overrides: list[str], device: str) -> Answers:
    from metalearn_cli.runtime import adaptation, assembly, classifier, finetuning, repeats
    from metalearn_cli.storage import checkpoints

    file, place = checkpoints.load(path), assembly.device_named(device)
    if support is None:
        if overrides:
            raise ConfigError("--set: an adapted classifier has nothing left to set; give --support to adapt again")
        steps, shown, learner = [classifier.classifier_in(file, place, path)], None, None
    else:
        learner = adaptation.Adaptable(file, place, path, overrides)
        shown = finetuning.support_in(support, learner.interface)
        classes = shown.classes
        steps = learner.classifiers(shown.inputs, shown.targets(classes), classes)
    last = steps[-1]
    queries = finetuning.queries_in(query, last.classes, last.interface) if query else None
    measured_on, per_step = None, None
    if queries is not None and any(label is not None for label in queries.labels):
        measured_on, per_step = "query", finetuning.accuracies(steps, queries)
    elif learner is not None and shown is not None:
        measured_on, per_step = "support, leaving one out", finetuning.leave_one_out(learner, shown)
        if per_step is None:
            measured_on, per_step = "support", finetuning.accuracies(steps, shown)
    rows = None if queries is None else last.probabilities(queries.inputs)
    fields = {
        "checkpoint": str(path),
        "classes": last.classes,
        "support": None if shown is None else dict(sorted(Counter(shown.labels).items())),
        "measured_on": measured_on,
        "per_step": [{"step": one.steps, "accuracy": score} for one, score in zip(steps, per_step or [], strict=False)],
        "predictions": [] if queries is None or rows is None else _predictions(last.classes, queries, rows),
        "left_out": as_fields(merged(given.left_out for given in (shown, queries) if given is not None)),
        "remarks": [remark for given in (shown, queries) if given is not None for remark in given.remarks]
        + repeats.remarks_on_repeats(shown, queries),
    }
    return Answers(fields, last, shown, queries, rows)


def _write(answers: Answers, output: Path | None, csv: Path | None) -> None:
    from metalearn_cli.report.spreadsheet import as_csv
    from metalearn_cli.storage.atomic import write_file

    if output is not None:
        answers.classifier.save(output)
    if csv is not None and answers.probabilities is not None:
        header = ["file", "predicted", "probability", *(f"probability of {n}" for n in answers.classifier.classes)]
        rows = zip(answers.fields["predictions"], answers.probabilities.tolist(), strict=True)
        lines = [[row["file"], row["label"], row["probability"], *each, row["known"]] for row, each in rows]
        write_file(csv, as_csv([*header, "known"], lines))


def _predictions(classes: list[Any], queries: "Labelled", rows: "NDArray[np.float32]") -> list[dict[str, Any]]:
    return [
        {"file": file, "label": classes[row.argmax()], "probability": float(row.max()), "known": label}
        for file, row, label in zip(queries.files, rows, queries.labels, strict=True)
    ]


def _print(fields: dict[str, Any], verbose: bool) -> None:
    out = tables.console(stderr=False)
    predictions = fields["predictions"]
    if predictions:
        table = Table(title="predictions", title_justify="left", title_style="bold")
        for name in ("picture", "class", "probability %"):
            table.add_column(name, justify="right" if name == "probability %" else "left", overflow="fold")
        names = {Path(row["file"]).name for row in predictions}
        for row in predictions if verbose else predictions[:50]:
            # A name says which picture it is only as long as no other folder has it too.
            file = Path(row["file"]).name if len(names) == len(predictions) else row["file"]
            table.add_row(file, row["label"], f"{100 * row['probability']:.1f}")
        out.print(table)
        if len(predictions) > 50 and not verbose:
            out.print(f"and {len(predictions) - 50} more; --verbose or --json shows all", markup=False)
    if fields["per_step"]:
        title = f"accuracy on {fields['measured_on']}, {len(fields['classes'])} classes, support statistics"
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("step", justify="right")
        table.add_column("accuracy %", justify="right")
        for row in fields["per_step"]:
            table.add_row(str(row["step"]), f"{100 * row['accuracy']:.1f}")
        out.print(table)
    if fields["output"]:
        what = "initialisation" if fields["classes"] is None else "adapted classifier"
        out.print(f"{what} {fields['output']}", markup=False)
    for name, what in (("csv", "probabilities"), ("report", "report")):
        if fields[name]:
            out.print(f"{what} {fields[name]}", markup=False)


def _hint(checkpoint: Path, support: Path | None, output: Path | None, quiet: bool) -> None:
    if output is not None and output.suffix != ".pt":
        tables.hint(f"open {output} without metalearn, as docs/export.md shows", quiet)
        return
    given = output or (None if support else checkpoint)
    used = [given] if given else [checkpoint, "--support", support, "--output", "mine.pt"]
    tables.hint(f"metalearn finetune --checkpoint {shlex.join(map(str, used))} --query PICTURE", quiet)
