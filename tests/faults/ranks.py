"""One of two gloo processes is killed at a random moment; `torchrun --max-restarts` brings the run to its end.

The weights must be those, bit for bit, of two processes that nobody disturbed.
"""

import random
import socket
import subprocess
import time
from pathlib import Path

from metalearn_cli.storage.runs.run_folder import RunFolder
from tests.faults import Totals
from tests.faults._runs import command, config, environment, rows, same, whole

SHORT, LONG = 1, 10

_SECONDS = 240


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Kill `count` times, the leading process as often as the other; a run that was done before is not counted."""
    experiment, generator = config(scratch), random.Random(seed)
    undisturbed = RunFolder(scratch / "undisturbed")
    first = _started(experiment, undisturbed)
    _, text = first.communicate(timeout=_SECONDS)
    expected = whole(undisturbed.last)
    assert expected is not None, text
    reports = rows(undisturbed.path)
    tried = survived = tracebacks = 0
    for number in range(3 * count):
        if tried == count:
            break
        folder = RunFolder(scratch / f"run{number}")
        launcher = _started(experiment, folder)
        killed = _kill_one(launcher, folder, number % 2, generator.uniform(0, 0.4))
        try:
            _, text = launcher.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            _, text = launcher.communicate()
        if not killed:
            continue
        tried += 1
        # The launcher's own account of a dead process has a traceback of the launcher; ours would name this package.
        tracebacks += "metalearn_cli/" in text
        survived += launcher.returncode == 0 and same(whole(folder.last), expected) and rows(folder.path) == reports
    return Totals(tried, survived, tried - survived, tracebacks, "2 processes, up to 3 restarts")


def _started(experiment: Path, folder: RunFolder) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--max_restarts=3", "--monitor_interval=0.2"]
    launcher += ["--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{_free_port()}"]
    line = command("train", experiment, "--run-dir", folder.path, "--quiet", launcher=launcher)
    return subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port: int = one.getsockname()[1]
        return port


def _kill_one(launcher: subprocess.Popen[str], folder: RunFolder, rank: int, seconds: float) -> bool:
    """Kill the process of that rank so long after the first checkpoint; False if the run was done by then."""
    while not folder.last.exists():
        if launcher.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(seconds)
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        try:
            if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
                subprocess.run(["kill", "-9", child], check=True, capture_output=True)
                return launcher.poll() is None
        except (OSError, subprocess.CalledProcessError):
            return False
    return False
