"""Python names in an experiment, `package.module:Name`: the only keys that run somebody else's code (SECURITY.md)."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from metalearn_cli.errors import ConfigError


def imported(reference: str, key: str) -> Callable[..., Any]:
    """The class or function that `reference` names.

    Modules are also looked for in the folder where the command runs.

    Raises ConfigError, with the key, for one that is not there.
    """
    module, _, attribute = reference.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.append(os.getcwd())  # noqa: PTH109  # last, so that a file there hides no library
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an import runs somebody else's code
        raise ConfigError(f"{key}: {reference} cannot be imported: {reason(error)}") from error
    if not callable(found):
        raise ConfigError(f"{key}: {reference} is no class or function")
    made: Callable[..., Any] = found
    return made


def reason(error: Exception) -> str:
    """The first line of an error of somebody else's code."""
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]
