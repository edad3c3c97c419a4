"""A process that has imported torch once and forks for every command.

Each command is the real `main()` in a process of its own, without the seconds that importing torch takes. Of this
package nothing is imported before the fork, so that what a command imports stays its own affair.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from select import select

_ROOT = Path(__file__).parent.parent
_IMPORTED = ["torch", "torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_svg", "numpy", "PIL.Image"]
_IMPORTED += ["pydantic", "rich.live", "safetensors.torch", "tensorboardX", "typer"]


class Zygote:
    """The process, started at the first command; `environment` holds from its start on for what is imported."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            env=environment, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.communicate()

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str], seconds: float
    ) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of `metalearn ARGUMENTS`. Raises TimeoutExpired after `seconds`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            streams = [str(Path(folder) / name) for name in ("out", "err")]
            print(json.dumps([arguments, str(cwd), environment, streams]), file=self._process.stdin, flush=True)
            child = int(self._process.stdout.readline())
            if not select([self._process.stdout], [], [], seconds)[0]:
                os.kill(child, 9)
                self._process.stdout.readline()
                raise subprocess.TimeoutExpired(arguments, seconds)
            code = int(self._process.stdout.readline())
            out, err = (Path(stream).read_text() for stream in streams)
        return code, out, err


def _serve() -> None:
    for name in _IMPORTED:
        import_module(name)
    gc.freeze()  # a collection in a child would copy every page that it looks at
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(*json.loads(line))
        _say(child)
        _say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    """What `python -m metalearn_cli` would be."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [str(_ROOT / "metalearn_cli/__main__.py"), *arguments]
    sys.path[0] = cwd
    sys.path.insert(1, str(_ROOT))
    from metalearn_cli.__main__ import main

    try:
        main()
    except SystemExit as ended:
        # To take all modules down, as Python does in the end, takes a second here, and copies what was shared.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    _serve()
