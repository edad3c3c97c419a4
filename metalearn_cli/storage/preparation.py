"""From a dataset's description to a prepared folder: find the source, decode on all cores, store."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Archive, Arrangement, Generated
from metalearn_cli.errors import DataError
from metalearn_cli.experiment import dataset_settings, module_of
from metalearn_cli.storage.archives import Source, open_source
from metalearn_cli.storage.downloads import fetch
from metalearn_cli.storage.pictures import decode
from metalearn_cli.storage.prepared import Contents, Manifest, Prepared, open_prepared, write

Progress = Callable[[str, int, int], None]
"""`progress(label, done, total)`, called as often as something moved."""

_SHOWN_FAILURES = 10


def data_folder(option: Path | None) -> Path:
    """Where prepared datasets live: the option, else $METALEARN_DATA, else the user's cache folder."""
    if option is not None:
        return option
    if named := os.environ.get("METALEARN_DATA"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "metalearn"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "metalearn"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "metalearn"


def prepare(
    name: str, dataset: Archive | Generated, data_dir: Path, source: Path | None, force: bool, progress: Progress
) -> tuple[Manifest, Path]:
    """The dataset's manifest and folder below `data_dir`, made unless it was there and `force` is false.

    Raises DataError if the source is missing, damaged or not this dataset, or if the folder holds pictures of
    another source or other settings; RunError if the disk refuses.
    """
    folder = data_dir / dataset.store
    if (folder / "manifest.json").exists() and not force:
        manifest = open_prepared(folder).manifest
        _require_settings(name, dataset, manifest)
        if source is not None:
            _require_source(source, manifest, folder)
        return manifest, folder
    if isinstance(dataset, Generated):
        classes = [*_counted(dataset.generate(), progress)]
        splits = dataset.splits([class_name for class_name, _ in classes])
        contents = Contents(name, splits, dataset.preprocessing, dataset.settings, "generated")
        return write(folder, contents, iter(classes)), folder
    if source is None:
        source = _downloaded(name, dataset, data_dir, progress)
    with open_source(source) as opened:
        arrangement = dataset.arrange(opened.members)
        contents = Contents(name, arrangement.splits, dataset.preprocessing, dataset.settings, opened.description)
        return write(folder, contents, _decoded(dataset, arrangement, opened, progress)), folder


def open_or_explain(name: str, dataset: Archive | Generated, data_dir: Path, progress: Progress) -> Prepared:
    """The prepared dataset; a generated one is made on first use.

    Raises DataError with the command to type if it is missing or was prepared with other settings.
    """
    folder = data_dir / dataset.store
    if not (folder / "manifest.json").exists():
        if isinstance(dataset, Archive):
            raise DataError(f"dataset {name} is not prepared in {data_dir}; type: {_command(name, dataset)}")
        prepare(name, dataset, data_dir, None, False, progress)
    prepared = open_prepared(folder)
    _require_settings(name, dataset, prepared.manifest)
    return prepared


def _decoded(
    dataset: Archive, arrangement: Arrangement, source: Source, progress: Progress
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Class after class. All damaged pictures are found before the first ten are reported."""
    total, done = sum(len(members) for members in arrangement.classes.values()), 0
    failures: list[str] = []
    cores = os.cpu_count() or 1

    def whole(members: Sequence[str]) -> list[NDArray[np.uint8]]:
        pictures = []
        for member in members:
            try:
                pictures.append(decode(source.read(member), dataset.preprocessing, member))
            except DataError as error:
                failures.append(str(error))
        return pictures

    # A class at a time for each thread: single small pictures would spend their time waiting for the interpreter.
    with ThreadPoolExecutor(cores) as pool:
        for names in _batched(arrangement.classes, 4 * cores):
            decoded = pool.map(whole, [arrangement.classes[name] for name in names])
            for name, pictures in zip(names, decoded, strict=True):
                done += len(arrangement.classes[name])
                progress("decoding", done, total)
                if len(pictures) == len(arrangement.classes[name]):
                    yield name, np.stack(pictures)
    if failures:
        shown = "; ".join(sorted(failures)[:_SHOWN_FAILURES])
        raise DataError(f"{len(failures)} of {total} pictures cannot be read, mend or remove them: {shown}")


def _batched(names: Mapping[str, object], size: int) -> Iterator[list[str]]:
    """The names in runs of `size`, so that only so many classes are in memory at once."""
    listed = list(names)
    return (listed[start : start + size] for start in range(0, len(listed), size))


def _counted(
    classes: Iterator[tuple[str, NDArray[np.uint8]]], progress: Progress
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for number, one in enumerate(classes, 1):
        progress("drawing classes", number, number)
        yield one


def _downloaded(name: str, dataset: Archive, data_dir: Path, progress: Progress) -> Path:
    if not dataset.downloads:
        raise DataError(f"dataset {name} needs its pictures; type: {_command(name, dataset)}")
    folder = data_dir / "downloads" / name
    for download in dataset.downloads:
        label = f"downloading {download.file}"

        def report(done: int, total: int, label: str = label) -> None:
            progress(label, done, total)

        fetch(download, folder, report)
    return folder


def _require_settings(name: str, dataset: Archive | Generated, manifest: Manifest) -> None:
    asked = dict(dataset.settings)
    if manifest.settings == asked:
        return
    keys = sorted(
        key for key in asked.keys() | manifest.settings.keys() if manifest.settings.get(key) != asked.get(key)
    )
    listed = "; ".join(f"dataset.{key}: {manifest.settings.get(key)!r} there, {asked.get(key)!r} asked" for key in keys)
    raise DataError(
        f"dataset {name} was prepared with other settings ({listed}); type: {_command(name, dataset)} --force"
    )


def _require_source(source: Path, manifest: Manifest, folder: Path) -> None:
    with open_source(source) as opened:
        if opened.description != manifest.source:
            raise DataError(
                f"{folder}: holds pictures of another source ({manifest.source}); add --force to replace them, "
                "or --set dataset.title=NAME to keep both where the dataset has titles"
            )


def _command(name: str, dataset: Archive | Generated) -> str:
    """The command that prepares this dataset, with the settings that are not the default."""
    usual: Mapping[str, object] = module_of(settings := dataset_settings(name)).build(settings).settings
    changed = {key: value for key, value in dataset.settings.items() if usual.get(key) != value}
    sets = [f"--set {shlex.quote(f'dataset.{key}={value}')}" for key, value in changed.items()]
    source = [] if not isinstance(dataset, Archive) or dataset.downloads else ["--source DIR"]
    return " ".join(["metalearn prepare", name, *source, *sets])
