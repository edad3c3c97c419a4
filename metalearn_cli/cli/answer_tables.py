"""Tables of a classifier's answers, as `finetune` prints them on a terminal.

Legend: N pictures or rows, W classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from metalearn_cli.cli import tables
from metalearn_cli.cli.answers import Fields, is_wrong, notes, wrong_first
from metalearn_cli.nouns import Noun

_MOST_ROWS, _MOST_COLUMNS, _MOST_PAIRS = 50, 14, 20
_TITLE: Any = {"title_justify": "left", "title_style": "bold"}


def print_predictions(predictions: Sequence[Fields], noun: Noun, verbose: bool) -> None:
    """Print a table of the queries, the wrong ones first. Without `verbose` a long table is cut."""
    out = tables.console(stderr=False)
    table = Table(title="predictions", **_TITLE)
    judged = any(row["known"] is not None for row in predictions)
    with_sets = any(row["set"] is not None for row in predictions)
    for name in (noun.one, "class", "probability %", *(["set"] if with_sets else []), *(["known"] if judged else [])):
        table.add_column(name, justify="right" if name == "probability %" else "left", overflow="fold")
    names = {Path(row["file"]).name for row in predictions}
    order = wrong_first(predictions)
    for place in order if verbose else order[:_MOST_ROWS]:
        row = predictions[place]
        # The name alone is printed only if no two folders have a file of the same name.
        file = Path(row["file"]).name if len(names) == len(predictions) else row["file"]
        verdict = "" if row["known"] is None else f"wrong, is {row['known']}" if is_wrong(row) else "right"
        label = f"none of these (nearest: {row['label']})" if row["none_of_these"] else str(row["label"])
        kept = [", ".join(map(str, row["set"])) or "-"] if with_sets else []
        table.add_row(file, label, f"{100 * row['probability']:.1f}", *kept, *([verdict] if judged else []))
    out.print(table)
    if len(order) > _MOST_ROWS and not verbose:
        out.print(f"and {len(order) - _MOST_ROWS} more; --verbose or --json shows all", markup=False)


def print_measured(fields: Mapping[str, Any], noun: Noun, verbose: bool) -> None:
    """Print tables of the accuracy after each inner step, and of each class."""
    out = tables.console(stderr=False)
    title = f"accuracy on {fields['measured_on']}, {len(fields['classes'])} classes, support statistics"
    table = Table(title=title, **_TITLE)
    for name in ("step", "accuracy %", "95 %", "right", noun.many):
        table.add_column(name, justify="right")
    for row in tables.shown_steps(fields["per_step"], lambda row: int(row["step"])):
        table.add_row(str(row["step"]), *_cells(row), str(row["right"]), str(row["pictures"]))
    out.print(table)
    out.print(_classes_table(fields, noun, verbose))
    if len(fields["classes"]) <= _MOST_COLUMNS:
        out.print(_matrix(fields))
    elif any(row["right"] < row["pictures"] for row in fields["per_class"]):
        out.print(_pairs(fields, verbose))
    if wrong := [row for row in fields["support_answers"] if is_wrong(row)]:
        out.print(_wrong_table(wrong, noun, verbose))
    for sentence in notes(fields, noun):
        out.print(sentence)


def _wrong_table(wrong: Sequence[Fields], noun: Noun, verbose: bool) -> Table:
    """A table of the support examples with a wrong answer, because their class may be wrong."""
    table = Table(title=f"support {noun.many} with a wrong answer", **_TITLE)
    for name in (noun.one, "class", "known"):
        table.add_column(name, overflow="fold")
    for row in wrong if verbose else wrong[:_MOST_ROWS]:
        table.add_row(row["file"], "-" if row["label"] is None else str(row["label"]), f"wrong, is {row['known']}")
    if len(wrong) > _MOST_ROWS and not verbose:
        table.caption = f"and {len(wrong) - _MOST_ROWS} more; --verbose or --json shows all"
    return table


def _classes_table(fields: Mapping[str, Any], noun: Noun, verbose: bool) -> Table:
    """A table of the classes with their accuracy, the lowest first."""
    rows = sorted(fields["per_class"], key=lambda row: row["accuracy"] if row["pictures"] else 2)
    table = Table(title=f"by class, after step {fields['per_step'][-1]['step']}", **_TITLE)
    for name in ("class", "accuracy %", "95 %", "right", noun.many):
        table.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for row in rows if verbose else rows[:_MOST_ROWS]:
        table.add_row(str(row["class"]), *_cells(row), str(row["right"]), str(row["pictures"]))
    if len(rows) > _MOST_ROWS and not verbose:
        table.caption = f"and {len(rows) - _MOST_ROWS} more, none worse; --verbose or --json shows all"
    return table


def _matrix(fields: Mapping[str, Any]) -> Table:
    """The confusion matrix as a table: a row for each true class, a column for each answer."""
    table = Table(title="taken for class 1, 2, ...", **_TITLE)
    table.add_column("", justify="right")
    table.add_column("its class", overflow="fold")
    for number in range(len(fields["classes"])):
        table.add_column(str(number + 1), justify="right")
    for number, (name, counts) in enumerate(zip(fields["classes"], fields["confusion"], strict=True), 1):
        table.add_row(str(number), str(name), *map(str, counts))
    return table


def _pairs(fields: Mapping[str, Any], verbose: bool) -> Table:
    """A table of the confused pairs of classes, the most frequent first."""
    from metalearn_cli.runtime.use.answer_counts import confused

    pairs = confused([str(name) for name in fields["classes"]], fields["confusion"])
    table = Table(title="taken for another class", **_TITLE)
    for name in ("its class", "taken for", "times"):
        table.add_column(name, justify="right" if name == "times" else "left", overflow="fold")
    for known, taken_for, times in pairs if verbose else pairs[:_MOST_PAIRS]:
        table.add_row(known, taken_for, str(times))
    if len(pairs) > _MOST_PAIRS and not verbose:
        table.caption = f"and {len(pairs) - _MOST_PAIRS} pairs more; --verbose or --json shows all"
    return table


def _cells(share: Mapping[str, Any]) -> tuple[str, str]:
    """Accuracy and its interval in percent; two dashes if there are no examples."""
    if share["accuracy"] is None:
        return "-", "-"
    low, high = share["interval"]
    return f"{100 * share['accuracy']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"
