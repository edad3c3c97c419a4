"""Finds, compiles and loads the kernels of layers/cpu/cpp.

They are compiled once for a version of the source, a compiler and a processor, by the C++ compiler of this machine, in
ten seconds to half a minute, and kept beside the source as Python keeps its own compiled files (`__pycache__`), or in
the user's cache folder where that cannot be written. Without a compiler the layers compute with torch alone.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.cpu import kernels as kernels_module
from metalearn_cli.layers.cpu.kernels import Kernels, Maps
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared.preparation import caches

Setting = Literal["auto", "torch", "compiled"]

SOURCES = Path(kernels_module.__file__).parent / "cpp"
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-O3", "-std=gnu++17", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
_FOR_THIS_PROCESSOR = ("-march=native", "-mcpu=native")
_LONGEST = 120.0
"""Seconds after which a compiler is given up."""


class CompileError(Exception):
    """The kernels cannot be compiled here; the message says why."""


class Compiling(NamedTuple):
    """The functions that hear about compiling: `progress`, that it goes on; `say`, a line if it is not possible."""

    progress: Progress
    say: Callable[[str], None]


def kernels_for(module: nn.Module, setting: Setting, compiling: Compiling | None) -> Kernels | None:
    """The kernels that a network's module may use: None if `setting` is "torch", or if it has nothing for them to do.

    They are compiled if they are not there and `compiling` is given, as training does. Without kernels the results are
    the same up to rounding, and networks with norms after convolutions slower.

    Raises ConfigError if `setting` is "compiled" and they cannot be compiled.
    """
    if setting == "torch" or not kernels_help(module) or os.name != "posix":
        return None
    found = loaded()
    if found is not None or compiling is None:
        return found
    compiling.progress("compiling kernels, once for this machine", 0, 1)
    try:
        compile_kernels()
    except CompileError as error:
        if setting == "compiled":
            raise ConfigError(f"execution.kernels: {error}; expected a C++ compiler, or auto or torch") from error
        compiling.say(
            f"kernels: {error}, so convolutions and norms run in torch alone, which takes up to twice as long "
            "(execution.kernels=torch says that this is meant)"
        )
    return loaded()


def kernels_help(module: nn.Module) -> bool:
    """Whether the module has layers that the kernels compute: a convolution and a batch norm of this package."""
    layers = [type(layer) for layer in module.modules()]
    return TaskNorm in layers and (TaskConv2d in layers or TaskConv1d in layers)


@functools.cache  # a library stays loaded until the process ends
def _library(path: Path) -> Kernels:
    return Kernels(ctypes.CDLL(str(path)))


def loaded() -> Kernels | None:
    """The kernels, if they have been compiled for this source and this processor."""
    found = library_file()
    return _library(found) if found else None


def library_file() -> Path | None:
    """The file of the kernels that `loaded` returns."""
    for folder in _folders():
        path = folder / _name()
        if _is_ours(path):
            with suppress(OSError):  # damaged, or of another system: as if it were not there
                _library(path)
                return path
    return None


def compilers() -> list[str]:
    """The paths of the C++ compilers of this machine that may compile the kernels, the first choice first."""
    found = [shutil.which(name) for name in _COMPILERS] if os.name == "posix" else []
    return [path for path in found if path and Path(path).is_absolute()]


def compile_kernels() -> None:
    """Compile the kernels, compare them with torch once, and put them where `loaded` finds them.

    Raises CompileError if there is no compiler, or if what it makes is wrong or cannot be written.
    """
    failures = []
    for folder in _folders():
        draft = folder / f"{_name()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _compile(draft)
            _compare(Kernels(ctypes.CDLL(str(draft))))
            draft.replace(folder / _name())  # other processes see the whole file or none
        except OSError as error:
            failures.append(f"{folder}: {error.strerror or error}")
            continue
        finally:
            with suppress(OSError):
                draft.unlink()
        return
    raise CompileError(f"cannot be kept ({'; '.join(failures)})")


def _compile(path: Path) -> None:
    """Compile the source into `path`."""
    said = ""
    for compiler in compilers():
        for processor in (*_FOR_THIS_PROCESSOR, None):
            words = [compiler, *_FLAGS, *filter(None, [processor]), str(SOURCES / "kernels.cpp"), "-o", str(path)]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST, errors="replace")
            except subprocess.TimeoutExpired:
                said = f"{compiler} took more than {_LONGEST:.0f} s"
                break
            if done.returncode == 0:
                return
            said = f"{compiler}: {(done.stderr.strip().splitlines() or ['failed'])[0]}"
    raise CompileError(f"do not compile here ({said})" if said else f"no C++ compiler found ({', '.join(_COMPILERS)})")


def _compare(kernels: Kernels) -> None:
    """Compute small maps with the kernels and with torch; raises CompileError if they differ."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 7, 19, generator=generator, dtype=torch.float64)
    maps, channels = Maps(2, 5, 7, 19, 2), x.new_ones(19)
    out, chosen = x.new_empty(2, 2, 3, 19), x.new_empty(2, 2, 3, 19)
    index, (mean, root) = torch.empty(out.shape, dtype=torch.uint8), x.new_empty(2, 19)
    kernels.call("forward", maps, (2, x, channels, channels, 1e-5, 0.1, mean, root, out, chosen, index))
    normed = nn.functional.batch_norm(x.permute(0, 3, 1, 2), None, None, channels, channels, training=True)
    expected = nn.functional.max_pool2d(nn.functional.leaky_relu(normed, 0.1), 2).permute(0, 2, 3, 1)
    pairs = [(out, expected)]
    # Two convolutions of 3 x 3, in steps of one and of two, which go different ways.
    pictures, weight = (torch.randn(2, *size, 8, generator=generator, dtype=torch.float64) for size in ((5, 7), (3, 3)))
    weight = weight.repeat(4, 1, 1, 1)
    for stride, way in ((1, "winograd"), (2, "implicit")):
        plain = nn.functional.conv2d(pictures.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), None, stride, 1)
        found = torch.empty_like(plain.permute(0, 2, 3, 1).contiguous())
        sizes = (2, 5, 7, 8, 3, 3, stride, stride, 1, 1, *found.shape[1:3])
        kernels.call(way, sizes, (1, pictures, weight, 8, 0, found))
        pairs.append((found, plain.permute(0, 2, 3, 1)))
    if not all(torch.allclose(one, other, rtol=1e-9, atol=1e-9) for one, other in pairs):
        raise CompileError("compile into something that computes wrongly here")


@functools.cache
def _name() -> str:
    """The file's name: another source, other flags or another processor is another file."""
    facts = hashlib.sha256(" ".join(_FLAGS).encode())
    for file in sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h")):
        facts.update(file.read_bytes())
    facts.update("\n".join(sorted(_processor())).encode())
    return f"kernels-{facts.hexdigest()[:16]}.so"


def _processor() -> Iterator[str]:
    """The facts about this processor on which compiled code depends."""
    yield " ".join(os.uname()[i] for i in (0, 4))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return
    yield from {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}


def _folders() -> list[Path]:
    if os.name != "posix":
        return []
    found = [SOURCES / "__pycache__"]
    try:
        return [*found, caches() / "metalearn" / "kernels"]
    except RuntimeError:  # no HOME, and no such user
        return found


def _is_ours(path: Path) -> bool:
    """Whether the file belongs to this user or to root and nobody else may write to it: it will run in this process."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & 0o022
