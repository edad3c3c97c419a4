"""Reads folders of pictures as support and query sets, and measures adapted classifiers on them.

Legend: N pictures, W classes, K inner steps.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission, Omissions, merged
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.view import Typical
from metalearn_cli.runtime.use.adaptation import Adaptable
from metalearn_cli.runtime.use.answer_counts import Counted
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.folds import folds, others
from metalearn_cli.runtime.use.given_rows import rebased
from metalearn_cli.runtime.use.network_inputs import decoded_picture, network_inputs
from metalearn_cli.runtime.use.unlike_pictures import PictureGroup, alien_remarks
from metalearn_cli.storage.inputs.archives import is_archive
from metalearn_cli.storage.inputs.containers import is_container
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.inputs.folders import Folder, is_file
from metalearn_cli.storage.inputs.sources import open_source

_AT_ONCE = 64  # pictures; an extractor turns them into features before the next ones are decoded
_THUMBNAIL = 84  # pixels


class Labelled(NamedTuple):
    """Pictures from folders: network inputs [N, C, H, W] or [N, F] with their files and classes.

    `labels`: the class of each picture, or None if it is unknown. `left_out`: files of the same folders that were left
    out. `remarks`: lines about the others for the user. `pictures`: uint8 [H, W, C] each, for pages: the pictures that
    the network reads, or small copies of those that its extractor reads. `digests` are equal for equal pictures;
    `brightness` is the mean of each picture, from 0 to 1.
    """

    files: list[str]
    inputs: Tensor
    labels: list[Any]
    left_out: Sequence[Omission] = ()
    remarks: Sequence[str] = ()
    pictures: Sequence[NDArray[np.uint8]] = ()
    digests: Sequence[bytes] = ()
    brightness: Sequence[float] = ()

    @property
    def classes(self) -> list[Any]:
        """The class names, sorted."""
        return sorted({label for label in self.labels if label is not None})

    def targets(self, classes: Sequence[Any]) -> Tensor:
        """The position of each label in `classes`, [N]; -1 if it is not in them."""
        places = {name: place for place, name in enumerate(classes)}
        return torch.tensor([places.get(label, -1) if label is not None else -1 for label in self.labels])


def support_in(path: Path, interface: Interface, least: int = 2, progress: Progress = lambda *_moved: None) -> Labelled:
    """The pictures of a folder or zip that holds a folder for each class.

    Raises DataError if there are fewer than `least` classes, a class is in two folders, or a picture cannot be read.
    """
    found = _pictures(path, interface, classes=True, progress=progress)
    loose = [file for file, label in zip(found.files, found.labels, strict=True) if label is None]
    if loose:
        raise DataError(f"{loose[0]}: lies outside a class folder; expected {path}/CLASS/picture.jpg")
    folders: dict[str | None, str] = {}
    for label, folder in zip(found.labels, (file.rpartition("/")[0] for file in found.files), strict=True):
        if folders.setdefault(label, folder) != folder:
            raise DataError(f"class {label!r} is in two folders, {folders[label]} and {folder}; rename one of them")
    if len(found.classes) < least:
        raise DataError(f"{path}: has {len(found.classes)} class folder, two or more are needed (CLASS/picture.jpg)")
    alien = alien_remarks(PictureGroup("support pictures", found.files, found.inputs, found.brightness), interface)
    return found._replace(remarks=[*found.remarks, *alien])


def queries_in(
    paths: Sequence[Path], classes: Sequence[Any], interface: Interface, typical: Typical | None = None,
    progress: Progress = lambda *_moved: None,
) -> Labelled:  # fmt: skip
    """The pictures in folders and files. A picture in a folder with the name of a class gets that class as its label.

    If a label is a number, its folder has that number as its name. `typical` describes the features that pictures
    should have, for a remark if they are of another kind.
    """
    named = {str(label): label for label in classes}
    parts = [_pictures(path, interface, classes=False, progress=progress) for path in paths]
    labels = [None if folder is None else named.get(folder) for part in parts for folder in part.labels]
    files = [file for part in parts for file in part.files]
    inputs, left_out = torch.cat([part.inputs for part in parts]), merged(part.left_out for part in parts)
    remarks = [remark for part in parts for remark in part.remarks]
    bright = [mean for part in parts for mean in part.brightness]
    remarks += alien_remarks(PictureGroup("queries", files, inputs, bright), interface, typical)
    pictures, digests = (
        [picture for part in parts for picture in part.pictures],
        [digest for part in parts for digest in part.digests],
    )
    found = Labelled(files, inputs, labels, left_out, remarks)
    return found._replace(pictures=pictures, digests=digests, brightness=bright)


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
    own = support._replace(inputs=rebased(support.inputs, learner.interface.table, steps[-1].interface.table))
    return left_out or Measured("support", counted(steps, own), files=support.files)


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
    classes = learner.classes_of(support.classes)
    targets = support.targets(classes)
    if int(torch.bincount(targets, minlength=len(classes)).min()) < 2:
        return None
    answers, asked, every = [], torch.empty(0, dtype=torch.int64), folds(targets)
    for left_out, first in every:
        rest = others(targets, left_out)
        steps = learner.adapted(support.inputs[rest], targets[rest], classes)
        own = rebased(support.inputs[left_out[first]], learner.interface.table, steps[-1].interface.table)
        answers.append(np.stack([classifier.places(own) for classifier in steps]))
        asked = torch.cat([asked, left_out[first]])
    answered = Counted(np.concatenate(answers, 1), targets[asked].numpy())
    files = [support.files[place] for place in asked]
    return Measured("support, leaving one of each class out", answered, len(every), files)


def _pictures(path: Path, interface: Interface, classes: bool, progress: Progress) -> Labelled:
    if interface.preprocessing is None:
        raise DataError(f"{path}: the checkpoint was trained on numbers, not on pictures")
    files, labels, parts, shown = [], [], list[Tensor](), list[NDArray[np.uint8]]()
    batch, digests, bright, omissions = list[NDArray[np.uint8]](), list[bytes](), list[float](), Omissions()
    for file, label, content, total in _contents(path, omissions, classes):
        files.append(file)
        labels.append(label)
        batch.append(decoded_picture(content, interface, file))
        # Of the decoded pixels, and not of the file: a picture that was saved again without loss is the same picture.
        digests.append(hashlib.blake2b(batch[-1].tobytes(), digest_size=16).digest())
        bright.append(float(batch[-1].mean()) / 255)
        shown.append(batch[-1] if interface.view is None else _thumbnail(batch[-1]))
        if len(batch) == _AT_ONCE or len(files) == total:
            parts.append(network_inputs(batch, interface))
            batch.clear()
            progress(f"pictures of {path}", len(files), total)
    if not files:
        told = map(str, omissions.listed())
        raise DataError("; ".join([f"{path}: no pictures there (png, jpg, webp, gif, tif, bmp and others)", *told]))
    found = Labelled(files, torch.cat(parts), labels, omissions.listed(), omissions.remarks)
    return found._replace(pictures=shown, digests=digests, brightness=bright)


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small copy [h, w, C] of a picture: thousands of whole ones would fill the memory."""
    step = max(1, max(picture.shape[:2]) // _THUMBNAIL)
    return picture[::step, ::step].copy()


def _contents(path: Path, omissions: Omissions, classes: bool) -> Iterator[tuple[str, str | None, bytes, int]]:
    """(file, name of the folder it lies in or None, bytes, number of pictures in all) of each picture.

    The rest is added to `omissions`.
    """
    if is_file(path) and not is_archive(path.name):
        yield str(path), None, Folder(path.parent).read(str(path)), 1
        return
    with open_source(path, lambda member: not is_container(member), omissions=omissions) as source:
        pictures = source.pictures()
        source.close_with(pictures)
        if classes:
            source.require_filled(pictures)
        for member in pictures:
            folder = member.split("/")[-2] if "/" in member else None
            yield f"{path}/{member}", folder, source.content(member), len(pictures)
