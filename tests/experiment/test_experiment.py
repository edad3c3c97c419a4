import re
import subprocess
import sys
from pathlib import Path

import pytest

from metalearn_cli import datasets
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import (
    Experiment,
    dataset_settings,
    from_mapping,
    read_experiment,
    shipped,
    with_overrides,
)
from metalearn_cli.experiment.registry import module_of, names_in

LINES = """\
name: tiny
seed: 3
dataset:  {name: glyphs}
task:     {ways: 5, shots: 1, queries: 5}
backbone: {name: conv4, channels: 32}
algorithm:
  name: maml
  inner_lr: 0.4
  inner_steps: 1
outer:    {lr: 1e-3, meta_batch_size: 8, iterations: 400}
eval:     {inner_steps: 3, queries: 15, episodes: 600, every: 100}
"""

TOY = """\
from typing import Literal
from pydantic import Field
from metalearn_cli.settings import Settings

class Config(Settings):
    name: Literal["toy"] = "toy"
    classes: int = Field(default=10, ge=2)
    mean: tuple[float, ...] = (0.5,)
"""


@pytest.fixture
def experiment_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text=LINES):
        Path("x.yaml").write_text(text)
        return "x.yaml"

    return write


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = tmp_path / "more_datasets"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    (folder / "_private.py").write_text("")
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(folder)])
    yield
    sys.modules.pop("metalearn_cli.datasets.toy", None)


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as error:
        call(*arguments)
    return str(error.value)


def changed(old, new):
    assert old in LINES
    return LINES.replace(old, new)


def test_what_the_file_leaves_out_has_its_default(experiment_file):
    experiment = read_experiment(experiment_file())
    assert (experiment.seed, experiment.outer.optimizer, experiment.execution.mode) == (3, "adam", "auto")
    assert experiment.eval.val_episodes == 200


def test_the_name_in_a_block_picks_the_config_of_that_file(experiment_file):
    algorithm = read_experiment(experiment_file()).algorithm
    assert module_of(algorithm).__name__ == "metalearn_cli.algorithms.maml"
    assert algorithm == module_of(algorithm).Config(inner_lr=0.4, inner_steps=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "inner_steps: 1",
            "inner_step: 1",
            "9: algorithm.inner_step: unknown key; did you mean inner_steps?",
        ),
        ("0.4", "fast", "8: algorithm.inner_lr: found 'fast' (str), expected a number greater than 0"),
        (
            "lr: 1e-3",
            "momentum: 0.9",
            "10: outer.momentum: has no effect unless optimizer is sgd; it is adam",
        ),
        (
            "tiny",
            "../x",
            "1: name: found '../x' (str), expected a folder's name: letters, digits, '.', '_' and '-'",
        ),
        ("task: ", "tasks: ", "4: tasks: unknown key; did you mean task?"),
    ],
)
def test_a_mistake_names_file_line_key_and_what_would_be_right(experiment_file, old, new, message):
    assert refusal(read_experiment, experiment_file(changed(old, new))) == f"x.yaml:{message}"


def test_a_setting_counts_as_read_once_the_choice_that_reads_it_is_made(experiment_file):
    assert read_experiment(experiment_file(), ["outer.optimizer=sgd", "outer.momentum=0.9"]).outer.momentum == 0.9


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(experiment_file):
    text = changed("inner_steps: 1", "inner_step: 1").replace("seed: 3", "seed: x").replace("conv4", "conv5")
    places = [line.split(": ")[:2] for line in refusal(read_experiment, experiment_file(text)).splitlines()]
    assert places == [
        ["x.yaml:2", "seed"],
        ["x.yaml:5", "backbone.name"],
        ["x.yaml:9", "algorithm.inner_step"],
    ]


def test_an_unknown_name_lists_the_folder_and_the_nearest(experiment_file):
    message = refusal(read_experiment, experiment_file(changed("name: maml", "name: mamll")))
    names = ", ".join(names_in("algorithms"))
    assert message == (f"x.yaml:7: algorithm.name: found 'mamll' (str), expected one of {names}; did you mean maml?")


@pytest.mark.parametrize("name", ["__init__", "_private", "../experiment", "3", "[maml]", "{a: 1}", "null"])
def test_a_name_that_is_not_in_the_folder_is_refused(experiment_file, toy, name):
    message = refusal(read_experiment, experiment_file(changed("name: glyphs", f"name: {name}")))
    assert message.startswith("x.yaml:3: dataset.name: found ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "backbone: {name: conv4, channels: 32}\n",
            "",
            "x.yaml: backbone: missing; expected a block with a name",
        ),
        ("{name: conv4, channels: 32}", "", "x.yaml:5: backbone: missing; expected a block with a name"),
        ("{name: conv4, channels: 32}", "conv4", "x.yaml:5: backbone: found 'conv4' (str), expected a block"),
        ("name: conv4, ", "", "x.yaml:5: backbone.name: missing; expected one of "),
        ("name: tiny\n", "", "x.yaml: name: missing; expected text"),
    ],
)
def test_what_is_missing_is_named_once(experiment_file, old, new, message):
    found = refusal(read_experiment, experiment_file(changed(old, new)))
    assert found.startswith(message)
    assert "\n" not in found


def test_an_override_wins_over_the_file(experiment_file):
    experiment = read_experiment(
        experiment_file(), ["algorithm.inner_lr=1e-2", "seed=1", "seed=7", "outer.clip_norm=10"]
    )
    assert (experiment.algorithm.inner_lr, experiment.seed, experiment.outer.clip_norm) == (0.01, 7, 10.0)


def test_an_override_of_the_name_switches_the_settings_of_the_block(experiment_file):
    text = changed(", channels: 32", "")
    assert read_experiment(experiment_file(text), ["backbone.name=mlp", "backbone.hidden=[8]"]).backbone.hidden == [8]


def test_after_a_switch_the_keys_of_the_old_choice_are_unknown(experiment_file):
    message = refusal(read_experiment, experiment_file(), ["backbone.name=mlp"])
    assert message == "x.yaml:5: backbone.channels: unknown key; known are name, hidden, activation, norm"


def test_a_mistake_in_an_override_names_the_override(experiment_file):
    message = refusal(read_experiment, experiment_file(), ["algorithm.inner_stps=3"])
    assert message == "--set algorithm.inner_stps: unknown key; did you mean inner_steps?"


def test_overriding_an_experiment_leaves_it_as_it_is(experiment_file):
    experiment = read_experiment(experiment_file())
    assert with_overrides(experiment, ["task.ways=20"]).task.ways == 20
    assert experiment.task.ways == 5


def test_no_override_gives_an_equal_experiment(experiment_file):
    experiment = read_experiment(experiment_file())
    assert with_overrides(experiment, []) == experiment


def test_an_experiment_of_a_checkpoint_that_is_damaged_says_where_it_came_from(experiment_file):
    values = read_experiment(experiment_file()).model_dump(mode="json")
    message = refusal(from_mapping, {**values, "task": {"ways": "x"}}, "best.pt")
    assert message == "best.pt: task.ways: found 'x' (str), expected an integer from 1 to 65536"


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_an_experiment_that_is_no_mapping_is_refused(values):
    assert refusal(from_mapping, values, "best.pt").startswith("best.pt: found ")


def test_a_new_file_in_the_folder_is_a_new_name(experiment_file, toy):
    experiment = read_experiment(experiment_file(changed("glyphs", "toy, mean: [0.1, 0.2]")))
    assert experiment.dataset.mean == (0.1, 0.2)


def test_names_are_listed_without_an_import_and_without_private_files(toy):
    assert "toy" in names_in("datasets")
    assert "_private" not in names_in("datasets")
    assert "metalearn_cli.datasets.toy" not in sys.modules


def test_prepare_takes_the_settings_of_one_dataset(toy):
    assert dataset_settings("toy", ["dataset.classes=4"]).classes == 4


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("toy", "dataset.clases=4", "--set dataset.clases: unknown key; did you mean classes?"),
        ("toy", "task.ways=4", "--set task.ways: here only the dataset's keys can be set"),
        ("toy", "dataset.name=glyphs", "--set dataset.name: here only the dataset's keys can be set"),
        ("toy", "dataset=4", "--set dataset: here only the dataset's keys can be set"),
        ("tooy", "dataset.classes=4", "prepare: dataset.name: found 'tooy' (str), expected one of "),
    ],
)
def test_prepare_refuses_what_is_not_of_its_dataset(toy, name, override, message):
    assert refusal(dataset_settings, name, [override]).startswith(message)


@pytest.mark.parametrize("reference", ["nowhere.yaml", "a" * 5000, "a\0b", "", "no\nwhere"])
def test_a_file_that_cannot_be_read_is_one_line(experiment_file, reference):
    assert "\n" not in refusal(read_experiment, reference)


def test_a_config_that_ships_is_loaded_by_its_name(experiment_file):
    for name in shipped():
        assert isinstance(read_experiment(name), Experiment)


def test_a_name_near_a_shipped_one_is_told_which(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setattr("metalearn_cli.experiment.shipped", lambda: {"quickstart": tmp_path})
    assert refusal(read_experiment, "quickstrat").endswith("did you mean quickstart?")


def test_importing_the_experiment_imports_no_torch():
    code = "import sys, metalearn_cli.experiment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "key",
    [
        *("task.ways", "task.shots", "task.queries", "outer.meta_batch_size", "outer.iterations", "outer.step_every"),
        *("eval.ways", "eval.inner_steps", "eval.queries", "eval.episodes", "eval.val_episodes", "eval.every"),
        *("execution.chunk", "execution.threads", "backbone.channels", "algorithm.inner_steps"),
    ],
)
@pytest.mark.parametrize("size", [2_000_000_000, 10**30])
def test_a_size_that_no_machine_could_follow_is_refused_with_what_would_be_right(key, size, experiment_file):
    message = refusal(read_experiment, experiment_file(), [f"{key}={size}"])
    assert re.fullmatch(rf"--set {key}: found {size} \(int\), expected an integer from \d+ to \d+(, or null)?", message)
