"""Writes docs/reference.md from the types, bounds, defaults and docstrings of all that an experiment may hold.

python -m docs.generator.reference
"""

import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from metalearn_cli.backbones.layers import AnyLayer
from metalearn_cli.datasets import Files, Official, Pictures
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.meanings import description_of, meanings
from metalearn_cli.experiment.mistakes import words
from metalearn_cli.experiment.registry import EVERY_ROOM, names_in
from metalearn_cli.settings import Choice, Settings

PAGE = Path(__file__).parent.parent / "reference.md"
_SHARED = {Pictures: "Datasets of pictures", Files: "Datasets from files", Official: "Published datasets"}
_HEAD = """\
<!-- Written by `python -m docs.generator.reference`; change the docstrings instead. -->
# Every key of an experiment

An experiment is a YAML file of the blocks below. A key that is left out has its default; an unknown one is an error,
as is a value of another type or out of bounds. Any key can be set for one run: `--set outer.lr=3.0e-4`. `metalearn info
--schema` gives the same to an editor, as a JSON Schema.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_experiment(), *(line for block in EVERY_ROOM for line in _room(block))]).rstrip() + "\n"


def _experiment() -> Iterator[str]:
    yield from _section("##", "The experiment", description_of(Experiment), Experiment)
    for name, field in Experiment.model_fields.items():
        block = field.annotation
        if isinstance(block, type) and issubclass(block, Settings) and not issubclass(block, Choice):
            yield from _section("##", f"`{name}`", description_of(block), block)


def _room(block: str) -> Iterator[str]:
    """All that the name of a block may pick, a section each."""
    yield f"## `{block}`\n\n`{block}.name` is one of these; each has keys of its own.\n"
    if block == "dataset":
        for shared, title in _SHARED.items():
            yield from _section("###", title, description_of(shared), shared)
    for name in names_in(EVERY_ROOM[block]):
        module = import_module(f"metalearn_cli.{EVERY_ROOM[block]}.{name}")
        text = f"{_prose(module.__doc__ or '')}\n\n{description_of(module.Config)}"
        yield from _section("###", f"`{name}`", text, module.Config)
        if name == "layers":
            for layer in get_args(AnyLayer):
                yield from _section("####", ", ".join(map(_code, _kinds(layer))), description_of(layer), layer)


def _section(level: str, title: str, text: str, block: type[Settings]) -> Iterator[str]:
    own = [key for key in block.model_fields if key in block.__annotations__ and key not in ("kind", "name")]
    own = ["name", *own] if block is Experiment else own
    yield f"{level} {title}\n\n{_linked(text)}\n"
    if parent := next((_SHARED[one] for one in block.__mro__[1:] if one in _SHARED), ""):
        yield f"All keys of [{parent.lower()}](#{parent.lower().replace(' ', '-')}){', and' if own else '.'}\n"
    if own:
        yield "| key | type | unit | default | meaning |\n|---|---|---|---|---|"
        yield from (_row(key, block) for key in own)
        yield ""


def _row(key: str, block: type[Settings]) -> str:
    field, meaning = block.model_fields[key], meanings(block)[key]
    kind = field.annotation
    if block is Experiment and isinstance(kind, type) and issubclass(kind, Settings):
        cells = [f"[block](#{key})", "", "must be given" if field.is_required() else "its keys' defaults"]
    else:
        schema = block.model_json_schema()
        expected = re.sub(r"^(a|an) ", "", words(schema["properties"][key], schema)).replace(str(2**63 - 1), "2^63 - 1")
        default = "must be given" if field.is_required() else _code(json.dumps(field.get_default()))
        cells = [expected, meaning.unit, default]
    return f"| {' | '.join([_code(key), *cells, _linked(meaning.text)])} |"


def _kinds(layer: type[Settings]) -> tuple[Any, ...]:
    return get_args(layer.model_fields["kind"].annotation)


def _prose(docstring: str) -> str:
    """A module's docstring without its legend, with its example as YAML."""
    parts = [one for one in inspect.cleandoc(docstring).split("\n\n") if "Legend:" not in one]
    return "\n\n".join(f"```yaml\n{inspect.cleandoc(one)}\n```" if one.startswith(" ") else one for one in parts)


def _linked(text: str) -> str:
    """Addresses and pages as links."""
    pages = re.sub(r"docs/(\w+\.md)", r"[\1](\1)", text)
    return re.sub(r"https://[^\s()]+(?:\([^\s()]*\))?[^\s().,;]*", lambda found: f"<{found[0]}>", pages)


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    PAGE.write_text(page())
