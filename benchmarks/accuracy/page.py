"""ACCURACY.md, written from the result files alone: no figure in it is typed by hand."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.accuracy.results import VERDICTS, Result, core_hours, departures, grouped, score, verdicts
from benchmarks.accuracy.rows import FOLDER, Line, Row, Table

PAGE = FOLDER / "ACCURACY.md"
HEAD = """# Accuracy

Written by `python -m benchmarks.accuracy --page` from the files in `benchmarks/results/accuracy/`; a test holds it to
them. What was measured before these files were kept, sinusoids and rounded products among it, is in
[ACCURACY_EARLIER.md](ACCURACY_EARLIER.md).

Omniglot, split `vinyals`, rotations as classes in training, conv4 of 64 channels, 1,000 test episodes, the
checkpoint chosen on validation classes, one core; sections that have something else say so. All learners of a setting
had the same number of tasks, with settings found for MAML or taken from each paper and not searched further: the table
compares learners at one budget, and is no record for any of them. Columns:

- **A**: as many queries as shots, transductive statistics: the protocol of the MAML paper;
- **B**: 15 queries, transductive statistics;
- **C**: 15 queries, none sees another;
- **D**: as C, on test classes of another domain: `glyphs`, drawings that no run on Omniglot has seen, and Omniglot for
  runs on `glyphs`.

± is the 95 % interval over episodes; with several seeds, the mean and the standard deviation over seeds. Core-hours are
those of one training, with its validations. A row is *above* its published figure only if mean - 1.96 std / sqrt(seeds)
is above it, which takes three seeds, and *below* it in the same way; it *meets* a figure that lies within its own 95 %
interval, over seeds if there are three and else over episodes. Outside of that interval, a row with fewer seeds is
*higher* or *lower*.
"""


def written(table: Table, measured: Mapping[Row, Result]) -> str:
    """The whole page."""
    lines = [HEAD, "## Against the published figures", "", *_counts(table, measured), ""]
    for domain in table.source["domains"].values():
        for setting, values in domain["settings"].items():
            if groups := grouped(table, measured, setting):
                title = f"{domain['title']}, {values['task.ways']}-way {values['task.shots']}-shot"
                about = [domain["about"], ""] if "about" in domain else []
                lines += [f"## {title}", "", *about, *_rows(table, setting, groups), ""]
    lines += [*_search(table, measured), "## Compute", "", *_compute(measured), ""]
    return "\n".join([*lines, "## Not run", "", *_missing(table, measured), ""])


def _counts(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    found = Counter(verdict for *_, verdict in verdicts(table, measured))
    yield f"Rows with a figure published in the same protocol: {found.total()}. " + (
        ", ".join(f"{_SAID[verdict]}: {found[verdict]}" for verdict in VERDICTS) + "."
    )


_SAID = {
    "above": "above it",
    "meets": "meets it",
    "higher": "higher, with fewer than three seeds",
    "lower": "lower, with fewer than three seeds",
    "below": "below it",
}


def _rows(table: Table, setting: str, groups: Mapping[Line, Sequence[Result]]) -> Iterator[str]:
    columns = list(table.domain(setting)["columns"])
    # The column that every line of the setting has decides the order.
    shared = next(column for column in columns if all(column in table.columns(setting, line) for line in groups))
    yield f"| learner | {', % | '.join(columns)}, % | published | seeds | tasks | core-hours |"
    yield "|---" * (len(columns) + 5) + "|"
    for line in sorted(groups, key=lambda line: -score(groups[line], line, shared).mean):
        runs, own = groups[line], table.columns(setting, line)
        cells = [score(runs, line, column).cell if column in own else "" for column in columns]
        hours = "the same runs" if line.also else f"{core_hours(runs) / len(runs):.2f}"
        cells += [_published(table, line, setting, runs), str(len(runs)), f"{runs[0]['tasks']:,}", hours]
        yield f"| {_label(table, line, setting, runs)} | {' | '.join(cells)} |"


def _label(table: Table, line: Line, setting: str, runs: Sequence[Result]) -> str:
    label, said = table.said(line)["label"], table.said(Line(line.learner)).get("departs")
    ran = {one for run in runs for one in departures(table, Row(line.learner, setting, run["seed"]), run)}
    notes = [said] * bool(said) + [f"run with {', '.join(sorted(ran))}"] * bool(ran)
    return f"{label} ({'; '.join(notes)})" if notes else label


def _published(table: Table, line: Line, setting: str, runs: Sequence[Result]) -> str:
    said = []
    for column in table.columns(setting, line):
        figure = table.published(line, setting, column)
        if figure is not None:
            said.append(f"{column} {figure:g}: {score(runs, line, column).verdict(figure)}")
    source = table.said(line).get("published", {}).get("source", "")
    return f"{', '.join(said)} ({source})" if said else ""


def _search(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    search = table.source["search"]
    line, setting = Line(search["learner"]), search["setting"]
    found = {row: result for row, result in measured.items() if row.variant}
    if not found:
        return
    values, first = table.setting(setting), next(iter(search["variants"]))
    base = table.experiment(Row(line.learner, setting, 0, first))
    algorithm, outer = base["algorithm"], base["outer"]
    figure = f"A {table.published(line, setting, 'A'):g}, {table.said(line)['published']['source']}"
    yield f"## Search: {table.said(line)['label']}, {values['task.ways']}-way {values['task.shots']}-shot"
    yield ""
    yield f"Published: {figure}. Each variant changes something in this base: inner rate"
    yield f"{algorithm['inner_lr']:g}, inner steps {algorithm['inner_steps']}, queries of each class in training"
    yield f"{base['task']['queries']}, outer rate {outer['lr']:g} ({outer['schedule']}), {outer['iterations']:,}"
    yield f"meta-batches of {outer['meta_batch_size']} tasks, transductive statistics in training. The order is that of"
    yield "the best validation and not of the test, so that no"
    yield "variant is chosen by test classes. One seed each."
    yield ""
    yield "| variant | changes | best validation, % | A, % | C, % | tasks | core-hours |"
    yield "|---|---|---|---|---|---|---|"
    for row, result in sorted(found.items(), key=lambda item: -_best(item[1])):
        changes = ", ".join(f"{key} {value}" for key, value in search["variants"].get(row.variant, {}).items())
        ran = departures(table, row, result) if row.variant in search["variants"] else []
        changes += f" (run with {', '.join(ran)})" if ran else ""
        cells = [score([result], line, column).cell for column in "AC"]
        hours = f"{result['tasks']:,} | {core_hours([result]):.2f}"
        yield f"| {row.variant} | {changes or 'nothing'} | {100 * _best(result):.2f} | {' | '.join(cells)} | {hours} |"
    yield ""


def _best(result: Result) -> float:
    return max(accuracy for _, accuracy in result["curve"])


def _compute(measured: Mapping[Row, Result]) -> Iterator[str]:
    processors = sorted({result["processor"] for result in measured.values()})
    yield f"{len(measured)} runs, {core_hours(list(measured.values())):.1f} core-hours" + (
        f", on {', '.join(processors)}." if processors else "."
    )


def _missing(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    missing: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in table.rows:
        if row not in measured:
            name = row.variant or table.said(Line(row.learner))["label"]
            missing["search" if row.variant else row.setting][name].append(row.seed)
    for setting, names in missing.items():
        yield f"- {setting}: {'; '.join(name + _seeds(seeds) for name, seeds in names.items())}"
    if not missing:
        yield "Every row was run."


def _seeds(seeds: Sequence[int]) -> str:
    named = "seed" if len(seeds) == 1 else "seeds"
    return "" if seeds == [0] else f" ({named} {', '.join(map(str, seeds))})"
