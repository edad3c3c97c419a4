"""What the repository promises about itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import metalearn_cli.pytest_plugin
from metalearn_cli.experiment import read_experiment, shipped

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_newest_version_in_the_changelog_is_the_projects():
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_the_public_names_are_frozen_and_exist():
    assert set(metalearn_cli.__all__) == {
        "Adaptable", "Classifier", "Examples", "Experiment", "Learner", "Problem", "Regressor", "Report", "Result",
        "Rule", "Task", "evaluate", "grown", "load", "load_classifier", "load_experiment", "train",
    }  # fmt: skip
    assert all(getattr(metalearn_cli, name).__name__ == name for name in metalearn_cli.__all__)
    assert set(metalearn_cli.__all__) <= set(dir(metalearn_cli))


def test_importing_the_library_imports_no_torch():
    code = "import sys, metalearn_cli; dir(metalearn_cli); metalearn_cli.load_experiment; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "False\n"


def test_pytest_finds_the_options_of_the_checks():
    [(name, module)] = PROJECT["entry-points"]["pytest11"].items()
    assert name == module == metalearn_cli.pytest_plugin.__name__


def test_every_shipped_config_is_an_experiment_with_a_name_of_its_own():
    experiments = {name: read_experiment(name) for name in shipped()}
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


def test_lines_of_the_kernels_are_as_long_as_those_of_python_at_most():
    sources = sorted((ROOT / "metalearn_cli/layers/cpu/cpp").glob("*.[ch]*"))
    long = [
        f"{file.name}:{i}"
        for file in sources
        for i, line in enumerate(file.read_text().splitlines(), 1)
        if len(line) > 120
    ]
    assert len(sources) > 3
    assert not long
