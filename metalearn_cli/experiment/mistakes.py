"""Messages about mistakes in an experiment, a line each: place, key, the value found, and the values allowed.

The allowed values are read from the JSON schema of the settings, so a new `Config` needs no messages of its own.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.readings import what_to_write
from metalearn_cli.experiment.yaml_lines import Location, brief

Model = TypeVar("Model", bound=BaseModel)
Schema = Mapping[str, Any]

_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "greater than",
    "maximum": "of at most",
    "exclusiveMaximum": "less than",
    "minItems": "of at least",
    "maxItems": "of at most",
}
_NOUNS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
}
_MOST_MISTAKES = 20  # lines of an error; one wrong indentation can make hundreds of keys unknown


class Mistake(NamedTuple):
    """A mistake: `what` is wrong with the value at `location`."""

    location: Location
    what: str


class ValueSource(NamedTuple):
    """The source of values: the name of the file in messages, its line numbers, and the keys that `--set` gave."""

    where: str
    lines: Mapping[Location, int]
    overridden: Sequence[Location] = ()

    def line(self, location: Location) -> int:
        """The line of the value, or of the nearest block around it; 0 if none is known."""
        ancestors = (location[:length] for length in range(len(location), 0, -1))
        return next((self.lines[ancestor] for ancestor in ancestors if ancestor in self.lines), 0)

    def place(self, location: Location) -> str:
        """The beginning of a message, before the key: file and line, or `--set`."""
        if any(location[: len(given)] == given[: len(location)] for given in self.overridden):
            return "--set "
        line = self.line(location)
        return f"{self.where}:{line}: " if line else f"{self.where}: "


def refusal(mistakes: Iterable[Mistake], source: ValueSource) -> ConfigError:
    """One error with the first twenty mistakes, in the order of the file's lines."""
    ordered = sorted(mistakes, key=lambda mistake: source.line(mistake.location))
    lines = [*dict.fromkeys(f"{source.place(location)}{key(location)}: {what}" for location, what in ordered)]
    more = len(lines) - _MOST_MISTAKES
    shown = lines if more <= 1 else [*lines[:_MOST_MISTAKES], f"{source.where}: and {more:,} more mistakes"]
    return ConfigError("\n".join(shown))


def key(location: Location) -> str:
    """The location as people write it: `backbone.layers[3].conv2d`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{brief(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def shown_value(value: object) -> str:
    """A value and its type, shortened: `'fast' (str)`."""
    if value is None:
        return "null"
    return f"{brief(repr(value))} ({type(value).__name__})"


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """The end of a message: the known word nearest to `word`, or nothing if none is near."""
    near = difflib.get_close_matches(str(word), known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def validated(model: type[Model], values: object, source: ValueSource, mistakes: Sequence[Mistake] = ()) -> Model:
    """`values` as an instance of `model`. Raises ConfigError with the mistakes found here and those in `mistakes`."""
    try:
        # By way of JSON, because strict validation of Python values refuses a list where a tuple is declared.
        typed = model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        schema = model.model_json_schema()
        here = [_explained(details, schema) for details in error.errors(include_url=False)]
        raise refusal([*mistakes, *here], source) from error
    if mistakes:
        raise refusal(mistakes, source)
    return typed


def _explained(details: Any, schema: Schema) -> Mistake:
    location: Location = details["loc"]
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            known = list(_at(location[:-1], schema).get("properties", {}))
            hint = did_you_mean(location[-1], known) or f"; known are {', '.join(known)}"
            return Mistake(location, f"unknown key{hint}")
        case "missing":
            return Mistake(location, f"missing; expected {words(_at(location, schema), schema)}")
        case "union_tag_invalid":
            known = list(_at(location, schema)["discriminator"]["mapping"])
            tag = context["tag"]
            return Mistake(
                location, f"found {shown_value(tag)}, expected one of {', '.join(known)}{did_you_mean(tag, known)}"
            )
        case "value_error":
            return Mistake(location, str(context["error"]))
    expected = words(_at(location, schema), schema)
    if details["type"] == "finite_number":
        expected = expected.replace("a number", "a finite number", 1)
    if not expected:
        return Mistake(location, details["msg"])
    meant = what_to_write(details["input"], _at(location, schema), lambda node: _resolved(node, schema))
    return Mistake(location, f"found {shown_value(details['input'])}, expected {expected}{meant}")


def _at(location: Location, schema: Schema) -> Schema:
    """The part of `schema` that describes the value at `location`; empty if there is none."""
    node = schema
    for part in location:
        if "anyOf" in node:  # null or a block: only the block has parts to go down into
            options = [_resolved(option, schema) for option in node["anyOf"]]
            node = next((option for option in options if option.get("type") != "null"), {})
        if isinstance(part, int):
            node = node["prefixItems"][part] if "prefixItems" in node else node.get("items", {})
        elif "discriminator" in node:
            tag = node["discriminator"]["propertyName"]
            node = _resolved({"$ref": node["discriminator"]["mapping"][part]}, schema)
            node = {**node, "properties": {k: v for k, v in node["properties"].items() if k != tag}}
        else:
            node = node.get("properties", {}).get(part, {})
        node = _resolved(node, schema)
    return node


def _resolved(node: Schema, schema: Schema) -> Schema:
    if "$ref" not in node:
        return node
    definition: Schema = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return definition


def words(node: Schema, schema: Schema) -> str:
    """The words that follow "expected" in a message, made from the schema of the value; empty if it has no bounds."""
    node = _resolved(node, schema)
    if "anyOf" in node:
        return ", or ".join(words(option, schema) for option in node["anyOf"])
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "const" in node:
        return str(node["const"])
    kind: str = node.get("type", "")
    if kind == "object":
        return f"a block with keys of {', '.join(node.get('properties', {}))}"
    noun = _NOUNS.get(kind, kind)
    if "minimum" in node and "maximum" in node:
        return f"{noun} from {node['minimum']} to {node['maximum']}"
    bounds = [f" {words} {node[bound]}" for bound, words in _BOUNDS.items() if bound in node]
    item = words(node["items"], schema) if "items" in node else ""
    return noun + " and".join(bounds) + (f", each {item}" if item else "")
