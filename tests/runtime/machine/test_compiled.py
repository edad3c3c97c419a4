"""Kernels are compiled once, kept where this user alone can write, and done without where they cannot be had."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from metalearn_cli.backbones import conv4, mlp
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.machine import compiled
from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.machine.numerics import differences, ground
from tests.commands import ROOT

needs_a_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in compiled._COMPILERS), reason="this machine has no C++ compiler"
)
CONV = conv4.build(conv4.Config(channels=4), (1, 28, 28), 5)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two empty folders in place of the real ones."""
    found = [tmp_path / "beside", tmp_path / "cache"]
    monkeypatch.setattr(compiled, "_folders", lambda: found)
    compiled._library.cache_clear()
    yield found
    compiled._library.cache_clear()


@pytest.fixture(scope="module")
def library():
    """The file that was compiled before the tests began."""
    return compiled.library_file()


@pytest.fixture
def quick_compiler(library, monkeypatch):
    """A compiler whose work is done already: the tests that are not about compiling need not wait for it."""
    monkeypatch.setattr(compiled, "_compile", lambda path: shutil.copy(library, path))


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda _name: None)


def heard(said, told):
    """What a run gives: its lines go into the list `said`, and its progress into `told`."""
    return compiled.Compiling(lambda *moved: told.append(moved), said.append)


@needs_a_compiler
def test_they_are_compiled_once_by_a_command_that_trains(folders):
    told, said = [], []
    assert compiled.kernels_for(CONV, "auto", None) is None
    assert compiled.library_file() is None
    assert compiled.kernels_for(CONV, "auto", heard(said, told)) is not None
    assert [*folders[0].iterdir()] == [compiled.library_file()]
    assert compiled.kernels_for(CONV, "auto", heard(said, told)) is compiled.kernels_for(CONV, "compiled", None)
    assert (told, said) == ([("compiling kernels, once for this machine", 0, 1)], [])


@needs_a_compiler
@pytest.mark.usefixtures("quick_compiler")
def test_a_folder_that_cannot_be_written_is_passed_over(folders):
    folders[0].write_text("a file has its name")
    compiled.compile_kernels()
    assert [file.suffix for file in folders[1].iterdir()] == [".so"]


@needs_a_compiler
@pytest.mark.usefixtures("quick_compiler")
def test_a_file_that_others_may_write_is_not_loaded(folders):
    compiled.compile_kernels()
    (file,) = folders[0].iterdir()
    file.chmod(0o666)
    assert compiled.loaded() is None


def test_a_damaged_file_is_as_if_it_were_not_there(folders):
    folders[0].mkdir()
    (folders[0] / compiled._name()).write_text("no library")
    assert compiled.loaded() is None


@needs_a_compiler
@pytest.mark.usefixtures("quick_compiler")
def test_what_computes_wrongly_is_not_kept(folders, monkeypatch):
    monkeypatch.setattr(torch, "allclose", lambda *_values, **_tolerance: False)
    with pytest.raises(compiled.CompileError, match="wrongly"):
        compiled.compile_kernels()
    assert list(folders[0].iterdir()) == []


def test_a_source_that_does_not_compile_says_the_first_line_of_its_compiler(folders, monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(compiled.CompileError, match="error: no such thing"):
        compiled.compile_kernels()
    assert list(folders[0].iterdir()) == []


def test_a_compiler_in_the_working_folder_is_not_run(folders, monkeypatch, tmp_path):
    (tmp_path / "c++").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "." + os.pathsep)
    with pytest.raises(compiled.CompileError, match="no C"):
        compiled.compile_kernels()
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("folders", "no_compiler")
def test_without_a_compiler_one_line_says_that_torch_takes_longer():
    said = []
    assert compiled.kernels_for(CONV, "auto", heard(said, [])) is None
    assert len(said) == 1
    assert "no C++ compiler found" in said[0]
    with pytest.raises(ConfigError, match=r"execution\.kernels: no C"):
        compiled.kernels_for(CONV, "compiled", heard(said, []))


@pytest.mark.usefixtures("folders", "no_compiler")
@pytest.mark.parametrize("module", [mlp.build(mlp.Config(), (4,), 5), nn.Linear(2, 2)], ids=["mlp", "linear"])
def test_a_network_without_such_layers_needs_none(module):
    said, told = [], []
    assert compiled.kernels_for(module, "auto", heard(said, told)) is None
    assert said == told == []


def test_torch_alone_can_be_asked_for():
    assert compiled.kernels_for(CONV, "torch", heard([], [])) is None


def test_a_resumed_run_can_name_a_change_of_kernels():
    here, plan = torch.device("cpu"), Plan("vmap", 1, 1)
    before, now = (ground(plan, here, processes=1, compiled=kind) for kind in (True, False))
    assert differences(before, now) == "kernels: compiled before, torch's now"


# The address space ends ROOM megabytes above what is in use. A thread needs 8 for its stack, this kernel a few itself.
FULL_MEMORY = """
import resource
import torch
from metalearn_cli.layers.cpu.bilinear import Window
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.runtime.machine.compiled import loaded

torch.set_num_threads(2)
found = forms((1, 8, 28, 28, 192), 192, 4, Window((3, 3), (1, 1), (1, 1)), loaded())
inputs, weight, out = torch.ones(1, 8, 28, 28, 192), torch.ones(1, 192, 9 * 192), torch.empty(1, 8 * 28 * 28, 192)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + ROOM * 2**20, resource.RLIM_INFINITY))
try:
    found.see(inputs).forward(weight, out)
    print(float(out[0, 29, 0]))
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
found.see(inputs).forward(weight, out)
print(float(out[0, 29, 0]))
"""


@needs_a_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of its own memory from /proc")
@pytest.mark.parametrize(("room", "first"), [(1, "out of memory in the kernel winograd_float"), (6, "1728.0")])
def test_without_memory_a_kernel_raises_an_error_and_without_threads_it_does_the_work_alone(room, first):
    words = [sys.executable, "-c", FULL_MEMORY.replace("ROOM", str(room))]
    package = os.environ | {"PYTHONPATH": str(ROOT)}  # the one whose kernels are compiled, not one that was installed
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=package)
    assert (done.stderr, done.stdout.splitlines()) == ("", [first, "1728.0"])
