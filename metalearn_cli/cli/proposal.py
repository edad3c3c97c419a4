"""The training that `prepare` proposes: a shipped experiment with tasks that are small enough for the dataset."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_PHOTOS, _FEATURES = "photos/5way5shot", "photos"
_LEAST = 2
"""The fewest classes of a part, and pictures of a class (a support picture and a query), for a task."""
_LEAST_POOLED_SIDE = 16  # pixels; the four poolings of conv4 halve a side four times


class Room(NamedTuple):
    """The size of a dataset: the number of pictures of each class, by part, and the shape [H, W, C] of a picture."""

    parts: Mapping[str, Mapping[str, int]]
    image_shape: Sequence[int]

    @property
    def ways(self) -> int:
        """The number of classes of the smallest part."""
        return min(map(len, self.parts.values()))

    @property
    def pictures(self) -> int:
        """The number of pictures of the smallest class of all parts."""
        return min(count for part in self.parts.values() for count in part.values())


def missing(room: Room) -> list[str]:
    """Sentences on what the dataset lacks for a training; empty if it lacks nothing."""
    found = [
        f"part {part} has {len(classes)} class, a task needs {_LEAST} or more: add classes or divide them otherwise"
        for part, classes in room.parts.items()
        if len(classes) < _LEAST
    ]
    small = [name for classes in room.parts.values() for name, count in classes.items() if count < _LEAST]
    if small:
        others = f" and {len(small) - 1} more" if len(small) > 1 else ""
        found.append(
            f"class {small[0]!r}{others}: 1 picture, and a task needs {_LEAST} or more, one to learn from and one to "
            "answer: add pictures, or take the class away"
        )
    return found


def training(dataset: str, settings: Sequence[str], room: Room, data_dir: Path | None) -> str:
    """The command that trains on the dataset, which was prepared with `settings`, each `dataset.KEY=VALUE`."""
    from metalearn_cli.experiment import shipped

    if any(one.startswith("dataset.features") for one in settings):
        return _command(_FEATURES, [*_named(dataset, settings), *_dataset(dataset, settings)], room, data_dir)
    own = (f"{dataset}/5way1shot-short", f"{dataset}/5way1shot", "quickstart" if dataset == "glyphs" else _PHOTOS)
    config = next(name for name in own if name in shipped())
    sets = [*(_photos(dataset, settings, room) if config == _PHOTOS else ()), *settings]
    return _command(config, sets, room, data_dir)


def _command(config: str, sets: Sequence[str], room: Room, data_dir: Path | None) -> str:
    from metalearn_cli.experiment import shipped, yaml_lines

    sets = [*sets, *_fitted(yaml_lines.read(shipped()[config]).values, room)]
    there = f"METALEARN_DATA={shlex.quote(str(data_dir))} " if data_dir is not None else ""
    return there + shlex.join(["metalearn", "train", config, *(word for one in sets for word in ("--set", one))])


def _photos(dataset: str, settings: Sequence[str], room: Room) -> list[str]:
    """The overrides that turn the experiment for photos into one for this dataset, with a run folder of its own."""
    grey = room.image_shape[-1] == 1
    sets = _named(dataset, settings)
    if dataset != "folder":
        sets.append(f"dataset={{name: {dataset}, augmentation: [{'crop' if grey else 'crop, flip, jitter'}]}}")
    elif grey:
        sets.append("dataset.augmentation=[crop]")  # no flip: a mirrored sign or letter is another one
    if min(room.image_shape[:2]) < _LEAST_POOLED_SIDE:
        sets.append("backbone.pool=false")
    return sets


def _named(dataset: str, settings: Sequence[str]) -> list[str]:
    title = next((one.partition("=")[2] for one in settings if one.startswith("dataset.title=")), "")
    return [f"name={title}"] if title[:1].isalnum() else [f"name={dataset}"]


def _dataset(dataset: str, settings: Sequence[str]) -> list[str]:
    """The overrides that turn the experiment for features into one for this dataset."""
    own = {"dataset.features.name=efficientnet_lite"} if dataset == "folder" else set()
    return [*([] if dataset == "folder" else [f"dataset.name={dataset}"]), *(one for one in settings if one not in own)]


def _fitted(values: Mapping[str, Any], room: Room) -> list[str]:
    """Overrides for the sizes of tasks that must be smaller than in the experiment."""
    task, test = values["task"], values["eval"]
    # At most half of the smallest class is learned from, so that as many pictures or more are left as queries.
    shots = min(task["shots"], room.pictures // 2)
    left = room.pictures - shots
    asked = {"task.ways": task["ways"], "task.shots": task["shots"], "task.queries": task["queries"]}
    asked["eval.queries"] = test["queries"]
    fits = {"task.ways": min(task["ways"], room.ways), "task.shots": shots}
    fits |= {"task.queries": min(task["queries"], left), "eval.queries": min(test["queries"], left)}
    return [f"{key}={value}" for key, value in fits.items() if value != asked[key]]
