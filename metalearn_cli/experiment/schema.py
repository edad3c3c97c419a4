"""A JSON Schema of the experiment file, with which an editor completes and checks it during typing.

It is made from the `Config` classes and their docstrings, so it always includes new files.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, Union, get_args

from pydantic import Field, create_model

from metalearn_cli.backbones.layers import AnyLayer
from metalearn_cli.datasets import Pictures
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.meanings import description_of, meanings
from metalearn_cli.experiment.registry import EVERY_ROOM, EXTRACTED, ROOMS, config_named, known_names
from metalearn_cli.settings import Choice, Settings

Node = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OUTSIDE: Node = {
    "type": "object",
    "description": "A module of your own, `package.module`; its keys are those of its Config, which only a run reads.",
    "properties": {"name": {"type": "string", "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)+$"}},
    "required": ["name"],
}


def experiment_schema() -> Node:
    """The schema of an experiment file: alternatives by `name`, a description and a default for every key.

    It refuses unknown keys.
    """
    configs = {block: _configs(block) for block in ROOMS}
    fields: Any = {block: (_one_of(list(found.values())), ...) for block, found in configs.items()}
    model: type[Experiment] = create_model("Experiment", __base__=Experiment, **fields)
    text = json.dumps(model.model_json_schema())
    # Every file's class is called Config. pydantic tells them apart by module; people should see "dataset.omniglot".
    for block, found in configs.items():
        for name, config in found.items():
            text = text.replace(f"{config.__module__}.Config".replace(".", "__"), f"{block}.{name}")
    schema: Node = json.loads(text)
    for block in ROOMS:
        schema["properties"][block] = {"anyOf": [schema["properties"][block], _OUTSIDE]}
    definitions: dict[str, Node] = schema["$defs"]
    for block, found in configs.items():
        for name, config in found.items():
            _complete(definitions[f"{block}.{name}"], config)
    pictures = [name for name, config in configs["dataset"].items() if issubclass(config, Pictures)]
    one_of = [{"$ref": f"#/$defs/dataset.{name}"} for name in pictures if name != "mixture"]
    definitions["dataset.mixture"]["properties"]["of"]["items"] = {"oneOf": [*one_of, _OUTSIDE]}
    for name in pictures:
        own = definitions[f"dataset.{name}"]["properties"]
        own[EXTRACTED] = {"anyOf": [_extractor(), _OUTSIDE, {"type": "null"}], "default": None} | {
            key: value for key, value in own[EXTRACTED].items() if key == "description"
        }
    definitions.pop("Choice")
    listed = definitions["backbone.layers"]["properties"]["layers"]
    listed["items"] = _as_written(listed["items"]["discriminator"]["mapping"], definitions)
    written: list[type[Settings]] = [*_blocks(model), *get_args(AnyLayer)]
    _describe(schema, model)
    for layer_or_block in written:
        _describe(definitions[layer_or_block.__name__], layer_or_block)
    return {"$schema": _DIALECT, **_untitled(schema), "title": "An experiment of metalearn"}


def _configs(block: str) -> dict[str, type[Choice]]:
    """The `Config` classes of the folder and of installed packages; those that cannot be imported are left out."""
    found = {}
    for name in known_names(ROOMS[block]):
        with suppress(ConfigError):
            found[name] = config_named(block, name)
    return found


def _extractor() -> Node:
    """A block that names an extractor; its other keys are for a run to check."""
    names = known_names(EVERY_ROOM[EXTRACTED])
    return {"type": "object", "properties": {"name": {"enum": names}}, "required": ["name"]}


def _one_of(configs: Sequence[type[Choice]]) -> Any:
    return Annotated[Union[tuple(configs)], Field(discriminator="name")]  # noqa: UP007


def _blocks(experiment: type[Experiment]) -> list[type[Settings]]:
    """The blocks of an experiment that do not depend on the chosen files."""
    types = [field.annotation for field in experiment.model_fields.values()]
    return [kind for kind in types if isinstance(kind, type) and issubclass(kind, Settings)]


def _complete(node: Node, config: type[Settings]) -> None:
    """Make `name` a required key of the block, because it chooses the alternative."""
    _describe(node, config)
    node["required"] = ["name", *node.get("required", [])]
    node["properties"]["name"]["description"] = (import_module(config.__module__).__doc__ or "").partition("\n")[0]


def _describe(node: Node, block: type[Settings]) -> None:
    """Add the descriptions from the docstring to the block and to each of its keys."""
    node["description"] = description_of(block)
    for key, meaning in meanings(block).items():
        text = f"{meaning.unit}: {meaning.text}" if meaning.unit else meaning.text
        node["properties"].get(key, {})["description"] = text[:1].upper() + text[1:]


def _as_written(kinds: Mapping[str, str], definitions: dict[str, Node]) -> Node:
    """The schema of a layer as people write it, `relu` or `conv2d: {channels: 64}`, not as the classes store it."""
    names = {kind: reference.removeprefix("#/$defs/") for kind, reference in kinds.items()}
    for name in set(names.values()):
        definitions[name]["properties"].pop("kind")
        definitions[name]["required"].remove("kind")
    bare = [kind for kind, name in names.items() if not definitions[name]["required"]]
    with_arguments = {
        "type": "object",
        "properties": {kind: {"$ref": reference} for kind, reference in kinds.items()},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": bare}, with_arguments]}


def _untitled(node: Any) -> Any:
    """The schema without titles that only repeat the key."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key != "title" or not isinstance(value, str)}
        return {key: _untitled(value) for key, value in kept.items()}
    return node
