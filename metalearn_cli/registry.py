"""The folder is the registry: which files a block of an experiment may pick, and what a pick means."""

import functools
import pkgutil
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from pydantic import create_model

from metalearn_cli.mistakes import Mistake, did_you_mean, found
from metalearn_cli.settings import Choice
from metalearn_cli.yaml_lines import Location

ROOMS = {"dataset": "datasets", "backbone": "backbones", "algorithm": "algorithms"}
"""The blocks whose `name` picks a file, and the folder it is in."""


def names_in(room: str) -> list[str]:
    """The names that a block may pick from the folder `room`; nothing is imported."""
    package = f"metalearn_cli.{room}"
    # Found and not imported where nobody has yet, so that the shell's completion waits for no library.
    spec = None if package in sys.modules else find_spec(package)
    folder = spec.submodule_search_locations if spec else import_module(package).__path__
    modules = [module for module in pkgutil.iter_modules(folder) if not module.ispkg]
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def module_of(settings: Choice) -> ModuleType:
    """The file whose `Config` these settings are; its `build` takes them."""
    return sys.modules[type(settings).__module__]


def chosen_by(block: str, location: Location, values: object) -> type[Choice] | Mistake:
    """The `Config` that the name at `location` picks from the folder of `block`."""
    names = names_in(ROOMS[block])
    expected = f"one of {', '.join(names)}"
    if values is None:
        return Mistake(location, f"missing; expected a block with a name, {expected}")
    if not isinstance(values, dict):
        return Mistake(location, f"found {found(values)}, expected a block with a name, {expected}")
    if "name" not in values:
        return Mistake((*location, "name"), f"missing; expected {expected}")
    if (name := values["name"]) not in names:
        return Mistake((*location, "name"), f"found {found(name)}, expected {expected}{did_you_mean(name, names)}")
    config: type[Choice] = import_module(f"metalearn_cli.{ROOMS[block]}.{name}").Config
    for field, about in config.model_fields.items():
        if about.annotation == tuple[Choice, ...] and isinstance(listed := values.get(field), list):
            inner = [chosen_by(block, (*location, field, place), one) for place, one in enumerate(listed)]
            mistake = next((one for one in inner if isinstance(one, Mistake)), None)
            if mistake is not None:
                return mistake
            config = _with_choices(config, field, tuple(one for one in inner if not isinstance(one, Mistake)))
    return config


@functools.cache
def _with_choices(config: type[Choice], field: str, choices: tuple[type[Choice], ...]) -> type[Choice]:
    """The config with these types in a field of several blocks; always the same class for the same types."""
    inner: Any = {field: (tuple[choices], config.model_fields[field])}  # type: ignore[valid-type]
    return create_model(config.__name__, __base__=config, __module__=config.__module__, **inner)
