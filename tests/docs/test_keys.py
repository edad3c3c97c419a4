"""The keys and values that the pages name are those of an experiment."""

import re
from importlib import import_module

import pytest
import yaml
from torch import nn

from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.experiment.registry import ROOMS, names_in
from tests.commands import ROOT, TINY

PAGES = {page.name: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))} | {
    "README.md": (ROOT / "README.md").read_text()
}
CONFIGS = {
    block: {name: import_module(f"metalearn_cli.{room}.{name}").Config for name in names_in(room)}
    for block, room in ROOMS.items()
}
ADDED_BY_A_READER = {"tensor_rates", "two_convolutions", "stripes"}


def known(block):
    """All keys that a block may have."""
    if block in CONFIGS:
        return {"name"} | {key for config in CONFIGS[block].values() for key in config.model_fields}
    return set(Experiment.model_fields[block].annotation.model_fields)


BLOCKS = [*CONFIGS, "task", "outer", "eval", "checkpoint", "execution"]
DOTTED = re.compile(rf"(?<![\w./])({'|'.join(BLOCKS)})\.(\w+)(?=[=:` ])")
INLINE = re.compile(rf"(?<![\w./])({'|'.join(BLOCKS)}): (\{{[^{{}}`\n]*\}})")


@pytest.mark.parametrize("page", PAGES)
def test_every_key_with_its_block_exists(page):
    text = PAGES[page].replace("data.md", "")
    named = {(block, key) for block, key in DOTTED.findall(text) if key not in ("md", "py", "pt", "yaml")}
    assert {(block, key) for block, key in named if key not in known(block)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_on_one_line_has_keys_that_exist_and_fit_together(page):
    for block, text in INLINE.findall(PAGES[page]):
        found = yaml.safe_load(text.replace("...", "null"))
        config = CONFIGS.get(block, {}).get(found.get("name"))
        if found.get("name") not in ADDED_BY_A_READER:
            assert set(found) <= (set(config.model_fields) if config else known(block)), f"{block}: {text}"


def test_the_network_of_maml_pytorch_is_the_same_size_here():
    [written] = re.findall(r"<!-- omniglot_train.py -->\n```yaml\n(.*?)```", PAGES["coming-from.md"], re.DOTALL)
    experiment = from_mapping(TINY | yaml.safe_load(written), "page")
    network = import_module("metalearn_cli.backbones.layers").build(experiment.backbone, (1, 28, 28), 5)
    theirs = [nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 2), nn.Linear(64, 5)]
    norms = [nn.BatchNorm2d(64) for _ in range(4)]
    assert size(network) == sum(map(size, theirs + norms))


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())
