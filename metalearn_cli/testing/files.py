"""Finds the module to be checked, and builds its settings."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.meanings import meanings
from metalearn_cli.experiment.registry import own_config
from metalearn_cli.references import module_named
from metalearn_cli.settings import Choice

Named = ModuleType | str | Path


def module_at(named: Named) -> ModuleType:
    """The module for a module, a name "package.module", or the path of a .py file.

    Raises ConfigError if it cannot be imported.
    """
    if isinstance(named, ModuleType):
        return named
    if not str(named).endswith(".py"):
        return module_named(str(named))
    spec = importlib.util.spec_from_file_location(Path(named).stem, named)
    if spec is None or spec.loader is None or not Path(named).is_file():
        raise ConfigError(f"{named}: no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def checked_settings(module: ModuleType, settings: dict[str, Any]) -> Choice:
    """The Config with these `settings`. Its docstring must explain each key, and YAML must keep all values."""
    config = own_config(module, module.__name__.rpartition(".")[2])
    chosen = config(**settings)
    unexplained = [key for key in config.model_fields if key != "name" and key not in meanings(config)]
    assert not unexplained, f"the docstring of Config has no entry `key`: meaning for {', '.join(unexplained)}"
    again = config.model_validate_json(chosen.model_dump_json())
    assert again == chosen, f"the settings do not come back from a file: found {again!r}, expected {chosen!r}"
    return chosen
