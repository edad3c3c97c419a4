"""What the repository promises about itself."""

import re
import tomllib
from pathlib import Path

import metalearn_cli
from metalearn_cli.experiment import load, shipped

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_newest_version_in_the_changelog_is_the_projects():
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_the_public_names_are_frozen_and_exist():
    assert set(metalearn_cli.__all__) == {"Adaptable", "Classifier", "load", "load_classifier"}
    assert all(hasattr(metalearn_cli, name) for name in metalearn_cli.__all__)


def test_every_shipped_config_is_an_experiment_with_a_name_of_its_own():
    experiments = {name: load(name) for name in shipped()}
    assert len({one.name for one in experiments.values()}) == len(experiments)


def test_every_shipped_config_says_what_it_reached_or_that_it_was_not_run():
    for name, path in shipped().items():
        comments = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        assert "Reached" in comments or "Not run" in comments, name


def test_the_readme_installs_with_the_constraints_that_pin_torch():
    assert "torch==" in (ROOT / "constraints.txt").read_text()
    commands = re.findall(r"^.*pip install.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands
    assert all("-c constraints.txt" in command for command in commands)


def test_torch_has_a_floor_and_no_cap():
    assert "torch>=2.11" in PROJECT["dependencies"]
