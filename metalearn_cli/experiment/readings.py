"""Guesses the intended value if a value in an experiment does not fit, for the end of a message: "; write 20"."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from metalearn_cli.experiment.yaml_lines import resolved

Schema = Mapping[str, Any]

_THOUSANDS = re.compile(r"[-+]?\d{1,3}([ _,']\d{3})+")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)
_PERCENT = re.compile(r"([-+]?\d+(\.\d+)?) ?%")
_WORDS = {
    **dict.fromkeys(("yes", "on", "y", "true", "1"), True),
    **dict.fromkeys(("no", "off", "n", "false", "0"), False),
    **dict.fromkeys(("none", "nil", "null", "nan", "n/a"), None),
}
_LONGEST = 60  # characters of a proposal


def what_to_write(value: object, node: Schema, look_up: Callable[[Schema], Schema]) -> str:
    """The end of a message, such as "; write 20", with another form of `value` that the schema accepts; "" if none.

    `look_up` returns the schema that a "$ref" stands for.
    """
    for reading in _readings(value):
        if (type(reading), reading) != (type(value), value) and _fits(reading, node, look_up):
            plain = isinstance(reading, str) and reading.isidentifier()
            shown = str(reading) if plain else json.dumps(reading, ensure_ascii=False)
            return f"; write {shown}" if len(shown) <= _LONGEST else ""
    if not isinstance(value, str | list | dict) and value is not None and _fits("text", node, look_up):
        return "; put it in quotes, as it stands there"
    if isinstance(value, list) and _fits(["text"], node, look_up) and not any(isinstance(item, list) for item in value):
        return "; put each in quotes, as it stands there"
    return ""


def _readings(value: object) -> Iterator[object]:
    """Yield other forms of the value, the likeliest first."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        yield int(value)
    if isinstance(value, str):
        yield from _of_text(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1):
        yield bool(value)
    if isinstance(value, list) and len(value) == 1:
        yield value[0]
        yield from _readings(value[0])
    if value is not None and not isinstance(value, list | dict):
        yield [value]


def _of_text(text: str) -> Iterator[object]:
    # Text copied from a PDF or a web page has full-width digits, and the minus sign U+2212 in place of a hyphen.
    plain = unicodedata.normalize("NFKC", text).strip().strip("'\"").replace("\u2212", "-")
    if plain.lower() in _WORDS:
        yield _WORDS[plain.lower()]
    if _THOUSANDS.fullmatch(plain):
        yield resolved(re.sub(r"[ _,']", "", plain))
    if _DECIMAL_COMMA.fullmatch(plain):
        yield from _numbers(plain.replace(",", "."))
    if found := _PERCENT.fullmatch(plain):
        yield float(f"{float(found[1]) / 100:.12g}")
    yield from _numbers(plain)
    yield plain.lower()
    if len(parts := re.split(r"[,;\s]+", plain.strip("()[]"))) > 1 and all(parts):
        yield [resolved(part) for part in parts]


def _numbers(text: str) -> Iterator[object]:
    number = resolved(text)
    if isinstance(number, float) and number.is_integer():
        yield int(number)
    yield number


def _fits(value: object, node: Schema, look_up: Callable[[Schema], Schema]) -> bool:
    """Whether the schema accepts the value, as far as it can tell."""
    node = look_up(node)
    if "anyOf" in node:
        return any(_fits(value, option, look_up) for option in node["anyOf"])
    if "enum" in node or "const" in node:
        return value in node.get("enum", [node.get("const")])
    match node.get("type"):
        case "array":
            items = node.get("items", {})
            return isinstance(value, list) and all(_fits(item, items, look_up) for item in value)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool) and _within(value, node)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and _within(value, node)
        case "string" | "boolean" | "null" as kind:
            return isinstance(value, {"string": str, "boolean": bool, "null": type(None)}[kind])
    return False


def _within(value: float, node: Schema) -> bool:
    infinity = float("inf")
    inside = node.get("minimum", -infinity) <= value <= node.get("maximum", infinity)
    return bool(inside and node.get("exclusiveMinimum", -infinity) < value < node.get("exclusiveMaximum", infinity))
