"""What the table consists of: settings, learners, columns and seeds, read from rows.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent.parent
RESULTS = FOLDER / "results/accuracy"


class Row(NamedTuple):
    """One learner in one setting with one training seed: one run, and one result file."""

    learner: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """As it is typed after `--only`, and as its files are called: `maml-5w1s-0`."""
        return f"{self.learner}-{self.setting}-{self.seed}"

    @property
    def result(self) -> Path:
        """The file that keeps what was measured."""
        return RESULTS / f"{self.name}.json"


class Table(NamedTuple):
    """rows.yaml as it stands; `rows` are in the order in which they are run."""

    source: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, each a way to measure."""
        return list(self.source["columns"])

    def label(self, learner: str) -> str:
        """The learner's name for people."""
        return str(self.source["learners"][learner]["label"])

    def published(self, learner: str, setting: str, column: str) -> float | None:
        """The published accuracy in percent in the same protocol, if there is one."""
        figures = self.source["learners"][learner].get("published", {})
        value = figures.get(column, {}).get(setting)
        return None if value is None else float(value)

    def experiment(self, row: Row) -> dict[str, Any]:
        """The experiment file of a row: what all rows share, then its setting's values, then its learner's."""
        source, ways = self.source, int(self.source["settings"][row.setting]["task.ways"])
        experiment: dict[str, Any] = {"name": row.name, "seed": row.seed, "dataset": {"name": "omniglot"}}
        learner = source["learners"][row.learner]["set"]
        for values in (source["shared"], source["settings"][row.setting], {"eval.ways": ways}, learner):
            for key, value in values.items():
                _put(experiment, key, value)
        experiment["eval"]["every"] = max(1, experiment["outer"]["iterations"] // source["validations"])
        return experiment

    def measure(self, row: Row, column: str) -> list[str]:
        """The overrides with which `metalearn eval` measures one column of a row."""
        shots = self.source["settings"][row.setting]["task.shots"]
        values = self.source["columns"][column].items()
        return [f"{key}={shots if value == 'K' else value}" for key, value in values]


def _put(experiment: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a mapping given for a block replaces its values one by one, `algorithm` as a whole."""
    block, _, rest = key.partition(".")
    if rest:
        experiment.setdefault(block, {})[rest] = value
    elif isinstance(value, dict) and block != "algorithm":
        experiment[block] = experiment.get(block, {}) | value
    else:
        experiment[block] = value


def load() -> Table:
    """The table as rows.yaml describes it."""
    source = yaml.safe_load(Path(__file__).with_name("rows.yaml").read_text())
    return Table(source, tuple(_rows(source)))


def _rows(source: Mapping[str, Any]) -> Iterator[Row]:
    for row in source["rows"]:
        for seed in row["seeds"]:
            yield Row(row["learner"], row["setting"], seed)
