"""`metalearn prepare`: a dataset from its source into the data folder."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from metalearn_cli.cli import tables
from metalearn_cli.cli.options import Json, Overrides, Quiet, Verbose
from metalearn_cli.errors import ConfigError


def prepare(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="Its name; --list shows them.")] = None,
    source: Annotated[Path | None, typer.Option(help="A folder or zip that holds the pictures already.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where to keep it; default $METALEARN_DATA.")] = None,
    overrides: Overrides = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the datasets and which are prepared.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the stored bytes against their checksum.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Prepare again what is prepared already.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a dataset ready for training.

    Its pictures become one array, checked and stored below the data folder.

    Pictures of your own: `metalearn prepare folder --source DIR`, with one sub-folder per class.
    """
    from metalearn_cli.storage.preparation import data_folder

    data_dir_found = data_folder(data_dir)
    if list_:
        _list(data_dir_found, json)
        return
    if dataset is None:
        raise ConfigError("DATASET is missing; metalearn prepare --list shows the names")
    _prepare(dataset, data_dir_found, source, overrides or [], verify, force, json, quiet, verbose)


def _prepare(
    name: str, data_dir: Path, source: Path | None, overrides: list[str], check: bool, force: bool,
    json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    from metalearn_cli.datasets import TaskSource
    from metalearn_cli.experiment import dataset_settings, module_of
    from metalearn_cli.storage import preparation, prepared

    started = time.monotonic()
    description = module_of(settings := dataset_settings(name, overrides)).build(settings)
    if isinstance(description, TaskSource):
        raise ConfigError(f"{name} draws its tasks as it goes; there is nothing to prepare")
    if check:
        manifest, folder = prepared.verify(data_dir / description.store), data_dir / description.store
    else:
        with tables.bar(quiet) as progress:
            stages = tables.Stages(progress)
            manifest, folder = preparation.prepare(name, description, data_dir, source, force, stages)
    parts = manifest.splits[description.sampling.split]
    images = {entry.name: entry.count for entry in manifest.classes}
    splits = {p: {"classes": len(c), "images": sum(images[n] for n in c)} for p, c in parts.items()}
    fields = {
        "dataset": name, "path": str(folder), "splits": splits, "image_shape": list(manifest.image_shape),
        "bytes": manifest.bytes, "sha256": manifest.sha256, "seconds": time.monotonic() - started,
    }  # fmt: skip
    if json:
        tables.print_json(fields)
        return
    table = Table(title=f"{name}, split {description.sampling.split}", title_justify="left", title_style="bold")
    for column in ("part", "classes", "pictures"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, counts in splits.items():
        table.add_row(part, f"{counts['classes']:,}", f"{counts['images']:,}")
    out = tables.console(stderr=False)
    out.print(table)
    out.print(f"{folder}", markup=False)
    if verbose:
        out.print(f"sha256 {manifest.sha256}\nsource {manifest.source}", markup=False)
    tables.hint("metalearn train CONFIG, with this dataset in CONFIG", quiet)


def _list(data_dir: Path, json: bool) -> None:
    from metalearn_cli.datasets import TaskSource
    from metalearn_cli.errors import DataError
    from metalearn_cli.experiment import dataset_settings, module_of, names_in
    from metalearn_cli.storage.prepared import open_prepared

    rows = []
    for name in names_in("datasets"):
        description = module_of(settings := dataset_settings(name)).build(settings)
        if isinstance(description, TaskSource):
            rows.append((name, "drawn as it goes", "", "", ""))
            continue
        try:
            manifest = open_prepared(data_dir / description.store).manifest
            counts = (f"{len(manifest.classes):,}", f"{sum(entry.count for entry in manifest.classes):,}")
            rows.append((name, "prepared", *counts, description.licence))
        except DataError:
            state = "made on first use" if hasattr(description, "generate") else "not prepared"
            rows.append((name, state, "", "", description.licence))
    if json:
        keys = ("name", "state", "classes", "pictures", "licence")
        tables.print_json({"data_dir": str(data_dir), "datasets": [dict(zip(keys, r, strict=True)) for r in rows]})
        return
    table = Table(title=f"datasets in {data_dir}", title_justify="left", title_style="bold")
    for column in ("name", "state", "classes", "pictures", "licence"):
        table.add_column(column, justify="right" if column in ("classes", "pictures") else "left")
    for row in rows:
        table.add_row(*row)
    tables.console(stderr=False).print(table)
