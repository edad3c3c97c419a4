"""Which code the `name` of a block picks: a file of this package's folders, an installed package's, or one's own.

The folder is the registry of this package. An installed package adds names by entry points (groups
`metalearn.datasets`, `metalearn.backbones`, `metalearn.algorithms`: NAME = "package.module"), and a name with a dot is
any module that can be imported. All three export a `Config` and a `build`.
"""

import functools
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, cast

from pydantic import create_model

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.mistakes import Mistake, did_you_mean, found
from metalearn_cli.experiment.yaml_lines import Location
from metalearn_cli.references import module_named, neighbours_of
from metalearn_cli.settings import Choice, Settings

ROOMS = {"dataset": "datasets", "backbone": "backbones", "algorithm": "algorithms"}
"""The blocks whose `name` picks a file, and the folder it is in."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_OWN = "a module of your own has a dot in its name, as package.module"


def names_in(room: str) -> list[str]:
    """The names of this package's own files in the folder `room`; nothing is imported."""
    package = f"metalearn_cli.{room}"
    # Found and not imported where nobody has yet, so that the shell's completion waits for no library.
    spec = None if package in sys.modules else find_spec(package)
    folder = spec.submodule_search_locations if spec else import_module(package).__path__
    modules = [module for module in pkgutil.iter_modules(folder) if not module.ispkg]
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def known_names(room: str) -> list[str]:
    """The names that can be written without a dot: those of the folder and those of installed packages."""
    return sorted({*names_in(room), *(point.name for point in _installed(room))})


def _installed(room: str) -> list[EntryPoint]:
    return list(entry_points(group=f"metalearn.{room}"))


def module_of(settings: Choice) -> ModuleType:
    """The module whose `Config` these settings are; its `build` takes them."""
    return sys.modules[type(settings).__module__]


def outside_modules(values: object) -> list[str]:
    """The modules that an experiment names with a dot, and that `load` would import for it."""
    blocks = [values.get(block) for block in ROOMS] if isinstance(values, dict) else []
    return [name for block in blocks for name in _names_of(block) if "." in name]


def _names_of(block: object) -> Iterator[str]:
    """The name of a block, and those of the blocks that it lists, as a mixture does; the same that are imported."""
    if isinstance(block, dict):
        if isinstance(name := block.get("name"), str):
            yield name
        for listed in block.values():
            for inner in listed if isinstance(listed, list) else ():
                yield from _names_of(inner)


def chosen_by(block: str, location: Location, values: object) -> type[Choice] | Mistake:
    """The `Config` that the name at `location` picks for `block`."""
    name = values.get("name") if isinstance(values, dict) else None
    if not (isinstance(values, dict) and isinstance(name, str) and _is_a_name(name, ROOMS[block])):
        return _no_choice(block, location, values)
    try:
        config = config_named(block, name)
    except ConfigError as error:
        return Mistake((*location, "name"), str(error))
    for field, about in config.model_fields.items():
        if about.annotation == tuple[Choice, ...] and isinstance(listed := values.get(field), list):
            inner = [chosen_by(block, (*location, field, place), one) for place, one in enumerate(listed)]
            mistake = next((one for one in inner if isinstance(one, Mistake)), None)
            if mistake is not None:
                return mistake
            config = _with_choices(config, field, tuple(one for one in inner if not isinstance(one, Mistake)))
    return config


def _is_a_name(name: str, room: str) -> bool:
    """Whether a block may have that name; the installed packages, which take a while, are asked last."""
    return name in names_in(room) or _DOTTED.fullmatch(name) is not None or name in known_names(room)


def _no_choice(block: str, location: Location, values: object) -> Mistake:
    """What is wrong with a block that has no name, or one that nothing is called by."""
    names = known_names(ROOMS[block])
    expected = f"one of {', '.join(names)}"
    if values is None:
        return Mistake(location, f"missing; expected a block with a name, {expected}")
    if not isinstance(values, dict):
        return Mistake(location, f"found {found(values)}, expected a block with a name, {expected}")
    if "name" not in values:
        return Mistake((*location, "name"), f"missing; expected {expected}")
    name = values["name"]
    hint = did_you_mean(name, names) or f"; {_OWN}"
    return Mistake((*location, "name"), f"found {found(name)}, expected {expected}{hint}")


def config_named(block: str, name: str) -> type[Choice]:
    """The `Config` of the file, entry point or module that is called `name`.

    Raises ConfigError, which does not name the key, if it cannot be imported or is not such a module.
    """
    room = ROOMS[block]
    if name in names_in(room):
        config: type[Choice] = import_module(f"metalearn_cli.{room}.{name}").Config
        return config
    targets = {name} if "." in name else {point.value for point in _installed(room) if point.name == name}
    if len(targets) > 1:
        raise ConfigError(f"{name} is in several installed packages: {', '.join(sorted(targets))}; name one of these")
    target = targets.pop()
    return own_config(_required(target), name)


def own_config(module: ModuleType, name: str) -> type[Choice]:
    """The `Config` of a module that is not of this package; its `name` is what the experiment calls it.

    Raises ConfigError if the module lacks a `Config` or a `build`.
    """
    config, build = getattr(module, "Config", None), getattr(module, "build", None)
    if not (isinstance(config, type) and issubclass(config, Settings)):
        raise ConfigError(f"{module.__name__} has no class Config that derives from metalearn_cli.settings.Choice")
    if not callable(build):
        raise ConfigError(f"{module.__name__} has no function build")
    return _called(config, module.__name__, name)


def _required(target: str) -> ModuleType:
    try:
        return module_named(target)
    except ConfigError as error:
        raise ConfigError(f"{error}{did_you_mean(target, neighbours_of(target))}") from error


@functools.cache
def _called(config: type[Settings], module: str, name: str) -> type[Choice]:
    """The config with that name for its name, of that module; always the same class for the same."""
    one: Any = {"name": (Literal[name], name)}
    made = create_model(config.__name__, __base__=config, __module__=module, __doc__=config.__doc__, **one)
    return cast("type[Choice]", made)


@functools.cache
def _with_choices(config: type[Choice], field: str, choices: tuple[type[Choice], ...]) -> type[Choice]:
    """The config with these types in a field of several blocks; always the same class for the same types."""
    inner: Any = {field: (tuple[choices], config.model_fields[field])}  # type: ignore[valid-type]
    return create_model(config.__name__, __base__=config, __module__=config.__module__, **inner)
