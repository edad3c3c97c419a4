"""Lists all datasets, with their state in a data folder."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.datasets import Archive, Dataset, Generated
from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.experiment.registry import known_names, module_of
from metalearn_cli.storage.prepared.dataset import Manifest, open_prepared
from metalearn_cli.storage.prepared.writing import unfinished
from metalearn_cli.storage.tabular.stored import MANIFEST, open_table


class Entry(NamedTuple):
    """A dataset: its name (and title), state, size, origin and licence.

    The state is "prepared"; "partial" (an incomplete copy is prepared); "interrupted" (`prepare` can continue); "no";
    or "on use" (metalearn draws it when it is needed). `groups` and `examples` are words for what `classes` and
    `pictures` are numbers of: for a table its tasks and rows, for example.
    """

    name: str
    state: str
    classes: int
    pictures: int
    bytes: int
    origin: str
    licence: str
    groups: str = "classes"
    examples: str = "pictures"


def catalogue(data_dir: Path) -> Sequence[Entry]:
    """An Entry for every dataset, prepared or not, and for every prepared collection of the user."""
    known = known_names("datasets")
    return [entry for name in known for entry in _entries(name, data_dir)] + _of_others(known, data_dir)


def _of_others(known: Sequence[str], data_dir: Path) -> list[Entry]:
    """The entries of prepared datasets from modules outside this package, such as mine.stripes.

    Their modules are not imported: a folder of data may not choose which code runs.
    """
    others = [manifest for _, manifest in _manifests(data_dir) if manifest.dataset not in known]
    return [_prepared(_called(manifest.dataset, manifest), manifest, "") for manifest in others]


def _entries(name: str, data_dir: Path) -> Iterator[Entry]:
    try:
        settings = dataset_settings(name)
    except ConfigError:  # a mixture has no defaults, as it needs a list of datasets
        return
    dataset: Dataset = module_of(settings).build(settings)
    if isinstance(dataset, Tabular):
        yield from _tables(name, dataset, data_dir)
        return
    if not isinstance(dataset, Archive | Generated):
        yield Entry(name, "on use", 0, 0, 0, origin="drawn", licence="")
        return
    stores = _stores(name, dataset, data_dir)
    for store in stores:
        manifest = open_prepared(store).manifest
        yield _prepared(_called(name, manifest), manifest, dataset.licence)
    if not stores:
        state = "on use" if isinstance(dataset, Generated) else "no"
        state = "interrupted" if unfinished(data_dir / dataset.store).exists() else state
        yield Entry(name, state, 0, 0, 0, origin=_origin(dataset), licence=dataset.licence)


def _stores(name: str, dataset: Archive | Generated, data_dir: Path) -> list[Path]:
    """The prepared folders of a dataset: that of its default settings, and others whose manifests name it."""
    manifests = _manifests(data_dir)
    return [folder for folder, manifest in manifests if manifest.dataset == name or folder.name == dataset.store]


def _manifests(data_dir: Path) -> Iterator[tuple[Path, Manifest]]:
    """The prepared folders whose manifests can be read, with these manifests."""
    for file in sorted(data_dir.glob("*/manifest.json")):
        with suppress(DataError):
            yield file.parent, open_prepared(file.parent).manifest


def _tables(name: str, dataset: Tabular, data_dir: Path) -> Iterator[Entry]:
    """The prepared tables of a dataset, with the words for their groups and rows."""
    tables = []
    for path in sorted(data_dir.glob(f"*/{MANIFEST}")):
        with suppress(DataError):
            if (manifest := open_table(path.parent).manifest).dataset == name:
                tables.append(manifest)
    for table in tables:
        origin, called = table.source.split(" sha256 ")[0], f"{name} {table.settings.get('title', '')}".strip()
        licence = "" if dataset.made else "your own"
        yield Entry(
            called, "prepared", len(table.groups), table.rows, table.bytes, origin=origin, licence=licence,
            groups=table.encoding.groups, examples=table.encoding.noun.many,
        )  # fmt: skip
    if not tables:
        state, origin, licence = ("on use", "drawn", "") if dataset.made else ("no", "--source", "your own")
        yield Entry(name, state, 0, 0, 0, origin=origin, licence=licence)


def _called(name: str, manifest: Manifest) -> str:
    title = manifest.settings.get("title")
    return f"{name} {title}" if title else name


def _prepared(name: str, manifest: Manifest, licence: str) -> Entry:
    pictures = sum(entry.count for entry in manifest.classes)
    state = "partial" if manifest.partial else "prepared"
    origin = manifest.source.split(" sha256 ")[0]
    return Entry(name, state, len(manifest.classes), pictures, manifest.bytes, origin=origin, licence=licence)


def _origin(dataset: Archive | Generated) -> str:
    if isinstance(dataset, Generated):
        return "drawn"
    return "download" if dataset.offers else "--source"
