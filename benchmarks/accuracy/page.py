"""ACCURACY.md, written from the result files alone: no figure in it is typed by hand."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rows import FOLDER, RESULTS, Row, Table

PAGE = FOLDER / "ACCURACY.md"
Result = Mapping[str, Any]
HEAD = """# Accuracy

Written by `python -m benchmarks.accuracy --page` from the files in `benchmarks/results/accuracy/`; a test holds it to
them. What was measured before these files were kept, sinusoids and rounded products among it, is in
[ACCURACY_EARLIER.md](ACCURACY_EARLIER.md).

Omniglot, split `vinyals`, rotations as classes in training, conv4 of 64 channels, {episodes:,} test episodes, the
checkpoint chosen on validation classes, one core. All learners of a setting had the same number of tasks, with settings
found for MAML or taken from each paper and not searched further: the table compares learners at one budget, and is no
record for any of them. Columns:

- **A**: as many queries as shots, transductive statistics: the protocol of the MAML paper;
- **B**: 15 queries, transductive statistics;
- **C**: 15 queries, none sees another;
- **D**: as C, on test classes of `glyphs`, drawings that no run has seen: another domain.

± is the 95 % interval over episodes; with several seeds, the mean and the standard deviation over seeds. A row is
*above* its published figure only if mean - 1.96 std / sqrt(seeds) is above it, which takes three seeds; with fewer it
is *higher* or *lower*.
"""


def results(folder: Path = RESULTS) -> dict[Row, Result]:
    """What was measured, by row."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return {Row(result["learner"], result["setting"], result["seed"]): result for result in found}


def written(table: Table, measured: Mapping[Row, Result]) -> str:
    """The whole page."""
    lines = [HEAD.format(episodes=table.source["episodes"])]
    for setting, values in table.source["settings"].items():
        groups = _by_learner(measured, setting)
        if groups:
            lines += [
                f"## {values['task.ways']}-way {values['task.shots']}-shot",
                "",
                *_rows(table, setting, groups),
                "",
            ]
    lines += ["## Compute", "", *_compute(measured), "", "## Not run", "", *_missing(table, measured), ""]
    return "\n".join(lines)


def _by_learner(measured: Mapping[Row, Result], setting: str) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for row, result in sorted(measured.items()):
        if row.setting == setting:
            groups[row.learner].append(result)
    return groups


def _rows(table: Table, setting: str, groups: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    columns = table.columns
    yield (
        "| learner | "
        + " | ".join(f"{column}, %" for column in columns)
        + " | published | seeds | tasks | core-hours |"
    )
    yield "|---" * (len(columns) + 5) + "|"
    order = sorted(groups, key=lambda name: -_mean(groups[name], columns[0]))
    for learner in order:
        runs = groups[learner]
        cells = [_cell(runs, column) for column in columns]
        hours = sum(run["core_seconds"] for run in runs) / len(runs) / 3600
        departs = table.source["learners"][learner].get("departs")
        label = table.label(learner) + (f" ({departs})" if departs else "")
        yield (
            f"| {label} | {' | '.join(cells)} | {_published(table, learner, setting, runs)} | {len(runs)} "
            f"| {runs[0]['tasks']:,} | {hours:.2f} |"
        )


def _mean(runs: Sequence[Result], column: str) -> float:
    return 100 * statistics.fmean(run["columns"][column]["accuracy"] for run in runs)


def _cell(runs: Sequence[Result], column: str) -> str:
    if len(runs) == 1:
        return f"{_mean(runs, column):.2f} ± {100 * runs[0]['columns'][column]['ci95']:.2f}"
    return f"{_mean(runs, column):.2f}, std {_deviation(runs, column):.2f}"


def _deviation(runs: Sequence[Result], column: str) -> float:
    return 100 * statistics.stdev(run["columns"][column]["accuracy"] for run in runs)


def _published(table: Table, learner: str, setting: str, runs: Sequence[Result]) -> str:
    said = []
    for column in table.columns:
        figure = table.published(learner, setting, column)
        if figure is not None:
            said.append(f"{column} {figure:g}: {_verdict(runs, column, figure)}")
    source = table.source["learners"][learner].get("published", {}).get("source", "")
    return f"{', '.join(said)} ({source})" if said else ""


def _verdict(runs: Sequence[Result], column: str, figure: float) -> str:
    mean = _mean(runs, column)
    if len(runs) >= 3 and mean - 1.96 * _deviation(runs, column) / len(runs) ** 0.5 > figure:
        return "above"
    return "higher" if mean > figure else "lower"


def _compute(measured: Mapping[Row, Result]) -> Iterator[str]:
    hours = sum(result["core_seconds"] for result in measured.values()) / 3600
    processors = sorted({result["processor"] for result in measured.values()})
    yield f"{len(measured)} runs, {hours:.1f} core-hours" + (f", on {', '.join(processors)}." if processors else ".")


def _missing(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    missing: dict[str, list[str]] = defaultdict(list)
    for row in table.rows:
        if row not in measured:
            missing[row.setting].append(f"{table.label(row.learner)} (seed {row.seed})")
    for setting, names in missing.items():
        yield f"- {setting}: {', '.join(names)}"
    planned = {(row.learner, row.setting) for row in table.rows}
    never = [name for name in table.source["learners"] if not any(learner == name for learner, _ in planned)]
    if never:
        yield f"- not planned yet: {', '.join(table.label(name) for name in never)}"
