"""Opens the dataset of an experiment, or several datasets as a mixture."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples
from metalearn_cli.datasets import Archive, Dataset, Generated, Mixture, Part, Preprocessing, Sampling, TaskSource
from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.registry import module_of
from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
from metalearn_cli.runtime.data.featured import features_beside
from metalearn_cli.runtime.data.function_tasks import function_data
from metalearn_cli.runtime.data.interface import Data, Interface, Pictured
from metalearn_cli.runtime.data.mixing import common_preprocessing, mixture_names, mixture_sampler
from metalearn_cli.runtime.data.pixels import CPU, pixels_on
from metalearn_cli.runtime.data.sampling import (
    Names,
    Pool,
    Sampler,
    TaskSpec,
    check,
    numbered_sampler,
    picture_names,
    picture_sampler,
    pool_of,
)
from metalearn_cli.runtime.data.table_tasks import TableData, objective_of, open_rows, outputs_of, require_ways
from metalearn_cli.runtime.data.view import View, view_of
from metalearn_cli.runtime.data.whole_parts import every_picture, numbered_after, stranger_sampler
from metalearn_cli.settings import Choice
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared import brightness
from metalearn_cli.storage.prepared.dataset import Prepared
from metalearn_cli.storage.prepared.preparation import data_folder, open_or_explain


def dataset_of(settings: Choice) -> Dataset:
    """The description of the dataset, made by its own file from its settings."""
    dataset: Dataset = module_of(settings).build(settings)
    return dataset


def open_data(
    experiment: Experiment,
    data_dir: Path | None,
    progress: Progress,
    seen: Preprocessing | None = None,
    device: torch.device = CPU,
) -> Data:
    """The experiment's dataset, opened for computation on `device`; a generated dataset is made on first use.

    Without `data_dir`, the dataset is looked for in the user's data folder. If `seen` is given (only for a network that
    was trained on another dataset), pictures get that size and normalisation.

    Raises DataError, with the `metalearn prepare` command to type, if the dataset is not prepared; ConfigError if the
    experiment asks for tasks that it does not have.
    """
    name, ways = experiment.dataset.name, experiment.task.ways
    dataset = dataset_of(experiment.dataset)
    if isinstance(dataset, TaskSource):
        return function_data(name, dataset, ways)
    if isinstance(dataset, Tabular):
        return _of_table(name, open_rows(name, dataset, data_dir, progress, device), ways)
    if ways < 2:
        raise ConfigError(f"task.ways: found {ways}, expected 2 or more classes")
    if isinstance(dataset, Mixture):
        asked_features(experiment.dataset)
        return _mixed(dataset, ways, data_dir, progress, seen, device=device)
    stored = _stored(experiment.dataset, data_dir, progress)
    if asked_features(experiment.dataset) is not None:
        return _opened_features(stored, ways, progress, device)
    return _opened(stored, ways, seen, device)


def _of_table(name: str, data: TableData, ways: int) -> Data:
    encoding = data.encoding
    require_ways(encoding, ways, name)
    shape, outputs = encoding.input_shape, outputs_of(encoding, ways)
    interface = Interface(shape, outputs, objective_of(encoding), None, table=encoding)
    return Data(
        interface,
        data.table.manifest.checksum,
        data.sampler,
        data.classes,
        data.names,
        numbered=data.numbered,
        groups=data.groups if encoding.kind == "labelled" else None,
        left_out=data.left_out,
    )


class _Stored(NamedTuple):
    """A prepared dataset with its sampling settings and the preprocessing of its pictures, normalisation included."""

    settings: Choice
    folder: Path
    sampling: Sampling
    prepared: Prepared
    preprocessing: Preprocessing

    @property
    def name(self) -> str:
        """The dataset's name in the experiment."""
        return self.settings.name

    @property
    def sha256(self) -> str:
        """The SHA-256 of its contents."""
        return self.prepared.manifest.sha256

    def classes(self, part: Part) -> frozenset[str]:
        """The names of a part's classes."""
        return frozenset(self.prepared.manifest.class_names(self.sampling.split, part))


def class_names(settings: Choice, data_dir: Path | None, part: Part) -> frozenset[str]:
    """The names of the classes in a part of a dataset; empty if it is not prepared here, or has no classes."""
    try:
        return _stored(settings, data_dir, lambda *_moved: None).classes(part)
    except (ConfigError, DataError):
        return frozenset()


def _stored(settings: Choice, data_dir: Path | None, progress: Progress) -> _Stored:
    dataset = dataset_of(settings)
    if not isinstance(dataset, Archive | Generated):
        raise ConfigError(f"dataset.of: {settings.name} holds no pictures of its own; expected datasets that do")
    folder = data_folder(data_dir)
    prepared = open_or_explain(settings.name, dataset, folder, progress)
    sampling = dataset.sampling
    if getattr(settings, "trainval", False):
        prepared = prepared._replace(manifest=prepared.manifest.with_trainval(sampling.split))
    manifest = prepared.manifest
    preprocessing = manifest.preprocessing_for(sampling.split, sampling.normalisation)
    trained_on = manifest.class_names(sampling.split, "train")
    ink = brightness.ink(prepared.images.picture, manifest.classes, trained_on)
    seen = preprocessing.model_copy(update={"ink": ink})
    return _Stored(settings, folder / dataset.store, sampling, prepared, seen)


def _opened(stored: _Stored, ways: int, seen: Preprocessing | None, device: torch.device) -> Data:
    seen = seen or stored.preprocessing
    pixels = cache(partial(pixels_on, stored.prepared.images, device))

    def pool(part: Part) -> Pool:
        return pool_of(stored.prepared, pixels(), stored.sampling, part, seen)

    interface = Interface((seen.channels, seen.height, seen.width), ways, classification, seen)
    return _drawn_from(pool, stored, interface, stored.sha256)


def _opened_features(stored: _Stored, ways: int, progress: Progress, device: torch.device) -> Data:
    """As `_opened`, with features as inputs; task i of step s has the same classes and pictures."""
    dataset = dataset_of(stored.settings)
    assert isinstance(dataset, Archive | Generated)
    found = features_beside(stored.settings, dataset, stored.prepared, stored.folder, progress, device=device)
    plain = stored._replace(sampling=stored.sampling._replace(rotations="none", augmentation=()))
    vectors = cache(partial(pixels_on, found.rows, device))

    def pool(part: Part) -> Pool:
        of_pictures = pool_of(stored.prepared, vectors(), plain.sampling, part, stored.preprocessing)
        return of_pictures._replace(shape=(found.manifest.features,), views=found.manifest.views)

    view = view_of(stored.settings, found, stored.prepared, stored.sampling.split)
    seen = extractor_for(view.settings).preprocessing.model_copy(update={"ink": _ink(stored, view)})
    interface = Interface((found.manifest.features,), ways, classification, seen, view)
    sha256 = hashlib.sha256(f"{stored.sha256} {found.manifest.sha256}".encode()).hexdigest()
    shown = Pictured(_opened(plain, ways, None, device).sampler, stored.preprocessing)
    return _drawn_from(pool, stored, interface, sha256)._replace(pictured=shown)


def _ink(stored: _Stored, view: View) -> tuple[float, float] | None:
    """The brightness of the pictures that the extractor reads. Stored pictures may be inverted; originals are not."""
    ink = stored.preprocessing.ink
    inverted = view.first is None and stored.preprocessing.invert
    return (round(1 - ink[0], 4), ink[1]) if ink is not None and inverted else ink


def _drawn_from(pool: Callable[[Part], Pool], stored: _Stored, interface: Interface, sha256: str) -> Data:
    """The Data of a stored dataset whose parts are the pools `pool(part)`."""

    def sampler(part: Part, spec: TaskSpec, seed: int) -> Sampler:
        check(classes := pool(part), spec, stored.name)
        return picture_sampler(classes, spec, seed)

    def names(part: Part, spec: TaskSpec, seed: int) -> Names:
        return picture_names(pool(part), spec, seed)

    def numbered(spec: TaskSpec, seed: int, most: int) -> Sampler:
        return numbered_sampler(pool("train"), spec, seed, most)

    def passes() -> Iterator[Examples]:
        return every_picture(pool("train"))

    def strangers(part: Part, spec: TaskSpec, seed: int) -> Sampler | None:
        classes = pool(part)
        return stranger_sampler(classes, spec, seed) if len(classes.counts) > spec.ways else None

    return Data(
        interface, sha256, sampler, stored.classes, names, numbered=numbered, passes=passes, strangers=strangers
    )


def _mixed(
    mixture: Mixture, ways: int, data_dir: Path | None, progress: Progress, seen: Preprocessing | None,
    device: torch.device,
) -> Data:  # fmt: skip
    members = [_stored(settings, data_dir, progress) for settings in mixture.of]
    if asked_features(mixture.of[0]) is not None:
        opened = [_opened_features(stored, ways, progress, device) for stored in members]
    else:
        manifests = [(stored.prepared.manifest, stored.sampling.split) for stored in members]
        common = seen or common_preprocessing(mixture, manifests)
        opened = [_opened(stored, ways, common, device) for stored in members]

    def sampler(part: Part, spec: TaskSpec, seed: int) -> Sampler:
        samplers = [data.sampler(part, spec, seed) for data in opened]
        return mixture_sampler(samplers, mixture.weights, part, seed)

    sha256 = hashlib.sha256(" ".join(data.sha256 for data in opened).encode()).hexdigest()

    def classes(part: Part) -> frozenset[str]:
        return frozenset().union(*(data.classes(part) for data in opened))

    def names(part: Part, spec: TaskSpec, seed: int) -> Names:
        by_dataset = [(stored.name, data.names(part, spec, seed)) for stored, data in zip(members, opened, strict=True)]
        return mixture_names(by_dataset, mixture.weights, part, seed)

    def strangers(part: Part, spec: TaskSpec, seed: int) -> Sampler | None:
        samplers = [sampler for data in opened if (sampler := data.strangers(part, spec, seed)) is not None]
        return mixture_sampler(samplers, mixture.weights, part, seed) if len(samplers) == len(opened) else None

    passes = partial(numbered_after, [data.passes for data in opened if data.passes is not None])
    return Data(opened[0].interface, sha256, sampler, classes, names, passes=passes, strangers=strangers)
