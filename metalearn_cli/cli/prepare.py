"""`metalearn prepare`: stores a dataset in the data folder, and lists and checks the datasets there."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from metalearn_cli.cli import featuring, proposal, tables
from metalearn_cli.cli.options import Json, Overrides, Quiet, Verbose, dataset_names
from metalearn_cli.cli.prepare_table import Wanted, prepare_tabular
from metalearn_cli.errors import ConfigError

_LISTED = {"name": 0, "prepared": 0, "classes": 50, "pictures": 38, "MB": 60, "from": 80, "licence": 72}
"""The columns of --list, each with the smallest width of a terminal (in characters) at which it is shown."""

if TYPE_CHECKING:
    from metalearn_cli.datasets import Archive, Generated
    from metalearn_cli.datasets.tabular import Tabular
    from metalearn_cli.settings import Choice
    from metalearn_cli.storage.catalogue import Entry
    from metalearn_cli.storage.prepared.dataset import Manifest


def prepare(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="DATASET", help="Its name; --list shows them.", autocompletion=dataset_names),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A folder, zip or tar that holds the pictures already; a table.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to keep it; default $METALEARN_DATA.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Store features by this extractor beside the pictures: efficientnet_lite."),
    ] = None,
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

    Pictures of your own: `metalearn prepare folder --source DIR`, with one sub-folder per class. With `--features` what
    a pretrained network sees in them is computed and stored too; that is `--set dataset.features.name=NAME`.

    Numbers of your own: `metalearn prepare table --source FILE.csv`.
    """
    with tables.loading(quiet, "datasets"):
        from metalearn_cli.datasets.tabular import Tabular
        from metalearn_cli.storage.prepared.preparation import data_folder

    data_dir_found = data_folder(data_dir)
    if list_:
        _list(data_dir_found, json)
        tables.hint("metalearn prepare NAME", quiet)
        return
    if dataset is None:
        raise ConfigError("DATASET is missing; metalearn prepare --list shows the names")
    started = time.monotonic()
    overrides = [*([f"dataset.features.name={features}"] if features else []), *(overrides or [])]
    description, settings = _described(dataset, overrides)
    if isinstance(description, Tabular):
        wanted = Wanted(
            dataset, overrides, source, data_dir=data_dir, force=force, verify=verify, json=json, quiet=quiet,
            verbose=verbose,
        )  # fmt: skip
        prepare_tabular(wanted, description, data_dir_found)
        return
    if verify:
        manifest, folder = _verified(data_dir_found / description.store, quiet)
    else:
        _require_terms(dataset, description, settings, data_dir_found)
        if getattr(settings, "features", None) is not None:
            featuring.require_extractor(settings, quiet)
        manifest, folder = _prepared(dataset, description, settings, data_dir_found, source, force=force, quiet=quiet)
    stored = featuring.stored(settings, description, folder, verify, quiet)
    fields = _fields(dataset, description.sampling.split, manifest, folder, time.monotonic() - started)
    fields |= {"features": [featuring.feature_fields(folder, one) for one in stored]}
    if json:
        tables.print_json(fields)
    else:
        _print(fields, description.sampling.split, manifest, verify, verbose)
        for one in stored:
            tables.console(stderr=False).print(featuring.feature_line(one, verify), markup=False)
    tables.left_out(manifest.left_out, manifest.remarks)
    _next(dataset, overrides, description.sampling.split, manifest, data_dir, quiet=quiet)


def _described(name: str, overrides: list[str]) -> "tuple[Archive | Generated | Tabular, Choice]":
    from metalearn_cli.datasets import Archive, Generated
    from metalearn_cli.datasets.tabular import Tabular
    from metalearn_cli.experiment import dataset_settings
    from metalearn_cli.experiment.registry import module_of

    settings = dataset_settings(name, overrides)
    description = module_of(settings).build(settings)
    if not isinstance(description, Archive | Generated | Tabular):
        raise ConfigError(f"{name} draws its tasks as it goes; there is nothing to prepare")
    return description, settings


def _prepared(
    name: str, description: "Archive | Generated", settings: "Choice", data_dir: Path, source: Path | None,
    force: bool, quiet: bool,
) -> "tuple[Manifest, Path]":  # fmt: skip
    from metalearn_cli.storage.prepared import preparation

    skip_damaged = getattr(settings, "skip_damaged", False)
    try:
        with tables.bar(quiet) as progress:
            stages = tables.Stages(progress)
            stages(f"reading {name if source is None else source}", 0, 1)
            return preparation.prepare(
                name, description, data_dir, source, force, progress=stages, skip_damaged=skip_damaged
            )
    except KeyboardInterrupt:  # what is done is kept
        tables.hint(shlex.join(["metalearn", *sys.argv[1:]]), quiet)
        raise


def _verified(folder: Path, quiet: bool) -> "tuple[Manifest, Path]":
    from metalearn_cli.storage.prepared import dataset

    with tables.bar(quiet) as progress:
        tables.Stages(progress)(f"reading {folder}", 0, 1)
        return dataset.verify(folder), folder


def _next(
    dataset: str, overrides: list[str], split: str, manifest: "Manifest", data_dir: Path | None, quiet: bool
) -> None:
    """The training to go on with, or what the dataset lacks to be trained on."""
    from metalearn_cli.datasets import PREPARATION_ONLY

    counts = {entry.name: entry.count for entry in manifest.classes}
    parts = {part: {name: counts[name] for name in names} for part, names in manifest.splits[split].items()}
    room = proposal.Room(parts, manifest.image_shape)
    lacking = proposal.missing(room)
    for sentence in lacking:
        tables.warn(f"too small to train on: {sentence}")
    if lacking:
        again = [word for word in sys.argv[1:] if word not in ("--force", "--verify")]
        tables.hint(shlex.join(["metalearn", *again, "--force"]), quiet)
        return
    settings = [one for one in overrides if one.partition("=")[0].removeprefix("dataset.") not in PREPARATION_ONLY]
    tables.hint(proposal.training(dataset, settings, room, data_dir), quiet)


def _require_terms(name: str, description: "Archive | Generated", settings: "Choice", data_dir: Path) -> None:
    """The terms of use are accepted, now or at some time before; a script says so with --set."""
    from metalearn_cli.storage.inputs import terms

    text = getattr(description, "terms", "")
    if not text or terms.accepted(data_dir, text):
        return
    console = tables.console(stderr=True)
    console.print(f"Terms of use of {name}: {text}")
    if not getattr(settings, "accept_terms", False):
        refusal = ConfigError(f"{name}: its terms of use must be accepted once: --set dataset.accept_terms=true")
        if sys.stdin is None or not sys.stdin.isatty():
            raise refusal
        if not typer.confirm("Do you accept them?", err=True):
            raise refusal
    terms.accept(data_dir, text)


def _fields(name: str, split: str, manifest: "Manifest", folder: Path, seconds: float) -> dict[str, Any]:
    from metalearn_cli.omissions import as_fields

    images = {entry.name: entry.count for entry in manifest.classes}
    parts = manifest.splits[split]
    return {
        "dataset": name, "path": str(folder),
        "splits": {p: {"classes": len(c), "images": sum(images[n] for n in c)} for p, c in parts.items()},
        "image_shape": list(manifest.image_shape), "bytes": manifest.bytes, "sha256": manifest.sha256,
        "sample": manifest.sample, "partial": manifest.partial, "damaged": len(manifest.damaged),
        "left_out": as_fields(manifest.left_out), "remarks": manifest.remarks, "seconds": seconds,
    }  # fmt: skip


def _print(fields: dict[str, Any], split: str, manifest: "Manifest", verified: bool, verbose: bool) -> None:
    title = f"{fields['dataset']}, split {split}" + (f", sample {manifest.sample}" if manifest.sample else "")
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("part", "classes", "pictures"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, counts in fields["splits"].items():
        table.add_row(part, f"{counts['classes']:,}", f"{counts['images']:,}")
    out = tables.console(stderr=False)
    out.print(table)
    out.print(fields["path"] + (": verified" if verified else ""))
    if manifest.partial:
        out.print(f"partial: {manifest.partial}")
    if verbose:
        out.print(f"sha256 {manifest.sha256}\nsource {manifest.source}")


def _sizes(row: "Entry") -> tuple[str, str, str]:
    """The numbers of classes, pictures and MB; tasks and rows of a table have their words beside the numbers."""
    groups, examples = (
        f"{count:,}" + (f" {word}" if word != column else "")
        for count, word, column in ((row.classes, row.groups, "classes"), (row.pictures, row.examples, "pictures"))
    )
    return groups, examples, f"{row.bytes / 1e6:,.0f}"


def _list(data_dir: Path, json: bool) -> None:
    from metalearn_cli.storage.catalogue import catalogue

    rows = catalogue(data_dir)
    if json:
        tables.print_json({"data_dir": str(data_dir), "datasets": [row._asdict() for row in rows]})
        return
    out = tables.console(stderr=False)
    table = Table(
        title=f"datasets in {data_dir}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    shown = [column for column, least in _LISTED.items() if out.width >= least]
    for column in shown:
        right = column in ("classes", "pictures", "MB")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "from", overflow="ellipsis")
    for row in rows:
        counts = _sizes(row) if row.classes else ("", "", "")
        state = "yes" if row.state == "prepared" else row.state
        cells = dict(zip(_LISTED, (row.name, state, *counts, row.origin, row.licence), strict=True))
        table.add_row(*(cells[column] for column in shown))
    out.print(table)
