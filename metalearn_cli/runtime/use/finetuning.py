"""Reads folders of pictures as support and query sets, and measures adapted classifiers on them.

Legend: N pictures, W classes, K inner steps.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission, Omissions, merged
from metalearn_cli.runtime.data.opening import Interface
from metalearn_cli.runtime.data.pixels import inputs_of_stored
from metalearn_cli.runtime.use.adaptation import Adaptable
from metalearn_cli.runtime.use.answer_counts import Counted
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.folds import folds, others
from metalearn_cli.storage.inputs.archives import is_archive
from metalearn_cli.storage.inputs.containers import is_container
from metalearn_cli.storage.inputs.folders import Folder, is_file
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared import brightness


class Labelled(NamedTuple):
    """Pictures from folders: network inputs [N, C, H, W] with their files and classes.

    `labels`: the class of each picture, or None if it is unknown. `left_out`: files of the same folders that were left
    out. `remarks`: lines about the others for the user.
    """

    files: list[str]
    inputs: Tensor
    labels: list[Any]
    left_out: Sequence[Omission] = ()
    remarks: Sequence[str] = ()

    @property
    def classes(self) -> list[Any]:
        """The class names, sorted."""
        return sorted({label for label in self.labels if label is not None})

    def targets(self, classes: Sequence[Any]) -> Tensor:
        """The position of each label in `classes`, [N]; -1 if it is not in them."""
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


def queries_in(paths: Sequence[Path], classes: Sequence[Any], interface: Interface) -> Labelled:
    """The pictures in folders and files. A picture in a folder with the name of a class gets that class as its label.

    If a label is a number, its folder has that number as its name.
    """
    named = {str(label): label for label in classes}
    parts = [_pictures(path, interface, classes=False) for path in paths]
    labels = [None if folder is None else named.get(folder) for part in parts for folder in part.labels]
    files = [file for part in parts for file in part.files]
    inputs, left_out = torch.cat([part.inputs for part in parts]), merged(part.left_out for part in parts)
    remarks = [remark for part in parts for remark in part.remarks]
    remarks += _alien("queries", files, inputs, interface.preprocessing)
    return Labelled(files, inputs, labels, left_out, remarks)


class Measured(NamedTuple):
    """Counted answers, and the pictures that they were counted on.

    `on`: "query", "support, leaving one of each class out", or "support". `folds`: the number of folds of leaving out,
    or None. `files`: the support pictures that were judged; empty if queries were judged.
    """

    on: str
    counted: Counted
    folds: int | None = None
    files: Sequence[str] = ()


def measured(
    steps: Sequence[Classifier], queries: Labelled | None, learner: Adaptable | None, support: Labelled | None
) -> Measured | None:
    """The answers of the classifiers after 0..K inner steps, counted on the best pictures that there are.

    These are the queries of known class; without them, support pictures that are left out one of each class at a time;
    if a class has a single picture, the support set itself. None if no picture has a known class.
    """
    if queries is not None and any(label is not None for label in queries.labels):
        return Measured("query", counted(steps, queries))
    if learner is None or support is None:
        return None
    left_out = leave_one_out(learner, support)
    return left_out or Measured("support", counted(steps, support), files=support.files)


def counted(steps: Sequence[Classifier], pictures: Labelled) -> Counted:
    """The answers of the classifiers after 0..K inner steps to each labelled picture."""
    targets = pictures.targets(steps[0].classes)
    known = targets >= 0
    answers = [classifier.places(pictures.inputs[known]) for classifier in steps]
    return Counted(np.stack(answers), targets[known].numpy())


def leave_one_out(learner: Adaptable, support: Labelled) -> Measured | None:
    """The answers to support pictures by classifiers that were adapted without these pictures.

    One picture of each class is left out at a time (`folds`). A picture counts once, the first time that it is left
    out. None if a class has a single picture, because nothing would remain to learn it from.
    """
    classes = support.classes
    targets = support.targets(classes)
    if int(torch.bincount(targets).min()) < 2:
        return None
    answers, asked, every = [], torch.empty(0, dtype=torch.int64), folds(targets)
    for left_out, first in every:
        rest = others(targets, left_out)
        steps = learner.adapted(support.inputs[rest], targets[rest], classes)
        answers.append(np.stack([classifier.places(support.inputs[left_out[first]]) for classifier in steps]))
        asked = torch.cat([asked, left_out[first]])
    answered = Counted(np.concatenate(answers, 1), targets[asked].numpy())
    files = [support.files[place] for place in asked]
    return Measured("support, leaving one of each class out", answered, len(every), files)


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
    """Remarks on pictures that are far brighter or darker than the training pictures."""
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
    """Yield (file, name of its folder or None, bytes) for each picture; other files are added to `omissions`."""
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
