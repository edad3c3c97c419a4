"""Imports the Python names in an experiment, `package.module` and `package.module:Name`; no other keys run foreign code
(SECURITY.md).

The current folder is never on Python's path, because a file in it (of a stranger's dataset) may have the name of a
module that some library imports. Only modules that an experiment names are also looked for there.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NamedTuple

from metalearn_cli.errors import CheckpointError, ConfigError

_DIGITS = 16  # hexadecimal digits of a SHA-256, which people copy into METALEARN_TRUST


def imported(reference: str, key: str) -> Callable[..., Any]:
    """The class or function that `reference` names.

    If its module is not installed, it is looked for in the folder where the command runs.

    Raises ConfigError, with the key, if the module cannot be imported or has no such class or function.
    """
    module, _, attribute = reference.partition(":")
    try:
        target = getattr(_imported(module), attribute)
    except (Exception, SystemExit) as error:  # an import runs code from outside
        raise ConfigError(f"{key}: {reference} cannot be imported: {first_line(error)}") from error
    if not callable(target):
        raise ConfigError(f"{key}: {reference} is no class or function")
    function: Callable[..., Any] = target
    return function


def module_named(name: str) -> ModuleType:
    """The module `package.module`, which is looked for in the same places as by `imported`.

    Raises ConfigError, without a key in its message, if it cannot be imported.
    """
    try:
        return _imported(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} cannot be imported: {first_line(error)}") from error


def neighbours_of(name: str) -> list[str]:
    """The names of the modules in the same package as `name`; empty if that package was not imported."""
    package = name.rpartition(".")[0]
    folder = getattr(sys.modules.get(package), "__path__", ())
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules(folder)]


def require_trusted_modules(names: Sequence[str], source: str) -> None:
    """Raise CheckpointError if METALEARN_TRUST does not approve, by its whole name, every module that a file names."""
    refused = [name for name in dict.fromkeys(names) if not Call(name, {}).is_trusted()]
    if refused:
        allowed = os.environ.get("METALEARN_TRUST", "").strip()
        listed = ",".join([allowed, *refused] if allowed else refused)
        raise CheckpointError(
            f"{source}: it would run Python code, the module {', '.join(refused)}; "
            f"allow it by: METALEARN_TRUST={listed}"
        )


def _imported(module: str) -> ModuleType:
    _OWN.admit(module.partition(".")[0])
    return importlib.import_module(module)


class Call(NamedTuple):
    """A call that a file asks for: the name of a function, and its arguments by name."""

    function: str
    arguments: Mapping[str, Any]

    def shown(self) -> str:
        """The call as Python writes it."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.function}({shown})" if shown else self.function

    def approval(self) -> str:
        """The entry that METALEARN_TRUST needs: the function's name and, if there are arguments, a digest of them."""
        if not self.arguments:
            return self.function
        digest = hashlib.sha256(json.dumps(dict(self.arguments), sort_keys=True).encode()).hexdigest()
        return f"{self.function}@{digest[:_DIGITS]}"

    def is_trusted(self) -> bool:
        """Whether the person at this machine has approved it."""
        return self.approval() in (entry.strip() for entry in os.environ.get("METALEARN_TRUST", "").split(","))


def first_line(error: BaseException) -> str:
    """The type and the first line of an error that code from outside raised."""
    if isinstance(error, SystemExit):
        return f"it ends the program (SystemExit: {error})"
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


class _OwnModules:
    """The last finder of Python's import system: it finds modules that a person named, and those that they import."""

    def __init__(self) -> None:
        self._folder = ""
        self._names: set[str] = set()

    def admit(self, name: str) -> None:
        """Let the module `name` be found in the current folder, unless it is installed."""
        self._names.discard(name)
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            self._folder = os.getcwd()  # noqa: PTH109
            self._names.add(name)
            if self not in sys.meta_path:
                sys.meta_path.append(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module in the folder; None unless a person, or a module of the folder, imports it."""
        if path is not None or not (name in self._names or _importer() in self._names):
            return None
        spec = PathFinder.find_spec(name, [self._folder])
        if spec is not None:
            self._names.add(name)
        return spec


_OWN = _OwnModules()


def _importer() -> str:
    """The top-level name of the module whose import statement is running."""
    frame = sys._getframe(2)  # the caller of find_spec; the frames above it are Python's own import machinery
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
