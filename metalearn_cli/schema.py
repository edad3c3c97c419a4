"""A JSON Schema of the experiment file, so that an editor completes and checks it as one types.

All is read from the `Config`s and what their docstrings say, so a new file of a folder is in it at once.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Union

from pydantic import Field, create_model

from metalearn_cli.datasets import Pictures
from metalearn_cli.experiment import Experiment
from metalearn_cli.registry import ROOMS, names_in
from metalearn_cli.settings import Choice

Node = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OFTEN = {
    "algorithm": "How a task is learned, and what is meta-learned.",
    "backbone": "The network.",
    "channels": "How many channels a layer gives, or a picture has.",
    "dataset": "What tasks are drawn from.",
    "drawings": "Drawings of each class.",
    "eval": "How accuracy is measured.",
    "execution": "How the tasks of a meta-batch run at once.",
    "image_size": "Side of the stored pictures, in pixels.",
    "inner_lr": "Rate of the inner steps.",
    "inner_steps": "Steps by which a task is learned in training.",
    "iterations": "Meta-steps in the whole run.",
    "kernel": "Side of the window, in pixels.",
    "lr": "Rate of the meta-steps.",
    "meta_batch_size": "Tasks in every meta-step.",
    "mode": "How tasks run: one after the other (loop), at once (vmap), at once on threads, or what suits the device.",
    "momentum": "Share of the last meta-step that is taken again.",
    "optimizer": "What makes a meta-step of a meta-gradient.",
    "outer": "The meta-update.",
    "padding": "Zeros around the picture, in pixels.",
    "queries": "Examples of each class to predict.",
    "resize": "The filter with which pictures are made smaller.",
    "rotations": "Turns by quarters: each class is four, one of four drawn for each task, or none.",
    "schedule": "How the rate of the meta-steps changes.",
    "second_order": "Whether the meta-gradient goes through the inner gradients; false is the first-order form.",
    "shape": "The new shape of an example.",
    "stride": "How far the window moves, in pixels.",
    "task": "The size of a training task.",
    "weight_decay": "Decay of the meta-parameters at every meta-step.",
}
"""What keys mean that the docstrings of many blocks leave to their names."""


def experiment_schema() -> Node:
    """The schema: blocks as alternatives by `name`, every key described, with its default; unknown keys refused."""
    configs = {block: _configs(room) for block, room in ROOMS.items()}
    fields: Any = {block: (_one_of(list(found.values())), ...) for block, found in configs.items()}
    model: type[Experiment] = create_model("Experiment", __base__=Experiment, **fields)
    text = json.dumps(model.model_json_schema())
    for block, found in configs.items():
        for name, config in found.items():
            text = text.replace(f"{config.__module__}.Config".replace(".", "__"), f"{block}.{name}")
    schema: Node = json.loads(text)
    definitions: dict[str, Node] = schema["$defs"]
    for block, found in configs.items():
        for name, config in found.items():
            _complete(definitions[f"{block}.{name}"], config)
    pictures = [name for name, config in configs["dataset"].items() if issubclass(config, Pictures)]
    definitions["dataset.mixture"]["properties"]["of"]["items"] = {
        "oneOf": [{"$ref": f"#/$defs/dataset.{name}"} for name in pictures if name != "mixture"]
    }
    definitions.pop("Choice")
    listed = definitions["backbone.layers"]["properties"]["layers"]
    listed["items"] = _as_written(listed["items"]["discriminator"]["mapping"], definitions)
    schema["description"] = Experiment.__doc__
    for node in [schema, *definitions.values()]:
        _explain(node, [node.get("description", "")])
    return {"$schema": _DIALECT, **_untitled(schema), "title": "An experiment of metalearn"}


def _configs(room: str) -> dict[str, type[Choice]]:
    return {name: import_module(f"metalearn_cli.{room}.{name}").Config for name in names_in(room)}


def _one_of(configs: Sequence[type[Choice]]) -> Any:
    return Annotated[Union[tuple(configs)], Field(discriminator="name")]  # noqa: UP007


def _complete(node: Node, config: type[Choice]) -> None:
    """A block needs its name, which says what it is; what it inherits is described where it comes from."""
    node["required"] = ["name", *node.get("required", [])]
    node["properties"]["name"]["description"] = (import_module(config.__module__).__doc__ or "").partition("\n")[0]
    _explain(node, [parent.__doc__ or "" for parent in config.__mro__ if issubclass(parent, Choice)])


def _explain(node: Node, docstrings: Sequence[str]) -> None:
    """Each key is described by the sentences that name it, in the first docstring that does.

    What a key often means is said so, unless a sentence is about this key before all others.
    """
    for key, about in node.get("properties", {}).items():
        pattern = f"`{key}[`:]"
        find = re.match if key in _OFTEN else re.search
        told = (" ".join(one for one in _sentences(text) if find(pattern, one)) for text in docstrings)
        if "description" not in about and (found := next(filter(None, told), _OFTEN.get(key, ""))):
            about["description"] = found


def _sentences(docstring: str) -> list[str]:
    parts = re.split(r"(?<=[.;])\s+(?=[A-Z`\"])|[:;] - ", " ".join(docstring.split()))
    return [part.rstrip(".;") + "." for part in parts if part]


def _as_written(kinds: Mapping[str, str], definitions: dict[str, Node]) -> Node:
    """A layer as people write it, `relu` or `conv2d: {channels: 64}`, and not as it is once read."""
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
    """Without the titles that are nothing but the key once more."""
    if isinstance(node, list):
        return [_untitled(one) for one in node]
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key != "title" or not isinstance(value, str)}
        return {key: _untitled(value) for key, value in kept.items()}
    return node
