"""docs/results.md, the page to cite: tables, figures, and what they do not say; no figure in it is typed by hand."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill

from benchmarks.accuracy.results import Result, compute, grouped, score
from benchmarks.accuracy.rows import FOLDER, Row, Table
from benchmarks.accuracy.tables import counts, recipes, search, settings
from metalearn_cli.version import own_version

SUMMARY = FOLDER.parent / "docs/results.md"
_HEAD = """# Results

What the learners of this package reached, trained for the same number of tasks on one core of a processor: {compute}
This page is written by `python -m benchmarks.accuracy --page` from one file for each run
(`benchmarks/results/accuracy/`), and a test holds it to them. [ACCURACY.md](../benchmarks/ACCURACY.md) also says when
each run first reached 95, 97 and 98 % and what was not run.

## What was measured

A run is one training and its test on classes that the training never saw. On Omniglot: the split `vinyals`, rotations
as classes in training only, four convolutions of 64 channels, {episodes:,} test episodes (the same for all runs of a
setting), and of ten validations the best checkpoint. A row that departs says so, and so do sections about
other data. Columns:

- **A**: as many queries as shots, all queries of a task seen at once by the norms (transductive): the protocol of the
  MAML paper;
- **B**: 15 queries of each class, transductive;
- **C**: 15 queries of each class, and no answer depends on another query;
- **D**: as C, on test classes of another domain: drawings that metalearn makes itself (`glyphs`) for runs on Omniglot,
  and Omniglot for runs on `glyphs`.

± is half of the 95 % interval over test episodes; with several seeds, the mean and the standard deviation over seeds.
Core-hours are those of one training with its validations, in time of the processor; where they name a processor, it is
another than that of most runs, and they do not compare. A row is *above* a published figure, or *below* it, if the 95 %
interval over its seeds (1.96 std / sqrt(seeds)) says so, for which it takes three seeds; it *meets* a figure within its
interval, which is that over episodes if there are fewer than three seeds. Otherwise a row is *higher* or *lower*. An
empty cell of A to D was not measured. The learners of a table are in the order of C, and another measurement of the
same runs is below its learner.
"""
_CITE = """## How to cite

Name the version, the column and the number of seeds with every figure, and cite the paper of the learner besides
([all papers](algorithms.md)):

> MAML, second order, Omniglot 5-way 1-shot, column A, one seed; metalearn {version}, docs/results.md.

```bibtex
@software{{metalearn,
  author = {{{{The metalearn authors}}}},
  title = {{metalearn: train, check and use MAML-family few-shot learners from the command line}},
  version = {{{version}}},
  year = {{{year}}},
  note = {{docs/results.md}}
}}
```

## Commands

The settings of every run are in `benchmarks/accuracy/rows.yaml`, and in the file of its result as one experiment. In a
checkout:

```sh
python -m benchmarks.accuracy --list              # what has no result yet
python -m benchmarks.accuracy --only maml-5w1s-0  # trains, measures, keeps the result; goes on where it was stopped
python -m benchmarks.accuracy --page              # writes this page, its figures and ACCURACY.md
```

To repeat a run whose result is there, delete its file first. `metalearn prepare omniglot` downloads Omniglot once;
photos are read from the folder that `METALEARN_TEST_DATA` names.
"""
_HOURS = """![Test accuracy against core-hours, for each learner, in columns A and C](images/accuracy.svg)

Errors are on a logarithmic scale: from 98 to 99 % is as far as from 96 to 98 %. Bars are 95 % intervals, over seeds
from three seeds on. The further to the right a learner stands, the more core-hours one of its trainings took. Hollow
points are of another processor than most runs, and compare in height alone. The package became faster while the runs
went on, and later files name the commit: of two rows of different commits the earlier one has too many core-hours."""
_CURVES = """![Validation accuracy against core-minutes of training, for each learner](images/curves.svg)

Omniglot 5-way 1-shot, one run for each learner; dashed: a recipe. The accuracies are those of validations, on 300 tasks
of validation classes with 5 queries of each class, transductive. Hollow points are of another processor, whose minutes
do not compare. Learners at one budget are not at their fastest, as their outer rates fall over all of it; the recipe,
`omniglot/5way1shot-fast`, was made to be fast. When each run first reached 95, 97 and 98 % is in
[ACCURACY.md](../benchmarks/ACCURACY.md#time-to-accuracy)."""


def summary(table: Table, measured: Mapping[Row, Result]) -> str:
    """The whole page."""
    episodes = table.source["domains"]["omniglot"]["episodes"]
    lines = [_HEAD.format(compute=compute(measured), episodes=episodes)]
    lines += ["## Accuracy", "", *settings(table, measured, "###")]
    lines += ["### Against the published figures", "", *counts(table, measured), ""]
    lines += [*search(table, measured, "##"), *recipes(table, measured, "##")]
    lines += ["## Accuracy against core-hours", "", _HOURS, "", "## Time to accuracy", "", _CURVES, ""]
    lines += ["## What can be concluded, and what cannot", "", *_conclusions(table, measured)]
    return "\n".join([*lines, _CITE.format(version=own_version(), year=_year())])


def _conclusions(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    can = [
        "how learners compare *at this budget with these settings*: within a table of a setting they had the same "
        "network, the same test episodes and as many tasks to learn from, except where a row says that it departs. A "
        "difference within the intervals is none;",
        f"how much a protocol is worth{_protocols(table, measured)} A figure of one column says nothing of another;",
        "that a row with three seeds is above or below a published figure, if it says so.",
    ]
    cannot = [
        "how another training would turn out, from a row with one seed: its interval is over test episodes alone "
        f"{_seeds(table, measured)}",
        "that a learner is better than another in general, or worse than its paper says. The budget is far below that "
        f"of the papers{_budget(table, measured)}. Settings were found for MAML or taken from papers, and not searched "
        "for each learner. A learner that learns slowly loses more by both;",
        "which learner is the fastest to an accuracy: the budget is given in tasks, and the outer rate falls over it;",
        "anything about a variant of the search from its test accuracy: variants are ordered by validation, and each "
        "has one seed and a smaller budget;",
        "that the learner of a recipe is better than another, which had neither its settings nor as many pictures;",
        "much from `glyphs` and photos as training data: one seed and a small budget.",
    ]
    for title, said in (("It can be concluded:", can), ("It cannot be concluded:", cannot)):
        yield from (title, "", *(fill(f"- {words}", 118, subsequent_indent="  ") for words in said), "")


def _budget(table: Table, measured: Mapping[Row, Result]) -> str:
    """The tasks of MAML at 5-way 1-shot, here and in its paper."""
    tasks = max((run["tasks"] for row, run in measured.items() if row[:2] == ("maml", "5w1s")), default=0)
    paper = table.source["learners"]["maml"]["published"]["tasks"]
    return f" (MAML at 5-way 1-shot: {tasks:,} tasks here, {paper:,} in its paper)" if tasks else ""


def _protocols(table: Table, measured: Mapping[Row, Result]) -> str:
    """How far column A is above column C, over lines of Omniglot that have both."""
    gaps = [
        score(runs, line, "A").mean - score(runs, line, "C").mean
        for setting in table.source["domains"]["omniglot"]["settings"]
        for line, runs in grouped(table, measured, setting).items()
        if {"A", "C"} <= set(table.columns(setting, line))
    ]
    if not gaps:
        return "."
    between = f"{min(gaps):.1f} to {max(gaps):.1f} points, by {statistics.fmean(gaps):.1f} in the mean"
    return f": A is above C by {between} of {len(gaps)} rows."


def _seeds(table: Table, measured: Mapping[Row, Result]) -> str:
    """The standard deviations over seeds of the lines that have several."""
    found = [
        score(runs, line, table.columns(setting, line)[0])
        for domain in table.source["domains"].values()
        for setting in domain["settings"]
        for line, runs in grouped(table, measured, setting).items()
        if len(runs) > 1
    ]
    deviations = [one.deviation for one in found if one.deviation is not None]
    if not deviations:
        return "(no learner has a second seed yet);"
    return (
        f"(between seeds, the {len(deviations)} rows with several have standard deviations of {min(deviations):.2f} to "
        f"{max(deviations):.2f} points in their first column);"
    )


def _year() -> str:
    """The year of the licence."""
    words = (Path(__file__).parents[2] / "LICENSE").read_text().split()
    return words[words.index("(c)") + 1]
