"""Small tables that tests make, as text and as files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metalearn_cli.datasets import table
from metalearn_cli.storage.tabular.preparing import prepare_table
from metalearn_cli.storage.tabular.stored import Table, open_table


def silent(_label, _done, _total):
    pass


def written(path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    """A csv file of these columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def prepared(config: table.Config, data_dir: Path, source: Path | None, force: bool = False) -> Table:
    """The opened store of a table."""
    _, folder = prepare_table("table", table.build(config), data_dir, source, force, silent)
    return open_table(folder)


def machines(count: int = 10, rows: int = 8, seed: int = 0) -> dict[str, list[object]]:
    """A regression for each of `count` machines: force is a line of speed, with a slope of the machine's own."""
    generator = np.random.default_rng(seed)
    slopes = generator.normal(size=count).repeat(rows)
    speed, hours = generator.normal(3.0, 2.0, count * rows), generator.normal(size=count * rows)
    return {
        "machine": [f"m{number:02}" for number in range(count) for _ in range(rows)],
        "speed": speed.tolist(),
        "hours": hours.tolist(),
        "force": (100.0 + 10.0 * slopes * speed).tolist(),
    }


def kinds(count: int = 10, rows: int = 8, seed: int = 0) -> dict[str, list[object]]:
    """Rows of `count` classes, each around a place of its own."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 5, (count, 2)).repeat(rows, 0)
    places = centres + generator.normal(size=centres.shape)
    return {
        "label": [f"k{number:02}" for number in range(count) for _ in range(rows)],
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
    }


def people(count: int = 8, rows: int = 8, seed: int = 0) -> dict[str, list[object]]:
    """For each of `count` people the same two classes, told apart by a threshold of the person's own."""
    generator = np.random.default_rng(seed)
    each = 2 * rows
    threshold = generator.normal(0, 3, count).repeat(each)
    rests = np.tile([0, 1], count * rows).astype(bool)
    level = threshold + np.where(rests, -1.0, 1.0) * generator.uniform(0.3, 1.0, count * each)
    return {
        "person": [f"p{number}" for number in range(count) for _ in range(each)],
        "activity": ["rest" if one else "walk" for one in rests],
        "level": level.tolist(),
    }
