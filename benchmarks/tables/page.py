"""TABLES.md, written from the result files alone: no measured figure in it is typed by hand."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.tables import preparing
from benchmarks.tables.rows import FOLDER, RESULTS, Row, Table
from metalearn_cli.core.calibration import half_width_over_groups

PAGE = FOLDER / "TABLES.md"
WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text())
Result = Mapping[str, Any]


def results(folder: Path = RESULTS) -> dict[Row, Result]:
    """What was measured, by row."""
    found = {}
    for file in sorted(folder.glob("*-*.json")):
        result = json.loads(file.read_text())
        found[Row(*(result[name] for name in Row._fields))] = result
    return found


def written(table: Table, measured: Mapping[Row, Result], prepared: Result | None = None) -> str:
    """The whole page; `prepared` is what `preparing.measure` found."""
    parts = [_oscillators(table, measured), _functions(table, measured), _series(table, measured)]
    lines = [
        WORDS["head"],
        *(line for part in parts for line in (*part, "")),
        *_preparing(prepared or preparing.found()),
    ]
    missing = [row.name for row in table.rows if row not in measured]
    lines += ["", "## Not run", "", ", ".join(f"`{name}`" for name in missing) or "Every row was run.", ""]
    return "\n".join(lines)


def _by_learner(measured: Mapping[Row, Result], part: str, setting: str = "") -> dict[str, dict[int, Result]]:
    groups: dict[str, dict[int, Result]] = defaultdict(dict)
    for row, result in measured.items():
        if (row.part, row.setting) == (part, setting):
            groups[row.learner][row.seed] = result
    return groups


def _oscillators(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    source, groups = table.source["oscillators"], _by_learner(measured, "oscillators")
    if "maml" not in groups:
        return
    first = next(iter(groups["maml"].values()))
    yield WORDS["oscillators"].format(iterations=first["iterations"], episodes=source["episodes"])
    yield "| learner | mean squared error | median | R2, median | seeds | more than MAML, 95 % interval |"
    yield "|---|---|---|---|---|---|"
    names = [name for name in (*source["learners"], *source["rivals"]) if name in groups]
    beaten, others = [], []
    for name in names:
        runs, label = groups[name], table.label(Row("oscillators", "", name, 0))
        difference, half = _more(runs, groups["maml"], first["machines"])
        shown = "" if name == "maml" else f"{difference:+.2f} ± {half:.2f}"
        yield f"| {label} | {' | '.join(_errors(runs))} | {len(runs)} | {shown} |"
        if name in source["rivals"]:
            (beaten if difference > half else others).append(label)
    yield ""
    told = [f"MAML beats by a margin whose interval excludes zero: {'; '.join(beaten) or 'none'}."]
    told += [f"Not so: {'; '.join(others)}."] if others else []
    yield " ".join(told) + " Five readings of a swing that nobody said was one tell a line, a cubic or a network that"
    yield "starts from nothing next to nothing. Who knows the formula can fit it, which was not measured."
    yield ""
    chosen = {label: runs[0]["told"] for name in source["rivals"] if (runs := groups.get(name)) and 0 in runs
              and runs[0]["told"] for label in [source["rivals"][name]]}  # fmt: skip
    yield from (f"- {label}: {told_}." for label, told_ in chosen.items())


def _errors(runs: Mapping[int, Result]) -> list[str]:
    """Mean squared error (with its deviation over seeds), median and R2, means over seeds."""
    means = [statistics.fmean(run["scores"]) for run in runs.values()]
    spread = f", std {statistics.stdev(means):.2f}" if len(means) > 1 else ""
    median = statistics.fmean(statistics.median(run["scores"]) for run in runs.values())
    shares = [run["steps"][-1]["explained"] for run in runs.values() if "steps" in run]
    share = f"{statistics.fmean(shares):.2f}" if shares else ""
    return [f"{statistics.fmean(means):.2f}{spread}", f"{median:.2f}", share]


def _more(
    runs: Mapping[int, Result], reference: Mapping[int, Result], machines: Sequence[int]
) -> tuple[float, float]:  # fmt: skip
    """The mean of the paired difference to the reference, and the half-width of its interval over machines.

    Runs of the same seeds are paired; a rival without seeds is paired with the mean of all.
    """
    common = sorted(set(runs) & set(reference)) if len(runs) > 1 else []
    own = _mean_scores([runs[seed] for seed in common] or list(runs.values()))
    other = _mean_scores([reference[seed] for seed in common] or list(reference.values()))
    apart = [one - two for one, two in zip(own, other, strict=True)]
    return clustered(apart, machines)


def clustered(apart: Sequence[float], groups: Sequence[int]) -> tuple[float, float]:
    """The mean, and 1.96 times its standard error where values of one group are not independent.

    >>> clustered([1.0, 1.0, 3.0, 3.0], [0, 0, 1, 1])
    (2.0, 1.96)
    """
    values = torch.tensor(apart, dtype=torch.float64)
    return statistics.fmean(apart), half_width_over_groups(values, torch.tensor(groups))


def _mean_scores(several: Sequence[Result]) -> list[float]:
    return [statistics.fmean(scores) for scores in zip(*(run["scores"] for run in several), strict=True)]


def _functions(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    source = table.source["functions"]
    found = {count: _by_learner(measured, "functions", count) for count in source["families"]}
    runs = [run for groups in found.values() for seeds in groups.values() for run in seeds.values()]
    if not runs:
        return
    iterations = runs[0]["iterations"]
    yield WORDS["functions"].format(
        tasks=25 * iterations, iterations=iterations, episodes=source["episodes"], share=100 * iterations / 140_000
    )
    yield "| families | learner | after 1 step | after 5 | after 10 |"
    yield "|---|---|---|---|---|"
    for count, groups in found.items():
        for name in (one for one in source["learners"] if one in groups):
            steps = {step["step"]: step for step in groups[name][0]["steps"]}
            cells = [f"{steps[at]['score']:.3f} ± {steps[at]['ci95']:.3f}" for at in (1, 5, 10)]
            yield f"| {count} | {source['learners'][name]['label']} | {' | '.join(cells)} |"
    yield from _families(source, found)


def _families(source: Result, found: Mapping[str, Mapping[str, Mapping[int, Result]]]) -> Iterator[str]:
    """A table of the errors of single families after the last inner step; nothing if no run has them."""
    rows = []
    names = source["families"]["5"]
    for count, groups in found.items():
        for learner in (one for one in source["learners"] if one in groups and "families" in groups[one][0]):
            own = groups[learner][0]["families"]
            last = [own[name]["steps"][-1] if name in own else None for name in names]
            cells = ["" if step is None else f"{step['score']:.2f} ± {step['ci95']:.2f}" for step in last]
            rows.append(f"| {count} | {source['learners'][learner]['label']} | {' | '.join(cells)} |")
    if rows:
        yield from ("", WORDS["families"])
        yield f"| families | learner | {' | '.join(names)} |"
        yield f"|---|---|{'---|' * len(names)}"
        yield from rows


def _series(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    source, rows = table.source["series"], list[str]()
    iterations = 0
    for name, about in source["sources"].items():
        for shots in source["shots"]:
            groups = _by_learner(measured, "series", f"{name}-{shots}")
            for learner in (one for one in (*source["learners"], *source["rivals"]) if one in groups):
                runs = groups[learner]
                iterations = max([iterations, *(run.get("iterations", 0) for run in runs.values())])
                label = table.label(Row("series", f"{name}-{shots}", learner, 0))
                what = f"{name}, {about['classes']} {about['kind']}, {about['channels']} x {about['length']}"
                rows.append(f"| {what} | {shots} | {label} | {_accuracy(runs)} | {len(runs)} |")
    if rows:
        yield WORDS["series"].format(iterations=iterations, episodes=source["episodes"])
        yield "| series | shots | learner | accuracy, % | splits |"
        yield "|---|---|---|---|---|"
        yield from rows
        yield ""
        yield WORDS["concluded"]


def _accuracy(runs: Mapping[int, Result]) -> str:
    means = [100 * statistics.fmean(run["scores"]) for run in runs.values()]
    if len(means) > 1:
        return f"{statistics.fmean(means):.1f} ({', '.join(f'{mean:.1f}' for mean in means)})"
    scores = next(iter(runs.values()))["scores"]
    return f"{means[0]:.1f} ± {196 * statistics.stdev(scores) / math.sqrt(len(scores)):.1f}"


def _preparing(found: Result | None) -> Iterator[str]:
    if found is None:
        return
    sizes = {name: found[f"{name}_bytes"] / 1e6 for name in ("csv", "array")}
    opened = 1000 * found["opened_seconds"]
    yield WORDS["preparing"].format(rows=found["rows"], columns=found["columns"], **sizes, opened=opened)
    yield "| what | processor seconds | rows a second of a processor | peak memory, MB |"
    yield "|---|---|---|---|"
    for name, spent in found["processes"].items():
        rate, peak = found["rows"] / spent["core_seconds"], spent["peak_bytes"] / 1e6
        yield f"| {WORDS['processes'][name]} | {spent['core_seconds']:.1f} | {rate:,.0f} | {peak:,.0f} |"
