"""The messages that the page explains are those of the package, word by word."""

import ast
import re
from functools import cache

import pytest

from tests.commands import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
ELLIPSIS = "…"


def text_of(node: ast.AST) -> str:
    """A text of the source, with dots for what is put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else ELLIPSIS for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@cache
def texts() -> set[str]:
    sources = [path.read_text() for path in (ROOT / "metalearn_cli").rglob("*.py")]
    return {text for source in sources for node in ast.walk(ast.parse(source)) if (text := text_of(node))}


def occurs(message: str) -> bool:
    """Whether one text of the package has all that stands between the dots, in this order."""
    parts = [re.escape(part) for part in message.split(ELLIPSIS)]
    return any(re.search(".*".join(parts), text, re.DOTALL) for text in texts())


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_that_is_explained_is_one_of_the_package(message):
    assert occurs(message)


def test_a_message_that_is_none_is_found():
    assert len(QUOTED) > 20
    assert not occurs("…: holds a run already; add --continue to go on with it")
