"""A downloaded folder that the command runs in, with files named like what Python and libraries import or read.

A fault is a folder with fifty such names, as a module, a package, compiled, or as a file of settings, and one command
run there as the installed script runs it. Whatever the command does, nothing of the folder may have been run.
"""

import json
import py_compile
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from random import Random

from tests.faults import Totals
from tests.faults._honest import class_folders
from tests.faults._ledger import SCRIPT, Ledger, Lost, command
from tests.faults._runs import PICTURES

SHORT, LONG = 3, 80
_SHARE = 50
_OPTIONAL = (
    *("sitecustomize", "usercustomize", "torch_xla", "torch_npu", "tensorrt", "triton", "optree", "opt_einsum"),
    *("comet_ml", "moviepy", "soundfile", "boto3", "google", "onnx", "scipy", "pandas", "IPython", "colorama"),
    *("shellingham", "olefile", "defusedxml", "pillow_heif", "cupy", "jax", "tensorflow", "numba", "cython", "z3"),
)
_OWN = {"metalearn_cli", "benchmarks", "tests"}


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` folders."""
    ledger, data = Ledger("working_folder", seed), scratch / "data"
    experiment = scratch / "small.yaml"
    experiment.write_text(json.dumps(PICTURES))
    pictures = scratch / "pictures"
    for member, content in class_folders(Random(0)).items():
        (pictures / member).parent.mkdir(parents=True, exist_ok=True)
        (pictures / member).write_bytes(content)
    for name in ("class0", "class1"):
        shutil.copytree(pictures / name, scratch / "two" / name)
    command(data, "train", experiment, "--run-dir", scratch / "run", "--quiet").require_answered()
    checkpoint, commands = scratch / "run/checkpoints/best.pt", sorted(_COMMANDS)
    for number in range(count):
        random, folder, told = ledger.random(), scratch / f"downloaded{number}", list[str]()
        with ledger.fault(lambda told=told: " ".join(told)):
            ran = scratch / f"ran{number}"
            _plant(random, folder, ran, told)
            told.append(name := commands[number % len(commands)])
            line = _COMMANDS[name](experiment, checkpoint, pictures)
            ended = command(data, *line, folder=folder, how=SCRIPT)
            ended.require_answered()
            if ran.exists():
                raise Lost(f"ran {ran.read_text()!r}")
            if ended.code != 0:
                raise Lost(f"exit code {ended.code}: {ended.err}")
            ledger.count(name)
    return ledger.totals()


_COMMANDS: dict[str, Callable[[Path, Path, Path], list[object]]] = {
    "help": lambda *_all: ["--help"],
    "info": lambda *_all: ["info"],
    "train": lambda experiment, *_rest: ["train", experiment, "--run-dir", "run"],
    "processes": lambda experiment, *_rest: [
        *("train", experiment, "--run-dir", "run", "--set", "execution.processes=2")
    ],
    "dry run": lambda experiment, *_rest: ["train", experiment, "--dry-run"],
    "eval": lambda _experiment, checkpoint, _pictures: ["eval", "--checkpoint", checkpoint, "--report", "page.html"],
    "prepare": lambda _experiment, _checkpoint, pictures: [
        *("prepare", "folder", "--source", pictures, "--data-dir", "data", "--set", "dataset.image_size=8")
    ],
    "finetune": lambda _experiment, checkpoint, pictures: [
        *("finetune", "--checkpoint", checkpoint, "--support", pictures.with_name("two"), "--query", pictures),
        *("--output", "mine.pt", "--csv", "answers.csv", "--report", "page.html"),
    ],
}


def _plant(random: Random, folder: Path, ran: Path, told: list[str]) -> None:
    folder.mkdir()
    known = sorted(
        name for name in {*sys.stdlib_module_names, *packages_distributions(), *_OPTIONAL} - _OWN if name.isidentifier()
    )
    harm = f"open({str(ran)!r}, 'a').write(__name__ + ' ')\nraise ImportError\n"
    for name in random.sample(known, _SHARE):
        told.append(name)
        match random.randrange(4):
            case 0 | 1:
                (folder / f"{name}.py").write_text(harm)
            case 2:
                (folder / name).mkdir()
                (folder / name / "__init__.py").write_text(harm)
            case _:
                (folder / "source").write_text(harm)
                py_compile.compile(str(folder / "source"), str(folder / f"{name}.pyc"), doraise=True)
    if random.random() < 0.5:
        plugin = folder / "evil-1.0.dist-info"
        plugin.mkdir()
        (folder / "evil_plugin.py").write_text(harm)
        (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        groups = ("torch.backends", "pydantic", "tensorboard_plugins", "matplotlib.backend")
        (plugin / "entry_points.txt").write_text("".join(f"[{one}]\nevil = evil_plugin:harm\n\n" for one in groups))
    for name in ("matplotlibrc", ".netrc", "pyvenv.cfg", "python3.pth", ".env", "config.yaml"):
        (folder / name).write_text("import evil_plugin\n")
