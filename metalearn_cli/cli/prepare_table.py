"""`metalearn prepare table`: store a table in the data folder, and propose a training that fits its size."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from metalearn_cli.cli import tables

if TYPE_CHECKING:
    from metalearn_cli.datasets.tabular import Tabular
    from metalearn_cli.storage.tabular.stored import TableManifest

_CONFIGS = {"classes": "tables/classes", "labelled": "tables/labelled", "regression": "tables/regression"}


class Wanted(NamedTuple):
    """The arguments of the command."""

    name: str
    overrides: list[str]
    source: Path | None
    data_dir: Path | None
    force: bool
    verify: bool
    json: bool
    quiet: bool
    verbose: bool


def prepare_tabular(wanted: Wanted, tabular: "Tabular", data_dir: Path) -> None:
    """Prepare the table, or check it (`--verify`), and print its contents."""
    from metalearn_cli.storage.tabular import preparing, stored

    started = time.monotonic()
    with tables.bar(wanted.quiet) as progress:
        stages = tables.Stages(progress)
        if wanted.verify:
            folder = data_dir / tabular.store
            stages(f"reading {folder}", 0, 1)
            manifest = stored.verify_table(folder)
        else:
            stages(f"reading {wanted.source or wanted.name}", 0, 1)
            given = wanted.name, tabular, data_dir, wanted.source
            manifest, folder = preparing.prepare_table(*given, force=wanted.force, progress=stages)
    fields = _fields(wanted.name, manifest, folder, time.monotonic() - started)
    if wanted.json:
        tables.print_json(fields)
    else:
        _print(fields, manifest, wanted)
    tables.left_out(manifest.left_out, manifest.remarks)
    _next(wanted, manifest)


def _fields(name: str, manifest: "TableManifest", folder: Path, seconds: float) -> dict[str, Any]:
    from metalearn_cli.omissions import as_fields

    encoding = manifest.encoding
    rows = {group: sum(counts) for group, counts in zip(manifest.groups, manifest.counts, strict=True)}
    return {
        "dataset": name, "path": str(folder), "kind": encoding.kind,
        "splits": {
            part: {encoding.groups: len(names), "rows": sum(rows[one] for one in names)}
            for part, names in manifest.parts.items()
        },
        "input_shape": list(encoding.input_shape), "classes": encoding.classes, "targets": encoding.targets,
        "bytes": manifest.bytes, "sha256": manifest.sha256, "left_out": as_fields(manifest.left_out),
        "remarks": manifest.remarks, "seconds": seconds,
    }  # fmt: skip


def _print(fields: dict[str, Any], manifest: "TableManifest", wanted: Wanted) -> None:
    groups = manifest.encoding.groups
    table = Table(title=f"{wanted.name}, {_learned(manifest)}", title_justify="left", title_style="bold")
    for column in ("part", groups, manifest.encoding.noun.many):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, counts in fields["splits"].items():
        table.add_row(part, f"{counts[groups]:,}", f"{counts['rows']:,}")
    out = tables.console(stderr=False)
    out.print(table)
    out.print(fields["path"] + (": verified" if wanted.verify else ""))
    if wanted.verbose:
        out.print(f"sha256 {manifest.sha256}\nsource {manifest.source}")


def _learned(manifest: "TableManifest") -> str:
    """The targets or classes of the table, and its inputs, in words."""
    from metalearn_cli.datasets.tabular.encoding import size_in_words

    encoding = manifest.encoding
    size = size_in_words(encoding)
    if encoding.kind == "regression":
        return f"{', '.join(encoding.targets)} from {size}, for each {encoding.task}"
    if encoding.kind == "labelled":
        return f"{len(encoding.classes)} classes of {encoding.label} from {size}, for each {encoding.task}"
    return f"classes of {encoding.label} from {size}"


def _next(wanted: Wanted, manifest: "TableManifest") -> None:
    """Print the command that trains on the table, with a warning if some groups are too small for any task.

    If a part has a single class, which no task can be made of, print only a warning of that.
    """
    config = _CONFIGS[manifest.encoding.kind]
    single = [part for part, names in manifest.parts.items() if len(names) < 2 and manifest.encoding.kind == "classes"]
    for part in single:
        tables.warn(
            f"too small to train on: part {part} has 1 class, a task needs 2 or more: add classes, or divide them "
            "otherwise (dataset.val_fraction, dataset.test_fraction, or a column split)"
        )
    if single:
        return
    smallest = min(min(counts) for counts in manifest.counts)
    if smallest < 2:
        kind = "class" if manifest.encoding.kind == "classes" else "task"
        small = [name for name, counts in zip(manifest.groups, manifest.counts, strict=True) if min(counts) < 2]
        tables.warn(
            f"{len(small):,} of {len(manifest.groups):,} have fewer than {manifest.encoding.noun.counted(2)} "
            f"({kind} {small[0]!r}), one to learn from and one to answer; dataset.small=leave_out leaves such out"
        )
    tables.hint(proposed_training(wanted, config, manifest), wanted.quiet)


def proposed_training(wanted: Wanted, config: str, manifest: "TableManifest") -> str:
    """The command that trains on the table, with tasks that are small enough for it."""
    from metalearn_cli.experiment import shipped, yaml_lines

    values = yaml_lines.read(shipped()[config]).values
    title = next((one.partition("=")[2] for one in wanted.overrides if one.startswith("dataset.title=")), "")
    sets = [f"name={title}", *wanted.overrides] if title else list(wanted.overrides)
    sets += _sizes(values, manifest)
    if manifest.encoding.series is not None:
        sets.append("backbone={name: conv4_1d}" if len(manifest.encoding.series) == 2 else "backbone={name: conv4}")
        sets.append("task.statistics=support")  # no answer depends on other queries, as in finetune
    there = f"METALEARN_DATA={shlex.quote(str(wanted.data_dir))} " if wanted.data_dir is not None else ""
    return there + shlex.join(["metalearn", "train", config, *(word for one in sets for word in ("--set", one))])


def _sizes(values: dict[str, Any], manifest: "TableManifest") -> Sequence[str]:
    """Overrides for the sizes of tasks that must be smaller than in the experiment, or that the table fixes."""
    task, test = values["task"], values["eval"]
    groups = dict(zip(manifest.groups, manifest.counts, strict=True))
    usable = {
        part: [groups[name] for name in names if min(groups[name]) >= 2] for part, names in manifest.parts.items()
    }
    fewest = min((min(counts) for part in usable.values() for counts in part), default=2)
    shots = min(task["shots"], fewest // 2)
    sets = [] if shots == task["shots"] else [f"task.shots={shots}"]
    for key, asked in (("task.queries", task["queries"]), ("eval.queries", test["queries"])):
        if (queries := min(asked, fewest - shots)) != asked:
            sets.append(f"{key}={queries}")
    ways = {"labelled": len(manifest.encoding.classes), "regression": 1}.get(manifest.encoding.kind)
    ways = ways or min(task["ways"], *(max(2, len(part)) for part in usable.values()))
    return sets if ways == task["ways"] else [*sets, f"task.ways={ways}"]
