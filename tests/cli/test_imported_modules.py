"""The modules that each command imports, because imports are most of the time that a short command takes."""

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "numpy", "pydantic", "PIL", "matplotlib"]
COMPILER = ["torch._dynamo", "torch._inductor", "torch.onnx", "sympy"]
# In this order in one process: modules stay imported, so each command may bring no more than those before it.
COMMANDS = {
    "version": (["--version"], [*HEAVY, *COMPILER]),
    "help": (["--help"], [*HEAVY, *COMPILER]),
    "help of train": (["train", "--help"], ["torch", "numpy", "PIL", "matplotlib", *COMPILER]),
    "missing file": (["eval", "--checkpoint", "none.pt"], ["torch", "numpy", "matplotlib", *COMPILER]),
    "unknown key": (["train", "quickstart", "--set", "outer.lrr=1"], ["torch", "numpy", "matplotlib", *COMPILER]),
    "unknown key of the algorithm": (
        ["train", "omniglot/5way1shot", "--set", "algorithm.inner_stepz=1"],
        ["torch", "numpy", "matplotlib", *COMPILER],
    ),
    "info": (["info"], ["matplotlib", *COMPILER]),
    "training": (
        ["train", "quickstart", "--quiet", *(part for one in ("outer.iterations=1", "eval.val_episodes=2",
         "outer.meta_batch_size=1", "dataset.classes=60", "sinks=[]")
         for part in ("--set", one))],
        COMPILER,
    ),
    "measuring": (["eval", "--checkpoint", "runs/quickstart/checkpoints/last.pt", "--episodes", "2"], COMPILER),
}  # fmt: skip
SCRIPT = """
import json, os, sys
from metalearn_cli.__main__ import main
os._exit = sys.exit  # how a command ends where torch was imported
found = {}
for name, (words, watched) in json.loads(sys.argv[1]).items():
    sys.argv = ["metalearn", *words]
    try:
        main()
    except SystemExit as end:
        found[name] = [end.code, [module for module in watched if module in sys.modules]]
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS)], capture_output=True, text=True, cwd=folder, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_only_what_it_needs(name, imported):
    found, said = imported
    code, modules = found[name]
    assert code == (2 if name.startswith(("unknown", "missing")) else 0), said
    assert modules == []


def test_the_early_refusal_says_what_the_late_one_says(imported):
    assert "error: --set outer.lrr: unknown key; did you mean lr?" in imported[1]
    assert "error: --set algorithm.inner_stepz: unknown key; did you mean inner_steps?" in imported[1]


def test_where_torch_was_imported_a_thread_that_still_writes_is_waited_for():
    script = """
import sys, threading, time
from metalearn_cli.__main__ import _leave
sys.modules["torch"] = None
threading.Thread(target=lambda: (time.sleep(0.3), print("written", flush=True))).start()
_leave(3)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "written\n")
