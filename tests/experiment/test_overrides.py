import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.overrides import overridden

VALUES = {"seed": 1, "task": {"ways": 5, "shots": 1}}


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("seed=2", {"seed": 2, "task": {"ways": 5, "shots": 1}}),
        ("seed=", {"seed": None, "task": {"ways": 5, "shots": 1}}),
        ("task.ways=1e-3", {"seed": 1, "task": {"ways": 0.001, "shots": 1}}),
        ("task.ways=[1, no]", {"seed": 1, "task": {"ways": [1, "no"], "shots": 1}}),
        ("task={ways: 20}", {"seed": 1, "task": {"ways": 20}}),
        ("task.ways=a=b", {"seed": 1, "task": {"ways": "a=b", "shots": 1}}),
        ("outer.lr=1", {**VALUES, "outer": {"lr": 1}}),
    ],
)
def test_an_override_replaces_one_value(override, values):
    assert overridden(VALUES, [override])[0] == values


def test_the_last_of_two_overrides_wins():
    assert overridden(VALUES, ["seed=2", "seed=3"])[0]["seed"] == 3


def test_the_values_given_stay_as_they_are():
    overridden(VALUES, ["task.ways=2"])
    assert VALUES["task"]["ways"] == 5


def test_it_says_where_the_overrides_went():
    assert overridden(VALUES, ["task.ways=2", "seed=3"])[1] == [("task", "ways"), ("seed",)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.ways.x=1", "--set task.ways.x: task.ways is 5 (int), not a block with keys"),
        ("task.ways=[1", "--set task.ways: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("task.ways", "--set task.ways: expected KEY=VALUE, such as algorithm.inner_lr=0.1"),
        ("=3", "--set =3: expected KEY=VALUE, such as algorithm.inner_lr=0.1"),
        ("task.=3", "--set task.=3: expected KEY=VALUE, such as algorithm.inner_lr=0.1"),
        ("a\nb=[", "--set 'a\\nb': not YAML: "),
    ],
)
def test_what_is_no_override_is_refused_in_one_line(override, message):
    with pytest.raises(ConfigError) as error:
        overridden(VALUES, [override])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
