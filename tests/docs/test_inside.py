"""The page on the inside names what there is."""

import re
from importlib import import_module

import pytest

from tests.commands import ROOT

PAGE = (ROOT / "docs/inside.md").read_text()
FUNCTIONS = sorted({
    tuple(found) for found in re.findall(r"\b((?:core|layers|runtime|storage)/[\w/]+)\.(\w+)", PAGE) if found[1] != "py"
})  # fmt: skip
VALUES = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([\w/]+)\.py` \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("place", "name"), FUNCTIONS, ids=str)
def test_every_function_that_it_names_is_there(place, name):
    assert hasattr(import_module("metalearn_cli." + place.replace("/", ".")), name)


@pytest.mark.parametrize(("names", "place"), VALUES)
def test_every_value_that_it_names_is_there(names, place):
    module = import_module("metalearn_cli." + place.replace("/", "."))
    assert all(hasattr(module, name) for name in re.findall(r"`(\w+)`", names))


def test_it_names_files_that_exist():
    for file in re.findall(r"`((?:core|layers|runtime|storage)/[\w/]+\.py)`", PAGE):
        assert (ROOT / "metalearn_cli" / file).exists(), file
    assert len(FUNCTIONS) >= 10
    assert len(VALUES) > 6
