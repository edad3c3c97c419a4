"""Folders of pictures into support and query sets, and how well an adapted classifier does on them.

Legend: N pictures, W classes, K inner steps.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalearn_cli.errors import DataError
from metalearn_cli.runtime.adaptation import Adaptable
from metalearn_cli.runtime.classifier import Classifier
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.runtime.pixels import inputs_of_stored
from metalearn_cli.storage.containers import is_container
from metalearn_cli.storage.folders import Folder
from metalearn_cli.storage.pictures import PICTURE_SUFFIXES, decode
from metalearn_cli.storage.sources import open_source

_MOST_LEFT_OUT = 200
_HIDDEN = re.compile(r"(^|/)\.")


class Labelled(NamedTuple):
    """Pictures as inputs [N, C, H, W], their files, and the name of each one's class (None where unknown)."""

    files: list[str]
    inputs: Tensor
    labels: list[str | None]

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({label for label in self.labels if label is not None})

    def targets(self, classes: Sequence[str]) -> Tensor:
        """Each label's place in `classes`, [N]; -1 where it has none."""
        places = {name: place for place, name in enumerate(classes)}
        return torch.tensor([places.get(label, -1) if label is not None else -1 for label in self.labels])


def support_in(path: Path, interface: Interface) -> Labelled:
    """The pictures of a folder or zip of class folders.

    Raises DataError if there are fewer than two classes, one is in two folders, or a picture cannot be read.
    """
    found = _pictures(path, interface)
    loose = [file for file, label in zip(found.files, found.labels, strict=True) if label is None]
    if loose:
        raise DataError(f"{loose[0]}: lies outside a class folder; expected {path}/CLASS/picture.jpg")
    folders: dict[str | None, str] = {}
    for label, folder in zip(found.labels, (file.rpartition("/")[0] for file in found.files), strict=True):
        if folders.setdefault(label, folder) != folder:
            raise DataError(f"class {label!r} is in two folders, {folders[label]} and {folder}; rename one of them")
    if len(found.classes) < 2:
        raise DataError(f"{path}: has {len(found.classes)} class folder, two or more are needed (CLASS/picture.jpg)")
    return found


def queries_in(paths: Sequence[Path], classes: Sequence[str], interface: Interface) -> Labelled:
    """The pictures in folders and files; a picture in a folder named like a class is known to be of that class."""
    parts = [_pictures(path, interface) for path in paths]
    labels = [label if label in classes else None for part in parts for label in part.labels]
    return Labelled([file for part in parts for file in part.files], torch.cat([p.inputs for p in parts]), labels)


def accuracies(steps: Sequence[Classifier], queries: Labelled) -> list[float]:
    """The share of labelled queries that each classifier gets right, for 0..K inner steps."""
    targets = queries.targets(steps[0].classes).numpy()
    known = targets >= 0
    return [float((one.probabilities(queries.inputs).argmax(1)[known] == targets[known]).mean()) for one in steps]


def leave_one_out(learner: Adaptable, support: Labelled) -> list[float] | None:
    """The accuracy after 0..K inner steps on each support picture, adapted to all the others.

    Of more than 200 pictures at most 200 are left out, spread evenly. None if a class has a single picture, which
    leaves nothing of it to learn from.
    """
    classes = support.classes
    targets = support.targets(classes)
    if int(torch.bincount(targets).min()) < 2:
        return None
    hits = []
    for left_out in range(0, len(targets), math.ceil(len(targets) / _MOST_LEFT_OUT)):
        rest = torch.arange(len(targets)) != left_out
        steps = learner.classifiers(support.inputs[rest], targets[rest], classes)
        one = support.inputs[left_out : left_out + 1]
        hits.append([int(step.probabilities(one).argmax()) == int(targets[left_out]) for step in steps])
    return [float(mean) for mean in np.mean(hits, axis=0)]


def _pictures(path: Path, interface: Interface) -> Labelled:
    preprocessing = interface.preprocessing
    if preprocessing is None:
        raise DataError(f"{path}: the checkpoint was trained on numbers, not on pictures")
    files, labels, stored = [], [], []
    for file, label, content in _contents(path):
        files.append(file)
        labels.append(label)
        stored.append(decode(content, preprocessing, file))
    if not stored:
        raise DataError(f"{path}: no pictures there (png, jpg, webp, bmp)")
    return Labelled(files, inputs_of_stored(stored, preprocessing), labels)


def _contents(path: Path) -> Iterator[tuple[str, str | None, bytes]]:
    """(file, name of the folder it lies in or None, bytes) of each picture; what is hidden does not count."""
    if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
        yield str(path), None, Folder(path.parent).read(str(path))
        return
    with open_source(path, lambda member: not (is_container(member) or _HIDDEN.search(member))) as source:
        for member in source.members:
            if member.lower().endswith(PICTURE_SUFFIXES):
                folder = member.split("/")[-2] if "/" in member else None
                yield f"{path}/{member}", folder, source.content(member)
