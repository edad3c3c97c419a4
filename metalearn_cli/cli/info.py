"""`metalearn info`: versions, devices and data for a bug report, and the JSON Schema of an experiment."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from metalearn_cli.cli import tables
from metalearn_cli.cli.options import Json
from metalearn_cli.errors import ConfigError

_HERE = ("prepared", "partial", "interrupted")


def info(
    json: Json = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON Schema of the experiment file instead, for editors.")
    ] = False,
) -> None:
    """Say what metalearn runs on.

    Versions, devices and prepared data, as a report of a fault should have them.
    """
    if schema:
        from metalearn_cli.experiment.schema import experiment_schema

        print(json_text.dumps(experiment_schema(), indent=1))  # noqa: T201
        return
    fields = _fields()
    if json:
        tables.print_json(fields)
    else:
        print("\n".join(_lines(fields)))  # noqa: T201


def _fields() -> dict[str, Any]:
    from metalearn_cli.runtime.machine.inventory import describe_machine
    from metalearn_cli.storage.catalogue import catalogue
    from metalearn_cli.storage.prepared.preparation import data_folder

    try:
        folder: Path | None = data_folder(None)
    except ConfigError as error:
        folder = None
        tables.warn(str(error))
    rows = [row for row in catalogue(folder) if row.state in _HERE] if folder is not None else []
    return describe_machine() | {
        "data": {"folder": folder and str(folder), "datasets": [row._asdict() for row in rows]}
    }


def _lines(fields: dict[str, Any]) -> list[str]:
    cpu, cuda, data = fields["cpu"], fields["cuda"], fields["data"]
    rows = [(name, version or "not installed") for name, version in fields["versions"].items()]
    rows += [("platform", fields["platform"]), ("cpu", f"{cpu['name']}, {cpu['capability']}")]
    rows += [("cores", f"{cpu['cores']} usable, {cpu['threads']} threads"), ("cuda", cuda["version"] or "none")]
    for device in cuda["devices"]:
        rows.append(("device", f"{device['name']}, {device['memory_bytes'] / 2**30:.0f} GiB, {device['capability']}"))
    rows.append(("kernels", _kernels(**fields["kernels"])))
    rows.append(("data", data["folder"] or "unknown"))
    for row in data["datasets"]:
        count = f"{row['classes']:,} {row['groups']}, {row['pictures']:,} {row['examples']}"
        rows.append(("", f"{row['name']}: {row['state']}" + (f", {count}" if row["classes"] else "")))
    return [f"{name:<13} {value}" for name, value in rows]


def _kernels(file: str | None, compiler: str | None) -> str:
    if file:
        return f"compiled, in {Path(file).parent}"
    if compiler:
        return f"not compiled yet; the first training does that with {compiler}"
    return "none: no C++ compiler found"
