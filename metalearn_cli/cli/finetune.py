"""`metalearn finetune`: a few labelled pictures into a classifier, and its answers for new ones."""

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from metalearn_cli.cli import tables
from metalearn_cli.cli.options import Device, Json, OneCheckpoint, Overrides, Quiet, Verbose
from metalearn_cli.errors import ConfigError

if TYPE_CHECKING:
    from metalearn_cli.runtime.adaptation import Classifier
    from metalearn_cli.runtime.finetuning import Labelled


def finetune(
    checkpoint: OneCheckpoint,
    support: Annotated[Path | None, typer.Option(help="A folder (or zip) of class folders to learn from.")] = None,
    query: Annotated[
        list[Path] | None, typer.Option(metavar="DIR|FILE", help="Pictures to classify; repeat for more.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE.pt", help="Write the adapted classifier here.")] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Adapt a checkpoint to your own classes.

    A classifier that was adapted before needs --query alone.
    """
    if support is None and query is None:
        raise ConfigError("--support is missing: a folder with one sub-folder of pictures per class")
    if output is not None:
        _require_writable(output)
    with tables.loading(quiet):
        from metalearn_cli.runtime import finetuning  # noqa: F401
    fields, classifier = _adapted(checkpoint, support, query or [], overrides or [], device)
    if output is not None:
        classifier.save(output)
    fields |= {"output": None if output is None else str(output)}
    if json:
        tables.print_json(fields)
    else:
        _print(fields, verbose)
    given = output or (None if support else checkpoint)
    used = [given] if given else [checkpoint, "--support", support, "--output", "mine.pt"]
    tables.hint(f"metalearn finetune --checkpoint {shlex.join(map(str, used))} --query PICTURE", quiet)


def _require_writable(output: Path) -> None:
    """Found out before the work, not after it."""
    if output.is_dir() or not output.name:
        raise ConfigError(f"--output {output}: is a folder, expected a file name such as mine.pt")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: the folder {output.parent} does not exist")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output {output}: no permission to write there")


def _adapted(
    path: Path, support: Path | None, query: list[Path], overrides: list[str], device: str
) -> "tuple[dict[str, Any], Classifier]":
    from metalearn_cli.runtime import adaptation, assembly, finetuning
    from metalearn_cli.storage import checkpoints

    file, place = checkpoints.load(path), assembly.device_named(device)
    if support is None:
        if overrides:
            raise ConfigError("--set: an adapted classifier has nothing left to set; give --support to adapt again")
        steps, shown, learner = [adaptation.classifier_in(file, place, path)], None, None
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
    fields = {
        "checkpoint": str(path),
        "classes": last.classes,
        "support": None if shown is None else dict(sorted(Counter(shown.labels).items())),
        "measured_on": measured_on,
        "per_step": [{"step": one.steps, "accuracy": score} for one, score in zip(steps, per_step or [], strict=False)],
        "predictions": [] if queries is None else _predictions(last, queries),
    }
    return fields, last


def _predictions(classifier: "Classifier", queries: "Labelled") -> list[dict[str, Any]]:
    rows = classifier.probabilities(queries.inputs)
    return [
        {
            "file": file,
            "label": classifier.classes[row.argmax()],
            "probability": float(row.max()),
            "known": label,
        }
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
        out.print(f"adapted classifier {fields['output']}", markup=False)
