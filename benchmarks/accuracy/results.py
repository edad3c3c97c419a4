"""What the result files say, as figures: means, intervals, verdicts and departures."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.accuracy.rows import RESULTS, Line, Row, Table

Result = Mapping[str, Any]
VERDICTS = ("above", "meets", "higher", "lower", "below")


class Score(NamedTuple):
    """An accuracy in percent, over training seeds.

    `half`: half of its 95 % interval: over seeds from three seeds on, over episodes with fewer.
    `deviation`: the standard deviation over seeds; None with one seed.
    """

    mean: float
    half: float
    deviation: float | None
    seeds: int

    @property
    def cell(self) -> str:
        """As it stands in a table."""
        if self.deviation is None:
            return f"{self.mean:.2f} ± {self.half:.2f}"
        return f"{self.mean:.2f}, std {self.deviation:.2f}"

    def verdict(self, figure: float) -> str:
        """Where a published figure lies: one of VERDICTS. A row is above or below it only with three seeds."""
        if abs(self.mean - figure) <= self.half:
            return "meets"
        if self.seeds >= 3:
            return "above" if self.mean > figure else "below"
        return "higher" if self.mean > figure else "lower"


def results(folder: Path = RESULTS) -> dict[Row, Result]:
    """What was measured, by row."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return {Row(one["learner"], one["setting"], one["seed"], one.get("variant", "")): one for one in found}


def grouped(
    table: Table, measured: Mapping[Row, Result], setting: str, recipes: bool = False
) -> dict[Line, list[Result]]:
    """The runs of a setting, or of its recipes, by line; a line under `also` has the runs that fill it."""
    groups: dict[Line, list[Result]] = {}
    for row, result in sorted(measured.items()):
        if row.setting == setting and not row.searched and row.recipe == recipes:
            for line in table.lines(row):
                if _measured(result, line):
                    groups.setdefault(line, []).append(result)
    return groups


def score(runs: Sequence[Result], line: Line, column: str) -> Score:
    """The accuracy of runs that differ in their seed alone."""
    found = [_measured(run, line)[column] for run in runs]
    each = [100 * one["accuracy"] for one in found]
    deviation = statistics.stdev(each) if len(each) > 1 else None
    half = 100 * statistics.fmean(one["ci95"] for one in found)
    if deviation is not None and len(each) >= 3:
        half = 1.96 * deviation / len(each) ** 0.5
    return Score(statistics.fmean(each), half, deviation, len(each))


def verdicts(table: Table, measured: Mapping[Row, Result]) -> Iterator[tuple[str, str]]:
    """Setting and verdict, for each line and column that has a published figure in the same protocol; no recipes."""
    for domain in table.source["domains"].values():
        for setting in domain["settings"]:
            for line, runs in grouped(table, measured, setting).items():
                for column in table.columns(setting, line):
                    figure = table.published(line, setting, column)
                    if figure is not None:
                        yield setting, score(runs, line, column).verdict(figure)


class Hours(NamedTuple):
    """The core-hours of one training, in the mean of the runs whose core-hours can be compared.

    `elsewhere`: the processors of the runs where there is no such run; empty otherwise.
    """

    each: float
    elsewhere: str

    @property
    def cell(self) -> str:
        """As it stands in a table."""
        return f"{self.each:.2f}" + (f" ({self.elsewhere})" if self.elsewhere else "")


def core_hours(table: Table, runs: Sequence[Result]) -> Hours:
    """What one of these runs took, without its measurements."""
    compared = [run for run in runs if not elsewhere(table, run)]
    hours = [run["core_seconds"] / 3600 for run in compared or runs]
    return Hours(statistics.fmean(hours), "" if compared else ", ".join(sorted({run["processor"] for run in runs})))


def elsewhere(table: Table, run: Result) -> str:
    """The processor of a run if its core-hours cannot be compared with those of most; empty otherwise."""
    return "" if run["processor"] in table.source["processors"] else str(run["processor"])


def compute(measured: Mapping[Row, Result]) -> str:
    """How many runs there are, and what they took on each processor, as a sentence."""
    spent: Counter[str] = Counter()
    for run in measured.values():
        spent[run["processor"]] += run["core_seconds"] / 3600
    said = [f"{len(measured)} runs", *(f"{hours:.1f} core-hours on {name}" for name, hours in sorted(spent.items()))]
    return "; ".join(said) + "."


def departures(table: Table, row: Row, result: Result) -> list[str]:
    """The settings with which a run was made and which rows.yaml has otherwise now, such as `outer.lr 0.003`."""
    planned, ran = flat(table.experiment(row)), flat(result["experiment"])
    return [f"{key} {ran.get(key, 'unset')}" for key in sorted(planned | ran) if planned.get(key) != ran.get(key)]


def _measured(result: Result, line: Line) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.get("also", {}).get(line.also, {}) if line.also else result["columns"]
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings with their whole keys: `{"outer": {"lr": 0.003}}` as `{"outer.lr": 0.003}`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
