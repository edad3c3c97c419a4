"""What the page consists of: parts, learners and seeds, read from rows.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent.parent
RESULTS = FOLDER / "results" / "tables"


class Row(NamedTuple):
    """One learner, or what it is held against, in one setting of a part with one seed: one result file."""

    part: str
    setting: str
    learner: str
    seed: int

    @property
    def name(self) -> str:
        """As it is typed after `--only`, and as its file is called: `functions-2-maml-0`."""
        return "-".join(word for word in (self.part, self.setting, self.learner, str(self.seed)) if word)

    @property
    def result(self) -> Path:
        """The file that keeps what was measured."""
        return RESULTS / f"{self.name}.json"


class Table(NamedTuple):
    """rows.yaml as it stands, and its rows in the order in which they are run."""

    source: Mapping[str, Any]
    rows: tuple[Row, ...]

    def is_rival(self, row: Row) -> bool:
        """Whether the row is no learner of this package but what learners are held against."""
        return row.learner in self.source[row.part].get("rivals", {})

    def label(self, row: Row) -> str:
        """The name of a learner, or of a rival, for people."""
        part = self.source[row.part]
        return str(part["rivals"][row.learner] if self.is_rival(row) else part["learners"][row.learner]["label"])

    def overrides(self, row: Row) -> list[str]:
        """What `--set` changes in the shipped config for a row; for a rival the settings of its tasks."""
        part = self.source[row.part]
        learner = [] if self.is_rival(row) else part["learners"][row.learner].get("set", [])
        return [*part["set"], *self._setting(row), *learner, f"name={row.name}", f"seed={row.seed}"]

    def _setting(self, row: Row) -> list[str]:
        if row.part == "functions":
            return [f"dataset.of=[{', '.join(self.source[row.part]['families'][row.setting])}]"]
        if row.part == "series":
            name, shots = row.setting.split("-")
            return [*self.dataset(name, row.seed), f"task.shots={shots}", "backbone={name: conv4_1d, channels: 32}"]
        return []

    def dataset(self, name: str, seed: int) -> list[str]:
        """The overrides of a series' dataset, for training and for `metalearn prepare table`."""
        length = self.source["series"]["sources"][name]["length"]
        fractions = ["dataset.val_fraction=0.33", "dataset.test_fraction=0.33", f"dataset.split_seed={seed}"]
        return [f"dataset.title={name}-{seed}", f"dataset.length={length}", *fractions]


def load() -> Table:
    """The page as rows.yaml describes it."""
    source = yaml.safe_load(Path(__file__).with_name("rows.yaml").read_text())
    return Table(source, tuple(_rows(source)))


def _rows(source: Mapping[str, Any]) -> Iterator[Row]:
    """Seed after seed, so that what is interrupted has one of everything."""
    for seed in sorted({seed for part in source.values() for seed in part["seeds"]}):
        for name, part in source.items():
            if seed in part["seeds"]:
                again = set(part.get("unseeded", ())) if seed != part["seeds"][0] else set()
                learners = [one for one in [*part["learners"], *part.get("rivals", ())] if one not in again]
                yield from (Row(name, setting, one, seed) for setting in _settings(part) for one in learners)


def _settings(part: Mapping[str, Any]) -> list[str]:
    if "families" in part:
        return list(part["families"])
    return [f"{name}-{shots}" for name in part.get("sources", ()) for shots in part["shots"]] or [""]
