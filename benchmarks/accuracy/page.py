"""ACCURACY.md, written from the result files alone: no figure in it is typed by hand."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.accuracy.curves import times
from benchmarks.accuracy.results import Result, compute
from benchmarks.accuracy.rows import FOLDER, Row, Table
from benchmarks.accuracy.tables import counts, recipes, search, settings

PAGE = FOLDER / "ACCURACY.md"
HEAD = """# Accuracy

Written by `python -m benchmarks.accuracy --page` from the files in `benchmarks/results/accuracy/`; a test holds it to
them. What was measured before these files were kept, sinusoids and rounded products among it, is in
[ACCURACY_EARLIER.md](ACCURACY_EARLIER.md).

Omniglot, split `vinyals`, rotations as classes in training, conv4 of 64 channels, 1,000 test episodes, the
checkpoint chosen on validation classes, one core; sections that have something else say so. All learners of a setting
had the same number of tasks (recipes have more), with settings found for MAML or taken from each paper and not searched
further: the table compares learners at one budget, and is no record for any of them. Columns:

- **A**: as many queries as shots, transductive statistics: the protocol of the MAML paper;
- **B**: 15 queries, transductive statistics;
- **C**: 15 queries, none sees another;
- **D**: as C, on test classes of another domain: `glyphs`, drawings that no run on Omniglot has seen, and Omniglot for
  runs on `glyphs`.

± is the 95 % interval over episodes; with several seeds, the mean and the standard deviation over seeds. Core-hours are
those of one training, with its validations; where they name a processor, it is another than that of most runs, and they
do not compare. A row is *above* its published figure only if mean - 1.96 std / sqrt(seeds) is above it, which takes
three seeds, and *below* it in the same way; it *meets* a figure that lies within its own 95 % interval, over seeds if
there are three and else over episodes. Outside of that interval, a row with fewer seeds is *higher* or *lower*. An
empty cell of A to D was not measured. The learners of a table are in the order of C, and another measurement of the
same runs is below its learner.
"""


def written(table: Table, measured: Mapping[Row, Result]) -> str:
    """The whole page."""
    lines = [HEAD, "## Against the published figures", "", *counts(table, measured), ""]
    lines += [*settings(table, measured, "##"), *search(table, measured, "##")]
    lines += [*recipes(table, measured, "##")]
    lines += ["## Time to accuracy", "", *times(table, measured), ""]
    lines += ["## Compute", "", compute(measured), ""]
    return "\n".join([*lines, "## Not run", "", *_missing(table, measured), ""])


def _missing(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    missing: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in table.rows:
        if row not in measured:
            group = "search" if row.searched else f"{row.setting} recipes" if row.recipe else row.setting
            name = row.variant if row.searched else table.said(row.line, row.setting)["label"]
            missing[group][name].append(row.seed)
    for setting, names in missing.items():
        yield f"- {setting}: {'; '.join(name + _seeds(seeds) for name, seeds in names.items())}"
    if not missing:
        yield "Every row was run."


def _seeds(seeds: Sequence[int]) -> str:
    named = "seed" if len(seeds) == 1 else "seeds"
    return "" if seeds == [0] else f" ({named} {', '.join(map(str, seeds))})"
