"""A working folder with a file for every module that Python or a library might look for: none of them is run."""

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from PIL import Image

from tests.commands import SECONDS, Outcome, environment

COMMAND = ["-c", "from metalearn_cli.__main__ import main; main()"]
"""What the script `metalearn` runs; with -P, as a script has its own folder on the path and not the current one."""
# What libraries look for and do without, some only on other systems, and what Python itself reads at its start.
OPTIONAL = [
    *("sitecustomize", "usercustomize", "torch_xla", "torch_npu", "tensorrt", "triton", "optree", "opt_einsum"),
    *("comet_ml", "moviepy", "soundfile", "boto3", "google", "crc32c", "onnx", "scipy", "pandas", "IPython"),
    *("colorama", "shellingham", "olefile", "defusedxml", "pillow_heif", "cupy", "jax", "tensorflow", "paddle", "mlx"),
    *("yappi", "numba", "cython", "numexpr", "matplotlib_inline", "z3", "hypothesis", "pytest", "evil_plugin"),
]  # fmt: skip
IMPORTED = "import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every module of Python, every one that is installed, and those that would be taken if they were."""
    return {*sys.stdlib_module_names, *packages_distributions(), *OPTIONAL} - {"metalearn_cli", "tests"}


@pytest.fixture
def hostile(tmp_path, names) -> Path:
    """A folder with a file of each of the names; what was run stands in `ran`, beside it."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    harm = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n')\nraise ImportError\n"
    for name in names:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(harm)
    plugin = folder / "evil-1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    entry = "evil = evil_plugin:harm"
    (plugin / "entry_points.txt").write_text(f"[torch.backends]\n{entry}\n\n[pydantic]\n{entry}\n")
    os.mkfifo(folder / "matplotlibrc")  # whoever reads it waits for ever
    return folder


@pytest.fixture
def run(hostile, data_dir):
    def run(*arguments: object, how=("-P", *COMMAND), **variables: str) -> Outcome:
        env = environment(data_dir) | variables
        line = [sys.executable, *how, *map(str, arguments)]
        result = subprocess.run(line, cwd=hostile, env=env, capture_output=True, text=True, timeout=SECONDS)
        return Outcome(result.returncode, result.stdout, result.stderr)

    return run


def require_nothing_ran(folder: Path, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
    ran = folder.parent / "ran"
    assert not ran.exists(), ran.read_text().split()


def test_training_measuring_and_adapting_run_none_of_it(run, hostile, tiny_config, support):
    trained = run("train", tiny_config, "--run-dir", "run")
    measured = run("eval", "--checkpoint", "run/checkpoints/best.pt", "--report", "page.html")
    adapted = run(
        *("finetune", "--checkpoint", "run/checkpoints/best.pt", "--support", support, "--query", support),
        *("--output", "mine.pt", "--report", "page.html", "--csv", "answers.csv"),
    )
    require_nothing_ran(hostile, trained, measured, adapted, run("info"), run("--help"))


def test_exporting_runs_none_of_it(run, hostile, tiny_run, support):
    checkpoint = tiny_run / "checkpoints/best.pt"
    exported = run("finetune", "--checkpoint", checkpoint, "--support", support, "--output", "mine.pt2")
    require_nothing_ran(hostile, exported)


@pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux alone")
@pytest.mark.slow
def test_the_other_processes_of_a_run_run_none_of_it(run, hostile, tiny_config):
    require_nothing_ran(hostile, run("train", tiny_config, "--set", "execution.processes=2", "--run-dir", "run"))


def test_the_workers_that_decode_pictures_run_none_of_it(run, hostile, monkeypatch):
    for number in range(3):
        folder = hostile / f"class {number}"
        folder.mkdir()
        picture = Image.new("L", (8, 8), 50 * number)
        picture.putpixel((1, 1), 255)
        for copy in range(1400):
            picture.putpixel((2, 2), copy % 256)
            picture.putpixel((3, 3), copy // 256)
            picture.save(folder / f"{copy}.png")
    settings = [f"dataset.{one}" for one in ("image_size=8", "val_classes=[class 1]", "test_classes=[class 2]")]
    prepared = run(
        *("prepare", "folder", "--source", ".", "--data-dir", hostile.parent / "data", "--json"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    require_nothing_ran(hostile, prepared)
    assert json.loads(prepared.out)["splits"]["train"] == {"classes": 1, "images": 1400}


@pytest.mark.slow
def test_python_with_dash_m_leaves_the_folder_as_soon_as_it_may(run, hostile, tiny_config):
    # Python has imported these, and what the package itself asks for first, before any line of this package is run.
    line = [sys.executable, "-P", "-c", f"import runpy, typing; {IMPORTED}"]
    imported = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    for name in imported:
        (hostile / f"{name}.py").unlink(missing_ok=True)
    require_nothing_ran(hostile, run("train", tiny_config, "--run-dir", "run", how=["-m", "metalearn_cli"]))


def test_an_empty_entry_of_the_path_is_not_the_folder(run, hostile, tiny_config, names):
    for name in sys.stdlib_module_names:  # Python itself looks for these before any line of this package is run
        (hostile / f"{name}.py").unlink(missing_ok=True)
    for name in ("sitecustomize", "usercustomize", "_distutils_hack"):  # the last by setuptools' .pth, where it is
        (hostile / f"{name}.py").unlink(missing_ok=True)
    path = os.pathsep + environment(Path())["PYTHONPATH"]
    require_nothing_ran(hostile, run("train", tiny_config, "--run-dir", "run", PYTHONPATH=path))


OWN = {"name": "custom", "call": "mynet:build", "arguments": {"outputs": 2}}


def test_a_network_of_ones_own_is_found_there_and_what_it_imports_and_nothing_else(run, hostile, tiny_config):
    (hostile / "mynet.py").write_text(
        "def build(outputs):\n    from layers_of_mine import network\n    return network(outputs)\n"
    )
    (hostile / "layers_of_mine.py").write_text(
        "from torch import nn\n"
        "def network(outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, outputs))\n"
    )
    require_nothing_ran(hostile, run("train", tiny_config, "--set", f"backbone={json.dumps(OWN)}", "--run-dir", "run"))


@pytest.mark.slow
def test_a_name_that_is_installed_hides_the_file_of_that_name(run, hostile, tiny_config):
    own = OWN | {"call": "tests.modules:Residual"}
    (hostile / "tests.py").write_text((hostile / "random.py").read_text())
    require_nothing_ran(hostile, run("train", tiny_config, "--set", f"backbone={json.dumps(own)}", "--run-dir", "run"))
