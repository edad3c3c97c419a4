"""Folders of pictures into support and query sets, and how well an adapted classifier does on them.

Legend: N pictures, W classes, K inner steps.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission, Omissions, merged
from metalearn_cli.runtime.adaptation import Adaptable
from metalearn_cli.runtime.classifier import Classifier
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.runtime.pixels import inputs_of_stored
from metalearn_cli.storage import brightness
from metalearn_cli.storage.archives import is_archive
from metalearn_cli.storage.containers import is_container
from metalearn_cli.storage.folders import Folder, is_file
from metalearn_cli.storage.pictures import decode
from metalearn_cli.storage.sources import open_source

_MOST_LEFT_OUT = 200


class Labelled(NamedTuple):
    """Pictures as inputs [N, C, H, W], their files, the name of each one's class (None where unknown), what of the same
    folders was left out, and what a person should know of the rest.
    """

    files: list[str]
    inputs: Tensor
    labels: list[str | None]
    left_out: Sequence[Omission] = ()
    remarks: Sequence[str] = ()

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
    found = _pictures(path, interface, classes=True)
    loose = [file for file, label in zip(found.files, found.labels, strict=True) if label is None]
    if loose:
        raise DataError(f"{loose[0]}: lies outside a class folder; expected {path}/CLASS/picture.jpg")
    folders: dict[str | None, str] = {}
    for label, folder in zip(found.labels, (file.rpartition("/")[0] for file in found.files), strict=True):
        if folders.setdefault(label, folder) != folder:
            raise DataError(f"class {label!r} is in two folders, {folders[label]} and {folder}; rename one of them")
    if len(found.classes) < 2:
        raise DataError(f"{path}: has {len(found.classes)} class folder, two or more are needed (CLASS/picture.jpg)")
    alien = _alien("support pictures", found.files, found.inputs, interface.preprocessing)
    return found._replace(remarks=[*found.remarks, *alien])


def queries_in(paths: Sequence[Path], classes: Sequence[str], interface: Interface) -> Labelled:
    """The pictures in folders and files; a picture in a folder named like a class is known to be of that class."""
    parts = [_pictures(path, interface, classes=False) for path in paths]
    labels = [label if label in classes else None for part in parts for label in part.labels]
    files = [file for part in parts for file in part.files]
    inputs, left_out = torch.cat([part.inputs for part in parts]), merged(part.left_out for part in parts)
    remarks = [remark for part in parts for remark in part.remarks]
    remarks += _alien("queries", files, inputs, interface.preprocessing)
    return Labelled(files, inputs, labels, left_out, remarks)


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


def _pictures(path: Path, interface: Interface, classes: bool) -> Labelled:
    preprocessing = interface.preprocessing
    if preprocessing is None:
        raise DataError(f"{path}: the checkpoint was trained on numbers, not on pictures")
    files, labels, stored = [], [], []
    omissions = Omissions()
    for file, label, content in _contents(path, omissions, classes):
        files.append(file)
        labels.append(label)
        stored.append(decode(content, preprocessing, file))
    if not stored:
        told = map(str, omissions.listed())
        raise DataError("; ".join([f"{path}: no pictures there (png, jpg, webp, gif, tif, bmp and others)", *told]))
    inputs = inputs_of_stored(stored, preprocessing)
    return Labelled(files, inputs, labels, omissions.listed(), omissions.remarks)


def _alien(what: str, files: Sequence[str], inputs: Tensor, seen: Preprocessing | None) -> list[str]:
    """Remarks on the pictures that are far brighter or darker than those that were trained on."""
    if seen is None:
        return []
    pixels = inputs.mean((2, 3)) * torch.tensor(seen.std) + torch.tensor(seen.mean)
    means = pixels.mean(1).tolist()
    told = []
    for direction in (1, -1):
        odd = [number for number, mean in enumerate(means) if brightness.far(mean, seen.ink) == direction]
        if odd:
            named = f"{len(odd)} of {len(files)} {what} ({files[odd[0]]}{', ...' if len(odd) > 1 else ''})"
            told.append(brightness.remark(named, sum(means[number] for number in odd) / len(odd), seen.ink))
    return told


def _contents(path: Path, omissions: Omissions, classes: bool) -> Iterator[tuple[str, str | None, bytes]]:
    """(file, name of the folder it lies in or None, bytes) of each picture; the rest is added to `omissions`."""
    if is_file(path) and not is_archive(path.name):
        yield str(path), None, Folder(path.parent).read(str(path))
        return
    with open_source(path, lambda member: not is_container(member), omissions=omissions) as source:
        pictures = source.pictures()
        source.close_with(pictures)
        if classes:
            source.require_filled(pictures)
        for member in pictures:
            folder = member.split("/")[-2] if "/" in member else None
            yield f"{path}/{member}", folder, source.content(member)
