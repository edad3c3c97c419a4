"""Refuses a wrong `--set` before the files that an experiment names are imported, because torch takes seconds."""

import ast
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from metalearn_cli.experiment.mistakes import ValueSource, validated
from metalearn_cli.experiment.registry import ROOMS, names_in
from metalearn_cli.settings import Choice


def refuse_early(experiment: type[BaseModel], values: Mapping[str, Any], source: ValueSource) -> None:
    """Raise ConfigError for the mistakes of `source.overridden` that can be found without importing any block's file.

    `values` are those of a shipped config, which is right by itself, after the overrides. If one of them sets a value
    that only the block's file can judge, nothing is refused here, so that one error still names all mistakes.
    """
    blocks = {block: _keys_of(block, values.get(block)) for block in ROOMS}
    for block, *inner in source.overridden:
        keys = blocks.get(str(block))
        if block in ROOMS and (keys is None or not inner or inner[0] in keys):
            return
    fields: Any = {block: (object if keys is None else _with(keys), ...) for block, keys in blocks.items()}
    validated(create_model("Experiment", __base__=experiment, **fields), values, source)


def _keys_of(block: str, values: object) -> Sequence[str] | None:
    """The keys of the `Config` in the file of this package that a block's name chooses; None if it does not tell.

    They are read from the file's text.
    """
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in names_in(ROOMS[block]):
        return None
    spec = find_spec("metalearn_cli")
    assert spec is not None
    folder = Path((spec.submodule_search_locations or [""])[0])
    for node in ast.parse((folder / ROOMS[block] / f"{name}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            if [ast.unparse(base) for base in node.bases] != [Choice.__name__]:
                return None
            own = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
            return [*Choice.model_fields, *(target.id for target in own if isinstance(target, ast.Name))]
    return None


def _with(keys: Sequence[str]) -> type[Choice]:
    """Settings that have these keys, with any values."""
    fields: Any = dict.fromkeys(keys, (Any, None))
    return create_model("Config", __base__=Choice, **fields)
