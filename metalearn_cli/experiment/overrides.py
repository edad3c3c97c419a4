"""Puts `--set key.path=value` over the values of a file."""

import copy
from collections.abc import Sequence
from typing import Any

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.mistakes import key, shown_value
from metalearn_cli.experiment.yaml_lines import Location, brief, parse_value


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[Location]]:
    """A copy of `values` with each override put in, in order, and the locations that changed.

    A value is read as in a file: `1e-3` is a number, `[1, 2]` a list, `{name: x}` a block. A missing block on the way
    is made; the validation later refuses unknown keys.

    Raises ConfigError if an override is not KEY=VALUE, or if its path goes through a value that is not a block.
    """
    values = copy.deepcopy(values)
    given: list[Location] = []
    for override in overrides:
        name, equals, text = override.partition("=")
        location = tuple(name.split("."))
        if not equals or not all(location):
            raise ConfigError(f"--set {brief(override)}: expected KEY=VALUE, such as algorithm.inner_lr=0.1")
        _put(values, location, parse_value(text, f"--set {brief(name)}"))
        given.append(location)
    return values, given


def _put(values: dict[str, Any], location: tuple[str, ...], value: object) -> None:
    block = values
    for depth, part in enumerate(location[:-1], start=1):
        block = block.setdefault(part, {})
        if not isinstance(block, dict):
            reached = f"{key(location[:depth])} is {shown_value(block)}, not a block with keys"
            raise ConfigError(f"--set {key(location)}: {reached}")
    block[location[-1]] = value
