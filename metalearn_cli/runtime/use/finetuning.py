"""Folders of pictures into support and query sets, and how well an adapted classifier does on them.

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
from metalearn_cli.storage.inputs.archives import is_archive
from metalearn_cli.storage.inputs.containers import is_container
from metalearn_cli.storage.inputs.folders import Folder, is_file
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared import brightness

_MOST_FOLDS = 200


class Labelled(NamedTuple):
    """Pictures as inputs [N, C, H, W], their files, the name of each one's class (None where unknown), what of the same
    folders was left out, and what a person should know of the rest.
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


def queries_in(paths: Sequence[Path], classes: Sequence[Any], interface: Interface) -> Labelled:
    """The pictures in folders and files; a picture in a folder named like a class is known to be of that class.

    A class whose label is a number has it for a name.
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
    """What the answers were judged on, what they were, and in how many folds pictures were left out (None: none).

    `files` are the support pictures that were judged; none where queries were.
    """

    on: str
    counted: Counted
    folds: int | None = None
    files: Sequence[str] = ()


def measured(
    steps: Sequence[Classifier], queries: Labelled | None, learner: Adaptable | None, support: Labelled | None
) -> Measured | None:
    """The classifiers of 0..K inner steps on queries of known class; without such, what leaving out tells.

    Without that either, on the support set itself; None if there is nothing to judge by.
    """
    if queries is not None and any(label is not None for label in queries.labels):
        return Measured("query", counted(steps, queries))
    if learner is None or support is None:
        return None
    left_out = leave_one_out(learner, support)
    return left_out or Measured("support", counted(steps, support), files=support.files)


def counted(steps: Sequence[Classifier], pictures: Labelled) -> Counted:
    """What the classifiers of 0..K inner steps take each labelled picture for."""
    targets = pictures.targets(steps[0].classes)
    known = targets >= 0
    answers = [classifier.places(pictures.inputs[known]) for classifier in steps]
    return Counted(np.stack(answers), targets[known].numpy())


class Fold(NamedTuple):
    """One picture of each class, to be left out together [W], and which of them were not left out before [W]."""

    left_out: Tensor
    first: Tensor


def folds(targets: Tensor) -> list[Fold]:
    """Folds of labelled pictures [N], each of which takes one picture of every class away.

    So every class keeps its share of the rest: without one picture of a single class, that class would be the
    smallest, and its pictures the least likely to be told. There are as many folds as the largest class has pictures,
    or 200, then spread evenly over it. A class that has fewer gives the same pictures again, in turn. Of a class with
    at most 200 every picture is left out at least once.
    """
    places = [torch.nonzero(targets == way).flatten() for way in range(int(targets.max()) + 1)]
    count = min(max(map(len, places)), _MOST_FOLDS)

    def fold(number: int) -> Fold:
        taken = [number % len(own) if len(own) < count else number * len(own) // count for own in places]
        left_out = torch.stack([own[place] for own, place in zip(places, taken, strict=True)])
        return Fold(left_out, torch.tensor([number < len(own) for own in places]))

    return [fold(number) for number in range(count)]


def leave_one_out(learner: Adaptable, support: Labelled) -> Measured | None:
    """What support pictures are taken for by classifiers of 0..K inner steps that were adapted without them.

    One picture of each class is left out at a time (`folds`), and each counts once, the first time it is left out.
    None if a class has a single picture, which leaves nothing of it to learn from.
    """
    classes = support.classes
    targets = support.targets(classes)
    if int(torch.bincount(targets).min()) < 2:
        return None
    answers, asked, every = [], torch.empty(0, dtype=torch.int64), folds(targets)
    for left_out, first in every:
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[left_out] = False
        steps = learner.classifiers(support.inputs[rest], targets[rest], classes)
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
