"""For mkdocstrings: docstrings as Markdown, in which examples are code and entries (`key`: meaning) are lists."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_ENTRY = re.compile(r"^(`[^`\n]+`[^:\n]*: .*)((?:\n {4}.*)*)", re.MULTILINE)


class Docstrings(Extension):
    """griffe, which reads the package for mkdocstrings, calls `on_instance` with everything that it finds."""

    def on_instance(self, *, obj: Object, **_given: Any) -> None:
        """Rewrite the docstring of `obj`, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The docstring with fences around its examples, and with its entries as the points of lists."""
    listed = _ENTRY.sub(r"- \1\2", docstring)
    # Markdown begins a list only behind an empty line or another point.
    apart = re.sub(r"(?m)^(?!- |    )(.*\S)\n(?=- `)", r"\1\n\n", listed)
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", apart)
