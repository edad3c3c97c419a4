"""What the how-to pages give to copy works as it stands."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metalearn_cli.cli.proposal import Room, training
from metalearn_cli.experiment import read_experiment
from tests.commands import ROOT, environment

OWN = (ROOT / "docs/own-pictures.md").read_text()
ADDED = (ROOT / "docs/add-your-own.md").read_text()
SMALL = " --set dataset.image_size=32"
SHORT = SMALL + " --set outer.iterations=2 --set eval.every=2 --set eval.val_episodes=4 --set backbone.channels=4"


def blocks(page):
    """The text of every block of a page that has a mark, by its mark."""
    return dict(re.findall(r"<!-- ([^>]+) -->\n```\w+\n(.*?)```", page, re.DOTALL))


def typed(command, folder, data_dir, **variables):
    programs = folder / "programs"
    if not programs.exists():
        programs.mkdir()
        (programs / "metalearn").write_text(f'#!/bin/sh\nexec {sys.executable} -m metalearn_cli "$@"\n')
        (programs / "metalearn").chmod(0o755)
    env = environment(data_dir) | variables
    env["PATH"] = f"{programs}:{env['PATH']}"
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def coloured(place: Path, kinds, each):
    """A folder of pictures for each kind, all of one colour of its own with some noise."""
    for kind in kinds:
        generator = np.random.default_rng(kind)
        colour = generator.integers(40, 215, 3)
        for number in range(each):
            (place / f"kind{kind}").mkdir(parents=True, exist_ok=True)
            pixels = np.clip(colour + generator.normal(0, 20, (30, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"kind{kind}" / f"{number}.jpg")


def test_a_collection_of_ones_own_is_prepared_trained_on_and_used(tmp_path, data_dir):
    given = blocks(OWN)
    coloured(tmp_path / "birds", range(27), 25)
    coloured(tmp_path / "new_kinds", range(100, 105), 2)
    coloured(tmp_path / "garden", range(100, 105), 1)
    Image.new("RGB", (50, 50), "red").save(tmp_path / "another.jpg")
    typed(given["prepare"].rstrip("\n") + SMALL, tmp_path, data_dir)
    dry_run, train, measure = given["train"].splitlines()
    for command in (dry_run, train):
        typed(command + SHORT, tmp_path, data_dir)
    typed(measure + " --episodes 4", tmp_path, data_dir)
    typed(given["use"], tmp_path, data_dir)
    assert (tmp_path / "answers.csv").read_text().startswith("file,predicted,probability")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder that has nothing of the package, with the files of the page in it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine").mkdir()
    for name, text in blocks(ADDED).items():
        if name.endswith((".py", ".yaml")):
            (folder / name).write_text(text)
    return folder


def test_the_three_files_of_ones_own_pass_their_checks_as_typed(own, data_dir):
    typed(blocks(ADDED)["check"].replace("python -c", f"{sys.executable} -c"), own, data_dir)
    options = "-q -p no:cacheprovider -p no:xdist --rootdir . -c /dev/null"
    assert "3 passed" in typed(f"{sys.executable} -m pytest {options} mine/test_mine.py", own, data_dir)
    line = blocks(ADDED)["pytest"].removeprefix("pytest ")
    # Loaded by its name as well, for a checkout whose installation is older than the entry point.
    plugin = "-p metalearn_cli.pytest_plugin"
    assert "3 passed" in typed(f"{sys.executable} -m pytest {options} {plugin} {line}", own, data_dir)


def test_a_file_that_is_wrong_fails_and_a_run_without_a_file_is_an_error(own, data_dir):
    options = "-q -p no:cacheprovider -p no:xdist -p metalearn_cli.pytest_plugin --pyargs metalearn_cli.testing"
    pytest_line = f"{sys.executable} -m pytest {options} --rootdir . -c /dev/null"
    wrong = typed(f"{pytest_line} --algorithm mine.two_convolutions || true", own, data_dir)
    assert "1 failed" in wrong
    assert "nothing to check" in typed(f"{pytest_line} 2>&1 || true", own, data_dir)


def test_the_three_files_of_ones_own_are_found_and_their_meta_gradient_is_exact(own, data_dir):
    errors = re.findall(
        r"(?:error|_error)\": ([\d.e-]+)", typed("metalearn train mine.yaml --dry-run --json", own, data_dir)
    )
    assert len(errors) == 3
    assert all(float(error) < 1e-6 for error in errors)


@pytest.mark.slow
def test_the_three_files_of_ones_own_learn_together(own, data_dir):
    train = "metalearn train mine.yaml --set outer.iterations=30 --set eval.every=30 --run-dir run --json"
    assert float(re.findall(r'"accuracy": ([\d.]+)', typed(train, own, data_dir))[-1]) > 0.4
    assert "mine.stripes: prepared, 60 classes, 1,200 pictures" in typed("metalearn info", own, data_dir)


def test_the_files_of_ones_own_pass_what_the_repository_asks_of_its_own(own):
    ruff = pytest.importorskip("ruff", reason="ruff is not installed: pip install 'metalearn-cli[dev]'")
    files = [str(own / name) for name in blocks(ADDED) if name.endswith(".py") and "test_" not in name]
    for command in (["check"], ["format", "--check"]):
        options = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", *files]
        done = subprocess.run([sys.executable, "-m", ruff.__name__, *command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["one machine", "several machines", "job.sh"])
def test_shell_lines_for_several_gpus_are_shell(name):
    text = blocks((ROOT / "docs/several-gpus.md").read_text())[name]
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    assert "-m metalearn_cli train my.yaml" in text


@pytest.mark.parametrize("page", ["README.md", "docs/own-pictures.md", "docs/tutorial.md"])
def test_every_page_gives_the_one_recipe_for_ones_own_pictures(page):
    assert "photos/5way5shot" in (ROOT / page).read_text()
    assert "birds.yaml\n" not in (ROOT / page).read_text()


def test_the_recipe_is_what_prepare_proposes():
    many = {part: {f"{part}{kind}": 30 for kind in range(9)} for part in ("train", "val", "test")}
    line = training("folder", ["dataset.title=birds"], Room(many, (84, 84, 3)), None)
    assert line in blocks(OWN)["train"].splitlines()
    assert line in (ROOT / "README.md").read_text().splitlines()


@pytest.mark.parametrize("line", [*blocks(OWN)["train"].splitlines()[:2], blocks(OWN)["longer"].strip()])
def test_the_experiments_for_ones_own_pictures_are_some(line):
    words = shlex.split(line)
    sets = [value for option, value in pairwise(words) if option == "--set"]
    assert read_experiment(words[2], sets).dataset.title == "birds"
