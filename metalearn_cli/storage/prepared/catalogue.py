"""Lists all datasets, with their state in a data folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.datasets import Archive, Dataset, Generated
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.experiment.registry import known_names, module_of
from metalearn_cli.storage.prepared.dataset import Manifest, open_prepared
from metalearn_cli.storage.prepared.writing import unfinished


class Entry(NamedTuple):
    """A dataset: its name (and title), state, size, origin and licence.

    The state is "prepared"; "partial" (an incomplete copy is prepared); "interrupted" (`prepare` can continue); "no";
    or "on use" (metalearn draws it when it is needed).
    """

    name: str
    state: str
    classes: int
    pictures: int
    bytes: int
    origin: str
    licence: str


def catalogue(data_dir: Path) -> Sequence[Entry]:
    """Every dataset that metalearn knows, prepared or not, and every prepared collection of the user."""
    return [entry for name in known_names("datasets") for entry in _entries(name, data_dir)]


def _entries(name: str, data_dir: Path) -> Iterator[Entry]:
    try:
        settings = dataset_settings(name)
    except ConfigError:  # a mixture has no defaults, as it needs a list of datasets
        return
    dataset: Dataset = module_of(settings).build(settings)
    if not isinstance(dataset, Archive | Generated):
        yield Entry(name, "on use", 0, 0, 0, "drawn", "")
        return
    stores = _stores(name, dataset, data_dir)
    for store in stores:
        manifest = open_prepared(store).manifest
        yield _prepared(_called(name, manifest), manifest, dataset.licence)
    if not stores:
        state = "on use" if isinstance(dataset, Generated) else "no"
        state = "interrupted" if unfinished(data_dir / dataset.store).exists() else state
        yield Entry(name, state, 0, 0, 0, _origin(dataset), dataset.licence)


def _stores(name: str, dataset: Archive | Generated, data_dir: Path) -> list[Path]:
    """The prepared folders of a dataset: that of its default settings, and others whose manifest has its name."""
    found = []
    for manifest in sorted(data_dir.glob("*/manifest.json")):
        folder = manifest.parent
        try:
            if open_prepared(folder).manifest.dataset == name or folder.name == dataset.store:
                found.append(folder)
        except DataError:
            continue
    return found


def _called(name: str, manifest: Manifest) -> str:
    title = manifest.settings.get("title")
    return f"{name} {title}" if title else name


def _prepared(name: str, manifest: Manifest, licence: str) -> Entry:
    pictures = sum(entry.count for entry in manifest.classes)
    state = "partial" if manifest.partial else "prepared"
    origin = manifest.source.split(" sha256 ")[0]
    return Entry(name, state, len(manifest.classes), pictures, manifest.bytes, origin, licence)


def _origin(dataset: Archive | Generated) -> str:
    if isinstance(dataset, Generated):
        return "drawn"
    return "download" if dataset.offers else "--source"
