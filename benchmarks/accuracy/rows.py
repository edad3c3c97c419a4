"""What the table consists of: domains, settings, learners, columns and seeds, read from rows.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent.parent
RESULTS = FOLDER / "results/accuracy"
RECIPE = "recipe"
Values = Mapping[str, Any]


class Row(NamedTuple):
    """One learner in one setting with one training seed: one run, and one result file.

    `variant` names a variant of the search, or a recipe if it begins with RECIPE; it is empty for the learner as the
    table has it.
    """

    learner: str
    setting: str
    seed: int
    variant: str = ""

    @property
    def name(self) -> str:
        """As it is typed after `--only`, and as its files are called: `maml-5w1s-0`, `maml-20w1s-zero_head-0`."""
        return "-".join(word for word in (self.learner, self.setting, self.variant, str(self.seed)) if word)

    @property
    def recipe(self) -> bool:
        """Whether this is a recipe."""
        return self.variant.startswith(RECIPE)

    @property
    def searched(self) -> bool:
        """Whether this is a variant of the search."""
        return self.variant != "" and not self.recipe

    @property
    def line(self) -> "Line":
        """The line that the run fills by itself."""
        return Line(self.learner, recipe=self.variant if self.recipe else "")

    @property
    def result(self) -> Path:
        """The file that keeps what was measured."""
        return RESULTS / f"{self.name}.json"


class Line(NamedTuple):
    """One way to measure the runs of a learner or of its `recipe`: its own, or one of those under `also`."""

    learner: str
    also: str = ""
    recipe: str = ""


class Table(NamedTuple):
    """rows.yaml as it stands; `rows` are in the order in which they are run."""

    source: Values
    rows: tuple[Row, ...]

    def domain(self, setting: str) -> Values:
        """What the runs of a setting are trained on, and their columns."""
        found: Values = next(one for one in self.source["domains"].values() if setting in one["settings"])
        return found

    def setting(self, setting: str) -> Values:
        """The values of a setting."""
        values: Values = self.domain(setting)["settings"][setting]
        return values

    def said(self, line: Line, setting: str) -> Values:
        """What rows.yaml says of a line of a setting: its label, its published figures.

        A recipe has its own words and values, and for the rest those of its learner.
        """
        found: Values = self.source["learners"][line.learner]
        if line.recipe:
            found = {**found, **self.source["recipes"][setting]["learners"][line.learner][line.recipe]}
        return found["also"][line.also] if line.also else found

    def lines(self, row: Row) -> list[Line]:
        """The lines that a run fills."""
        also = self.said(row.line, row.setting).get("also", ())
        return [row.line, *(row.line._replace(also=one) for one in also)]

    def columns(self, setting: str, line: Line) -> list[str]:
        """The names of the columns in which a line of a setting is measured, each a way to measure."""
        every = list(self.domain(setting)["columns"])
        named = self.said(line, setting).get("columns", every)
        if isinstance(named, dict):
            named = named.get(setting, every)
        return [column for column in every if column in named]

    def published(self, line: Line, setting: str, column: str) -> float | None:
        """The published accuracy in percent in the same protocol, if there is one."""
        of = self.domain(setting).get("compared_as", {}).get(setting, setting)
        value = self.said(line, setting).get("published", {}).get(column, {}).get(of)
        return None if value is None else float(value)

    def experiment(self, row: Row) -> dict[str, Any]:
        """The experiment file of a row: the values of its domain, setting, learner and variant, in this order."""
        domain, setting = self.domain(row.setting), self.setting(row.setting)
        experiment: dict[str, Any] = {"name": row.name, "seed": row.seed}
        learner, own = self.source["learners"][row.learner]["set"], domain.get("learners", {}).get(row.learner, {})
        for values in (domain["set"], setting, {"eval.ways": setting["task.ways"]}, learner, own, *self._variant(row)):
            for key, value in values.items():
                _put(experiment, key, value)
        experiment["eval"]["every"] = max(1, experiment["outer"]["iterations"] // self.source["validations"])
        return experiment

    def measure(self, row: Row, column: str, line: Line) -> list[str]:
        """The overrides with which `metalearn eval` measures one column of a line of a row."""
        shots = self.setting(row.setting)["task.shots"]
        values = {"task.shots": "K"} | self.domain(row.setting)["columns"][column]
        if line.also:
            values |= self.said(line, row.setting).get("set", {})
        return [f"{key}={shots if value == 'K' else value}" for key, value in values.items()]

    def _variant(self, row: Row) -> list[Values]:
        if row.recipe:
            return [self.said(row.line, row.setting)["set"]]
        search = self.source["search"]
        return [search["set"], search["variants"][row.variant]] if row.variant else []


def _put(experiment: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a mapping given for a block replaces its values one by one, `algorithm` as a whole."""
    block, _, rest = key.partition(".")
    if rest:
        experiment.setdefault(block, {})[rest] = value
    elif isinstance(value, dict):
        experiment[block] = ({} if block == "algorithm" else experiment.get(block, {})) | value
    else:
        experiment[block] = value


def load() -> Table:
    """The table as rows.yaml describes it."""
    source = yaml.safe_load(Path(__file__).with_name("rows.yaml").read_text())
    return Table(source, tuple(dict.fromkeys(_rows(source))))


def _rows(source: Values) -> Iterator[Row]:
    search = source["search"]
    for row in source["rows"]:
        if row == "search":
            yield from (Row(search["learner"], search["setting"], 0, variant) for variant in search["variants"])
            continue
        if "recipe" in row:
            setting, learner = row["setting"], row["recipe"]
            yield from (Row(learner, setting, 0, recipe) for recipe in source["recipes"][setting]["learners"][learner])
            continue
        learners = source["learners"] if row["learner"] == "every" else [row["learner"]]
        for learner in learners:
            yield from (Row(learner, row["setting"], seed) for seed in row.get("seeds", [0]))
