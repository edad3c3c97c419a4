"""Finds the module that the `name` of a block chooses. There are three kinds, and each exports `Config` and `build`.

The folder is the registry of this package. An installed package adds names by entry points (groups
`metalearn.datasets`, `metalearn.backbones`, `metalearn.algorithms`, `metalearn.extractors`: NAME = "package.module"),
and a name with a dot is any module that can be imported. All export a `Config` and a `build`.
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
from metalearn_cli.experiment.mistakes import Mistake, did_you_mean, shown_value
from metalearn_cli.experiment.yaml_lines import Location
from metalearn_cli.references import module_named, neighbours_of
from metalearn_cli.settings import Choice, Settings

ROOMS = {"dataset": "datasets", "backbone": "backbones", "algorithm": "algorithms"}
"""The blocks whose `name` chooses a file, and the folder of these files."""

EXTRACTED = "features"
"""The key of a dataset whose value is also a block with a `name`, which chooses an extractor."""

EVERY_ROOM = {**ROOMS, EXTRACTED: "extractors"}
"""The rooms of all blocks with a name, wherever they stand."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_OWN = "a module of your own has a dot in its name, as package.module"


def names_in(room: str) -> list[str]:
    """The names of this package's own files in the folder `room`; nothing is imported."""
    package = f"metalearn_cli.{room}"
    # The folder is found without importing it, so that the shell's completion waits for no library.
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
    """The module whose `Config` is the class of these settings; its `build` takes them."""
    return sys.modules[type(settings).__module__]


def outside_modules(values: object) -> list[str]:
    """The modules that an experiment names with a dot, and that `read_experiment` would import for it."""
    blocks = [values.get(block) for block in ROOMS] if isinstance(values, dict) else []
    return [name for block in blocks for name in _names_of(block) if "." in name]


def _names_of(block: object) -> Iterator[str]:
    """Yield the names of a block, of its extractor, and of the blocks that it lists (only a mixture lists some)."""
    if isinstance(block, dict):
        if isinstance(name := block.get("name"), str):
            yield name
        yield from _names_of(block.get(EXTRACTED))
        for listed in block.values():
            for inner in listed if isinstance(listed, list) else ():
                yield from _names_of(inner)


def chosen_by(block: str, location: Location, values: object) -> type[Choice] | Mistake:
    """The `Config` that the name at `location` chooses for `block`, or the Mistake if it chooses none."""
    name = values.get("name") if isinstance(values, dict) else None
    if not (isinstance(values, dict) and isinstance(name, str) and _is_a_name(name, EVERY_ROOM[block])):
        return _no_choice(block, location, values)
    try:
        config = config_named(block, name)
    except ConfigError as error:
        return Mistake((*location, "name"), str(error))
    for field, about in config.model_fields.items():
        if about.annotation == tuple[Choice, ...] and isinstance(listed := values.get(field), list):
            inner = [chosen_by(block, (*location, field, place), member) for place, member in enumerate(listed)]
            mistake = next((choice for choice in inner if isinstance(choice, Mistake)), None)
            if mistake is not None:
                return mistake
            config = _with_choices(config, field, tuple(choice for choice in inner if not isinstance(choice, Mistake)))
        elif field == EXTRACTED and about.annotation == Choice | None and values.get(field) is not None:
            extractor = chosen_by(EXTRACTED, (*location, field), values[field])
            if isinstance(extractor, Mistake):
                return extractor
            config = _with_extractor(config, extractor)
    return config


def _is_a_name(name: str, room: str) -> bool:
    """Whether a block may have that name. Entry points are searched last, because that takes a while."""
    return name in names_in(room) or _DOTTED.fullmatch(name) is not None or name in known_names(room)


def _no_choice(block: str, location: Location, values: object) -> Mistake:
    """The mistake of a block that has no name, or an unknown one."""
    names = known_names(EVERY_ROOM[block])
    expected = f"one of {', '.join(names)}"
    if values is None:
        return Mistake(location, f"missing; expected a block with a name, {expected}")
    if not isinstance(values, dict):
        return Mistake(location, f"found {shown_value(values)}, expected a block with a name, {expected}")
    if "name" not in values:
        return Mistake((*location, "name"), f"missing; expected {expected}")
    name = values["name"]
    hint = did_you_mean(name, names) or f"; {_OWN}"
    return Mistake((*location, "name"), f"found {shown_value(name)}, expected {expected}{hint}")


def config_named(block: str, name: str) -> type[Choice]:
    """The `Config` of the file, entry point or module called `name`.

    Raises ConfigError, without the key in its message, if the module cannot be imported or lacks `Config` or `build`.
    """
    room = EVERY_ROOM[block]
    if name in names_in(room):
        config: type[Choice] = import_module(f"metalearn_cli.{room}.{name}").Config
        return config
    targets = {name} if "." in name else {point.value for point in _installed(room) if point.name == name}
    if len(targets) > 1:
        raise ConfigError(f"{name} is in several installed packages: {', '.join(sorted(targets))}; name one of these")
    target = targets.pop()
    return own_config(_required(target), name)


def own_config(module: ModuleType, name: str) -> type[Choice]:
    """The `Config` of a module outside this package, with `name` as the only value of its key `name`.

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


@functools.cache  # here and below: two settings are equal only if their class is the same
def _called(config: type[Settings], module: str, name: str) -> type[Choice]:
    """A subclass of `config` in `module` whose key `name` must be `name`."""
    fields: Any = {"name": (Literal[name], name)}
    made = create_model(config.__name__, __base__=config, __module__=module, __doc__=config.__doc__, **fields)
    return cast("type[Choice]", made)


@functools.cache
def _with_choices(config: type[Choice], field: str, choices: tuple[type[Choice], ...]) -> type[Choice]:
    """A subclass of `config` with these types in a field that lists blocks (only `mixture`)."""
    inner: Any = {field: (tuple[choices], config.model_fields[field])}  # type: ignore[valid-type]
    return create_model(config.__name__, __base__=config, __module__=config.__module__, **inner)


@functools.cache
def _with_extractor(config: type[Choice], extractor: type[Choice]) -> type[Choice]:
    """A subclass of `config` whose key `features` has the type `extractor`."""
    inner: Any = {EXTRACTED: (extractor | None, config.model_fields[EXTRACTED])}
    return create_model(config.__name__, __base__=config, __module__=config.__module__, **inner)
