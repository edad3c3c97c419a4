"""A meta-step shared out among processes, as `torchrun --nproc_per_node N -m metalearn_cli train` does it.

`Processes` starts them and stays beside; each takes every N-th task, and one all-reduce adds up what they find.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.runtime.machine.distributed import process_group


class Processes:
    """N processes that wait for a word; made by `started(shape, second_order, size)`."""

    def __init__(self, workers: list[subprocess.Popen[str]], folder: Path) -> None:
        self._workers = workers
        self._folder = folder

    def step(self) -> None:
        """Every process has done its share, and knows the sum."""
        self._ask("step")

    def gradient(self) -> list[Tensor]:
        """The sum that the last step found, by order of parameters."""
        path = self._folder / "gradient.pt"
        self._ask(f"gradient {path}")
        found: list[Tensor] = torch.load(path)
        return found

    def memory(self) -> float:
        """MB that they have needed at most, all together, above what importing torch takes each."""
        return sum(map(float, self._ask("memory")))

    def _ask(self, word: str) -> list[str]:
        for worker in self._workers:
            assert worker.stdin
            print(word, file=worker.stdin, flush=True)
        return [worker.stdout.readline() for worker in self._workers if worker.stdout]


@contextmanager
def started(shape: str, second_order: bool, size: int) -> Iterator[Processes]:
    """Processes for a shape of benchmarks.step by its name, which end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.processes", shape, str(int(second_order))]
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
    }
    workers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | place | {"RANK": str(rank)},
        )
        for rank in range(size)
    ]
    try:
        with TemporaryDirectory() as folder:
            yield Processes(workers, Path(folder))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def main() -> None:
    """One of the processes: it does what it reads, and answers with a line."""
    from benchmarks.step import SHAPES, most_used, our_step

    before = most_used()
    shape = SHAPES[sys.argv[1]]
    with process_group(torch.device("cpu")) as group, ExitStack() as stack:
        mine = group.share(range(shape.tasks))

        def share(tasks: Task) -> Task:
            return with_each(tasks, lambda value: value[mine.start :: mine.step])

        step, plan = our_step("auto", shape, sys.argv[2] == "1", stack, share)
        torch.set_num_threads(1)
        found: list[Tensor] = []
        for line in sys.stdin:
            word, _, path = line.strip().partition(" ")
            answer: object = plan
            if word == "step":
                found = group.summed(step())
            elif word == "gradient" and group.leads:
                torch.save(found, path)
            elif word == "memory":
                answer = most_used() - before
            print(answer, flush=True)


if __name__ == "__main__":
    main()
