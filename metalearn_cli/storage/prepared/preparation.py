"""Prepares a dataset from its description: finds the source, decodes the pictures, stores them."""

import hashlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from metalearn_cli.datasets import Archive, Generated
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.experiment.registry import module_of
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.storage.files.atomic import disk_errors, make_folder, put_right
from metalearn_cli.storage.files.locks import locked
from metalearn_cli.storage.inputs.downloads import Progress, fetch_offer
from metalearn_cli.storage.inputs.sources import OpenedSource, describe_source, open_source
from metalearn_cli.storage.prepared.copies import without_copies
from metalearn_cli.storage.prepared.dataset import Manifest, Prepared, open_checked, open_prepared
from metalearn_cli.storage.prepared.decoding import Decoder
from metalearn_cli.storage.prepared.originals import remember
from metalearn_cli.storage.prepared.writing import Chunk, Contents, write_dataset
from metalearn_cli.version import own_version

_SECONDS_BETWEEN_LOOKS = 0.2


def data_folder(option: Path | None) -> Path:
    """The folder of prepared datasets: the option, or else $METALEARN_DATA, or else the user's cache folder.

    Raises ConfigError if it depends on a home folder and the system knows none.
    """
    if option is not None:
        return option
    named = os.environ.get("METALEARN_DATA")
    try:
        return Path(named).expanduser() if named else caches() / "metalearn"
    except RuntimeError as error:  # no HOME, and no such user
        found = f"METALEARN_DATA={named}" if named else "HOME is not set"
        raise ConfigError(
            f"environment: {found}, and this system knows no home folder for it; give --data-dir DIR (prepare) or set "
            "METALEARN_DATA to a folder"
        ) from error


def caches() -> Path:
    """The user's folder for files that can be made again, as this system has it; RuntimeError without a home folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    name = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    named = Path(os.environ.get(name, ""))
    if named.is_absolute():  # the XDG specification says that relative paths must be ignored
        return named
    return Path.home() if sys.platform == "win32" else Path.home() / ".cache"


def prepare(
    name: str, dataset: Archive | Generated, data_dir: Path, source: Path | None, force: bool, progress: Progress,
    skip_damaged: bool = False,
) -> tuple[Manifest, Path]:  # fmt: skip
    """Prepare a dataset below `data_dir`, unless it is there already and `force` is false; return manifest and folder.

    If another process is preparing it, this one waits. An interrupted call is continued by the next one.

    Raises DataError if the source is missing, damaged or another dataset, or if the folder holds pictures of another
    source or with other settings; RunError if the disk refuses.
    """
    folder = data_dir / dataset.store
    # This check comes before the lock, so that a prepared dataset works in a folder without permission to write.
    if not force and _is_prepared(folder):
        return _found(name, dataset, folder, source), folder

    def wait(holder: str) -> None:
        progress(f"waiting for {holder}, which prepares it", 0, 1)
        time.sleep(_SECONDS_BETWEEN_LOOKS)

    with locked(data_dir / f".{dataset.store}.lock", wait):
        put_right(folder)  # a process that was killed while it replaced the folder may have left it under another name
        if not force and _is_prepared(folder):  # the process that was waited for has made it
            return _found(name, dataset, folder, source), folder
        if isinstance(dataset, Generated):
            return _drawn(name, dataset, folder, progress), folder
        if source is None:
            source = _downloaded(name, dataset, data_dir, progress)
        with open_source(source, dataset.wants, data_dir) as opened:
            return _converted(name, dataset, (folder, source), opened, skip_damaged, progress=progress), folder


def open_or_explain(name: str, dataset: Archive | Generated, data_dir: Path, progress: Progress) -> Prepared:
    """The prepared dataset; a generated dataset is made on first use.

    Raises DataError, with the command to type, if it is missing or was prepared with other settings; DataError also if
    its pictures have changed on the disk.
    """
    folder = data_dir / dataset.store
    if not _is_prepared(folder):
        if isinstance(dataset, Archive):
            raise DataError(f"dataset {name} is not prepared in {data_dir}; type: {_command(name, dataset)}")
        prepare(name, dataset, data_dir, None, False, progress=progress)
    prepared = open_checked(folder, progress)
    _require_settings(name, dataset, prepared.manifest)
    return prepared


def _is_prepared(folder: Path) -> bool:
    return (folder / "manifest.json").exists()


def _found(name: str, dataset: Archive | Generated, folder: Path, source: Path | None) -> Manifest:
    """The manifest of a dataset that is prepared already, after a check that it is the one asked for."""
    manifest = open_prepared(folder).manifest
    _require_settings(name, dataset, manifest)
    if (
        source is not None
        and isinstance(dataset, Archive)
        and describe_source(source, dataset.wants) != manifest.source
    ):
        raise DataError(
            f"{folder}: holds pictures of another source ({manifest.source}); add --force to replace them, "
            "or --set dataset.title=NAME to keep both where the dataset has titles"
        )
    return manifest


def _drawn(name: str, dataset: Generated, folder: Path, progress: Progress) -> Manifest:
    places = {class_name: index for index, class_name in enumerate(dataset.classes)}

    def work(names: Sequence[str]) -> Iterator[Chunk]:
        for class_name in names:
            yield Chunk(class_name, dataset.draw(places[class_name]))
            progress("drawing classes", places[class_name] + 1, len(places))

    splits = dataset.splits(dataset.classes)
    contents = Contents(name, splits, dataset.preprocessing, dataset.settings, "generated")
    return write_dataset(folder, contents, dataset.classes, _key(contents, ""), work)


def _converted(
    name: str, dataset: Archive, places: tuple[Path, Path], source: OpenedSource, skip_damaged: bool, progress: Progress
) -> Manifest:
    folder, path = places
    try:
        classes, splits, sample, partial = dataset.arrange(source)
        if dataset.each_once:
            classes = without_copies(source, classes, splits[dataset.sampling.split], dataset.preprocessing, progress)
    except DataError as error:
        source.close_with(source.pictures())
        told = [str(omission) for omission in source.omissions.listed() if str(omission) not in str(error)]
        raise DataError("; ".join([str(error), *told])) from error
    source.close_with(chain.from_iterable(classes.values()))
    contents = Contents(
        name, splits, dataset.preprocessing, dataset.settings, source.description, sample=sample, partial=partial,
        left_out=source.omissions.listed(), remarks=source.omissions.remarks,
    )  # fmt: skip
    decoder = Decoder(source, classes, dataset.preprocessing, dataset.cut_bottom, skip_damaged, progress=progress)
    key = _key(contents, f"{source.fingerprint} {skip_damaged} {own_version()}")
    manifest = write_dataset(folder, contents, [*classes], key, decoder.work)
    remember(folder, path, source, classes)
    return manifest


def _key(contents: Contents, more: str) -> str:
    """A digest of source and settings; unfinished work is continued only if it has the same digest."""
    plain = contents._replace(preprocessing=contents.preprocessing.model_dump_json())  # type: ignore[arg-type]
    return hashlib.sha256(f"{plain} {more}".encode()).hexdigest()


def _downloaded(name: str, dataset: Archive, data_dir: Path, progress: Progress) -> Path:
    if not dataset.offers:
        hint = f" {dataset.by_hand}" if dataset.by_hand else ""
        raise DataError(f"dataset {name} needs its pictures;{hint} type: {_command(name, dataset)}")
    folder = data_dir / "downloads" / name
    with disk_errors(folder):
        make_folder(folder, data_dir)
    try:
        return fetch_offer(dataset.offers, folder, progress)
    except DataError as error:
        by_hand = dataset.by_hand or "fetch it by hand"
        raise DataError(f"{error}; {by_hand}, and give the folder with --source") from error


def _require_settings(name: str, dataset: Archive | Generated, manifest: Manifest) -> None:
    asked = dict(dataset.settings)
    if manifest.settings == asked:
        return
    keys = sorted(
        key for key in asked.keys() | manifest.settings.keys() if manifest.settings.get(key) != asked.get(key)
    )
    pairs = [(key, brief(repr(manifest.settings.get(key))), brief(repr(asked.get(key)))) for key in keys]
    listed = "; ".join(f"dataset.{key}: {there} there, {wanted} asked" for key, there, wanted in pairs)
    raise DataError(
        f"dataset {name} was prepared with other settings ({listed}); type: {_command(name, dataset)} --force"
    )


def _command(name: str, dataset: Archive | Generated) -> str:
    """The command that prepares this dataset, with all settings that differ from their defaults."""
    usual: Mapping[str, object] = module_of(settings := dataset_settings(name)).build(settings).settings
    changed = {key: value for key, value in dataset.settings.items() if usual.get(key) != value}
    sets = [f"--set {shlex.quote(f'dataset.{key}={value}')}" for key, value in changed.items()]
    source = [] if not isinstance(dataset, Archive) or dataset.offers else ["--source DIR"]
    return " ".join(["metalearn prepare", name, *source, *sets])
