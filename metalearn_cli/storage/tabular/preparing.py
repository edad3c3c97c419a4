"""Turns a person's table into a prepared folder, and opens this folder when a run needs it."""

import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.errors import DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.experiment.registry import module_of
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.files.atomic import disk_errors, put_right
from metalearn_cli.storage.files.locks import locked
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.inputs.spool import unnamed
from metalearn_cli.storage.tabular.blocks import columns_reader
from metalearn_cli.storage.tabular.files import TableFile, describe_table, names_of, table_files
from metalearn_cli.storage.tabular.gathering import gathered
from metalearn_cli.storage.tabular.stored import Table, TableManifest, is_stored, open_checked_table, open_table
from metalearn_cli.storage.tabular.writing import TableOrigin, write_table

_SECONDS_BETWEEN_LOOKS = 0.2


def prepare_table(
    name: str, tabular: Tabular, data_dir: Path, source: Path | None, force: bool, progress: Progress
) -> tuple[TableManifest, Path]:
    """Prepare a table in a folder below `data_dir`, unless it is there already; with `force`, anew in any case.

    Returns the manifest and the folder. While another process prepares the same table, this one waits. An interrupted
    call leaves nothing on the disk; the next call removes what a killed one left.

    Raises DataError if the source is missing, does not fit the settings, or differs from the source of a folder that is
    there; RunError if the disk refuses.
    """
    folder = data_dir / tabular.store
    if not force and is_stored(folder):
        return _found(name, tabular, folder, source), folder

    def wait(holder: str) -> None:
        progress(f"waiting for {holder}, which prepares it", 0, 1)
        time.sleep(_SECONDS_BETWEEN_LOOKS)

    with locked(data_dir / f".{tabular.store}.lock", wait):
        put_right(folder)  # a process that was killed while it replaced the folder may have left it under another name
        if not force and is_stored(folder):  # the process that was waited for has made it
            return _found(name, tabular, folder, source), folder
        return _made(name, tabular, (folder, source), progress), folder


def _made(name: str, tabular: Tabular, places: tuple[Path, Path | None], progress: Progress) -> TableManifest:
    (folder, source), omissions = places, Omissions()
    with ExitStack() as stack:
        if tabular.made is not None:
            files = [TableFile(name, lambda *_how: columns_reader(name, tabular.made()))]  # type: ignore[misc]
        elif source is None:
            raise DataError(f"dataset {name} needs its rows; type: {_command(name, tabular)}")
        else:
            files = stack.enter_context(table_files(source, folder.parent, omissions))
        with disk_errors(folder.parent):
            spool = stack.enter_context(unnamed(folder.parent))
        rows = gathered(files, tabular.roles, spool, progress)
        described = "generated" if tabular.made is not None or source is None else describe_table(source)
        origin = TableOrigin(names_of(files), name, described, omissions.listed())
        return write_table(folder, tabular, rows, origin, progress)


def open_or_explain_table(name: str, tabular: Tabular, data_dir: Path, progress: Progress) -> Table:
    """Open the prepared table of a dataset. A table that a program generates (`machines`) is prepared on first use.

    Raises DataError, with the command to type, if it is not prepared, or was prepared with other settings.
    """
    folder = data_dir / tabular.store
    if not is_stored(folder):
        if tabular.made is None:
            raise DataError(f"dataset {name} is not prepared in {data_dir}; type: {_command(name, tabular)}")
        prepare_table(name, tabular, data_dir, None, force=False, progress=progress)
    opened = open_checked_table(folder, progress)
    _require_settings(name, tabular, opened.manifest)
    return opened


def _found(name: str, tabular: Tabular, folder: Path, source: Path | None) -> TableManifest:
    """The manifest of the table that is there already. Raises DataError if its settings or its source differ."""
    manifest = open_table(folder).manifest
    _require_settings(name, tabular, manifest)
    if source is not None and tabular.made is None and describe_table(source) != manifest.source:
        raise DataError(
            f"{folder}: holds rows of another source ({manifest.source}); add --force to replace them, or "
            "--set dataset.title=NAME to keep both"
        )
    return manifest


def _require_settings(name: str, tabular: Tabular, manifest: TableManifest) -> None:
    asked, there = dict(tabular.settings), manifest.settings
    keys = sorted(key for key in asked.keys() | there.keys() if there.get(key) != asked.get(key))
    if keys:
        listed = "; ".join(f"dataset.{key}: {there.get(key)!r} there, {asked.get(key)!r} asked" for key in keys)
        raise DataError(f"dataset {name} was prepared with other settings ({listed}); type: {_command(name, tabular)} "
                        "--force")  # fmt: skip


def _command(name: str, tabular: Tabular) -> str:
    """The command that prepares this table, with --set for every setting that is not the default."""
    usual: Mapping[str, object] = module_of(settings := dataset_settings(name)).build(settings).settings
    changed = {key: value for key, value in tabular.settings.items() if usual.get(key) != value}
    sets = [f"--set {shlex.quote(f'dataset.{key}={_written(value)}')}" for key, value in changed.items()]
    return " ".join(["metalearn prepare", name, *([] if tabular.made else ["--source FILE"]), *sets])


def _written(value: object) -> str:
    """The value of a setting as `--set` takes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)
