"""The schema says of an experiment what the program says of it."""

import jsonschema
import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping, read_experiment, shipped, to_yaml
from metalearn_cli.experiment.registry import ROOMS, names_in
from metalearn_cli.experiment.schema import experiment_schema
from metalearn_cli.experiment.yaml_lines import parse, read
from tests.commands import TINY

SCHEMA = experiment_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
BLOCKS = [(block, name) for block, room in ROOMS.items() for name in names_in(room)]
NEEDS = {
    "custom": {"call": "mynet:build"},
    "mixture": {"of": [{"name": "glyphs"}]},
    "layers": {"layers": ["flatten", "linear"]},
}
GLYPHS = {"name": "glyphs", "classes": 24}


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_config_is_valid_as_written_and_with_every_key(name):
    CHECK.validate(read(shipped()[name]).values)
    CHECK.validate(parse(to_yaml(read_experiment(name)), "yaml").values)


@pytest.mark.parametrize(("block", "name"), BLOCKS)
def test_every_file_of_a_folder_is_an_alternative(block, name):
    CHECK.validate(TINY | {block: {"name": name} | NEEDS.get(name, {})})
    assert not CHECK.is_valid(TINY | {block: {"name": name, "no_such_key": 1} | NEEDS.get(name, {})})


@pytest.mark.parametrize(
    "change",
    [
        {"no_such_block": 1},
        {"task": {"way": 5}},
        {"task": {"ways": 0}},
        {"task": {"ways": "five"}},
        {"algorithm": {"name": "no_such"}},
        {"algorithm": {"inner_lr": 0.4}},
        {"algorithm": {"name": "maml", "second_order": "yes"}},
        {"backbone": {"name": "layers", "layers": ["no_such", "linear"]}},
        {"backbone": {"name": "layers", "layers": [{"conv2d": {"kernel": 3}}, "linear"]}},
        {"dataset": {"name": "mixture", "of": [{"name": "glyphs", "no_such_key": 1}]}},
        {"sinks": "tensorboard"},
    ],
)
def test_what_the_program_refuses_the_schema_refuses(change):
    assert not CHECK.is_valid(TINY | change)
    with pytest.raises(ConfigError):
        from_mapping(TINY | change, "test")


@pytest.mark.parametrize(
    "change",
    [
        {
            "backbone": {
                "name": "layers",
                "layers": [{"conv2d": {"channels": 4}}, "bn", {"relu": {}}, "flatten", "linear"],
            }
        },
        {"dataset": {"name": "mixture", "of": [GLYPHS, {"name": "omniglot"}]}},
        {"sinks": ["tensorboard", "mine:Sink"]},
    ],
)
def test_what_the_program_takes_the_schema_takes(change):
    CHECK.validate(TINY | change)
    from_mapping(TINY | change, "test")


def test_every_key_is_described_and_has_its_default():
    nodes = {"": SCHEMA} | SCHEMA["$defs"]
    keys = {(name, key): about for name, node in nodes.items() for key, about in node["properties"].items()}
    assert [key for key, about in keys.items() if not about.get("description")] == []
    assert keys["Outer", "lr"]["default"] == 1e-3
