"""The check of a dataset."""

import json
import re
from itertools import combinations
from typing import Any

import numpy as np

from metalearn_cli.datasets import PARTS, Archive, Generated, Mixture, Preprocessing, TaskSource
from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.testing.files import Named, checked_settings, module_at

_LOOKED_AT = 3  # classes; to draw thousands would take minutes


def check_dataset(module: Named, **settings: Any) -> None:
    """Raise AssertionError with the reason if a module is not a dataset as this package needs it.

    A dataset that draws pictures must give the same pictures of a class in every call and in any order, in the size of
    its preprocessing, and splits without a class in two parts. Tasks of numbers must depend only on their generator.
    For a dataset of files only the description is checked; `metalearn prepare` checks the files.

    >>> check_dataset("metalearn_cli.datasets.sinusoid")  # nothing is printed: it is one
    """
    own = module_at(module)
    dataset = own.build(checked_settings(own, settings))
    assert isinstance(dataset, Archive | Generated | Tabular | TaskSource | Mixture), (
        f"build gives a {type(dataset).__name__}, expected an Archive, Generated, Tabular, TaskSource or Mixture"
    )
    if isinstance(dataset, Archive | Generated):
        _require_storable(dataset)
    if isinstance(dataset, Generated):
        _require_drawn_pictures(dataset)
    if isinstance(dataset, TaskSource):
        _require_drawn_tasks(dataset)


def _require_storable(dataset: Archive | Generated) -> None:
    assert re.fullmatch(r"[\w.-]+", dataset.store), f"store is {dataset.store!r}, expected the name of a folder"
    again = json.loads(json.dumps(dict(dataset.settings)))
    assert again == dict(dataset.settings), f"settings are {dataset.settings}, expected values that JSON keeps"
    seen: Preprocessing = dataset.preprocessing
    for name, values in (("mean", seen.mean), ("std", seen.std)):
        assert len(values) in (1, seen.channels), (
            f"preprocessing.{name} has {len(values)} values, expected one a channel"
        )


def _require_drawn_pictures(dataset: Generated) -> None:
    names = list(dataset.classes)
    assert len(set(names)) == len(names), "two classes have the same name"
    seen, some = dataset.preprocessing, range(min(_LOOKED_AT, len(names)))
    first = [dataset.draw(index) for index in some]
    for index in reversed(some):  # another order than above, in which a generator shared by the classes would fail
        pictures, shape = first[index], (seen.height, seen.width, seen.channels)
        found = f"draw({index}) gives {pictures.dtype} {list(pictures.shape)}"
        assert pictures.dtype == np.uint8, f"{found}, expected uint8"
        assert pictures.shape[1:] == shape, f"{found}, expected [n, {', '.join(map(str, shape))}] as in preprocessing"
        assert np.array_equal(pictures, dataset.draw(index)), f"draw({index}) gives other pictures the second time"
    splits = dataset.splits(names)
    assert dataset.sampling.split in splits, f"there is no split {dataset.sampling.split!r}, only {', '.join(splits)}"
    for split, parts in splits.items():
        for part in PARTS:
            unknown = set(parts.get(part, ())) - set(names)
            assert not unknown, f"split {split!r}, part {part!r} has classes that there are not: {sorted(unknown)[:3]}"
        for one, other in combinations(PARTS, 2):
            both = set(parts.get(one, ())) & set(parts.get(other, ()))
            assert not both, f"split {split!r} has classes both in {one} and in {other}: {sorted(both)[:3]}"


def _require_drawn_tasks(dataset: TaskSource) -> None:
    one, again, other = (dataset.draw(np.random.default_rng(seed), 6) for seed in (0, 0, 1))
    shapes = ((6, *dataset.input_shape), (6, dataset.outputs))
    for name, values, shape in zip(("inputs", "targets"), one, shapes, strict=True):
        assert values.shape == shape, f"{name} have shape {list(values.shape)}, expected {list(shape)}"
        assert values.dtype == np.float32, f"{name} are {values.dtype}, expected float32"
    assert all(map(np.array_equal, one, again)), "draw gives another task for the same generator"
    assert not all(map(np.array_equal, one, other)), "draw gives the same task for every generator"
