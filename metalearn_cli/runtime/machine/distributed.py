"""Data-parallel training: the tasks do not depend on the number of processes, and a step has one all-reduce.

Legend: R processes (ranks), E episodes, K inner steps.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from metalearn_cli.core.meta import Scores
from metalearn_cli.errors import ConfigError, DeviceError, RunError
from metalearn_cli.runtime.machine import ranks
from metalearn_cli.runtime.machine.ranks import Rank

_PATIENCE = timedelta(minutes=30)
"""The time for which a process waits for the others, which may be preparing data or validating."""

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_UNTIL_TOLD = 3.0
_SECONDS_UNTIL_TOLD_AGAIN = 30.0
_WHERE_IN_THE_LIBRARY = re.compile(r"^\[[^]]*\] *")


class Group(NamedTuple):
    """The processes of this run and the number of this one among them; a run of one process is a Group of size 1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def share(self, numbers: range) -> range:
        """The numbers of this process: every R-th."""
        return numbers[self.rank :: self.size]

    def summed(self, tensors: list[Tensor]) -> list[Tensor]:
        """The sum of each tensor over the processes, by a single all-reduce."""
        if self.size == 1:
            return tensors
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _all_alive():
            distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def gathered(self, scores: Scores, episodes: int) -> Scores:
        """The scores [E, K + 1] of E = `episodes` episodes in their order, from the shares [<= E / R, K + 1] of each.

        On the CPU, in every process.
        """
        if self.size == 1:
            return Scores(scores.loss.cpu(), scores.score.cpu())
        rows = -(-episodes // self.size)
        mine = torch.stack(scores, -1)
        padded = mine.new_zeros(rows, *mine.shape[1:])
        padded[: len(mine)] = mine
        every = [torch.empty_like(padded) for _ in range(self.size)]
        with _all_alive():
            distributed.all_gather(every, padded)
        in_order = torch.stack(every, 1).flatten(0, 1)[:episodes].cpu()
        return Scores(in_order[..., 0], in_order[..., 1])

    def any(self, wish: bool, device: torch.device) -> bool:
        """Whether `wish` is true in any process. All processes must call this together; all get the same answer."""
        return bool(self.summed([torch.tensor(float(wish), device=device)])[0] > 0)

    def collected(self, values: list[int]) -> list[int]:
        """The values of every process, sorted."""
        every: list[list[int]] = [values] * self.size
        if self.size > 1:
            with _all_alive():
                distributed.all_gather_object(every, values)
        return sorted(value for part in every for value in part)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block in the leading process first, and then in the others."""
        if not self.leads:
            self._wait()
        yield
        if self.leads:
            self._wait()

    def require_same(self, what: str, value: object) -> None:
        """Raise ConfigError in every process if `value` is not the same in all; the message begins with `what`."""
        if self.size == 1:
            return
        values: list[object] = [None] * self.size
        with _all_alive():
            distributed.all_gather_object(values, value)
        if any(other != values[0] for other in values):
            raise ConfigError(
                f"the processes of this run see different {what} ({', '.join(map(str, values))}); "
                "they need one data folder and one run folder, on a file system that they share"
            )

    def _wait(self) -> None:
        if self.size > 1:
            with _all_alive():
                distributed.barrier()


@contextmanager
def _all_alive() -> Iterator[None]:
    """Run communication between the processes inside the block.

    Raises RunError if one of them has ended.
    """
    try:
        yield
    except RuntimeError as error:
        reason = _WHERE_IN_THE_LIBRARY.sub("", str(error).split(". ")[0].splitlines()[0])
        by_torchrun = "start all of them again with --resume, or torchrun with --max-restarts"
        cure = "go on with --resume" if ranks.MEETING_POINT in os.environ else by_torchrun
        rank = os.environ.get("RANK")
        raise RunError(f"process {rank}: another process of this run has ended ({reason}); {cure}") from error


ALONE = Group()
"""This process, by itself."""


@contextmanager
def process_group(
    device: torch.device, stop: Callable[[], bool] = lambda: False, say: Callable[[str], None] = lambda _line: None
) -> Iterator[Group]:
    """The Group in which torchrun, or the first process of a run, started this process; otherwise a Group of one.

    `say` gets a line if the other processes are late.

    Raises DeviceError if the processes cannot find each other, ConfigError if the environment variables contradict each
    other, and KeyboardInterrupt if `stop()` becomes true while this process waits.
    """
    rank = ranks.own()
    if rank is None or rank.size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # all_gather_object uses the current device
    try:
        _meet(rank, device, stop, say)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"process {rank.number} of {rank.size} cannot reach the others: {reason}") from error
    _share_cores(device, rank)
    # The group is not destroyed: the process ends with the run, and destroying it has been seen to abort the process.
    yield Group(rank.number, rank.size)


def _meet(rank: Rank, device: torch.device, stop: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Wait for all processes, in a thread: inside the library Python would handle no signal."""
    failures: list[Exception] = []

    def connect() -> None:
        try:
            _connect(rank, device)
        except Exception as error:
            failures.append(error)

    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    due = time.monotonic() + _SECONDS_UNTIL_TOLD
    while waiting.is_alive():
        waiting.join(_SECONDS_BETWEEN_LOOKS)
        if stop():
            raise KeyboardInterrupt
        if time.monotonic() >= due:
            due = time.monotonic() + _SECONDS_UNTIL_TOLD_AGAIN
            place = rank.meeting_point or ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
            say(f"process {rank.number} of {rank.size} (WORLD_SIZE) waits for the others at {place}")
    for failure in failures:
        raise failure


def _connect(rank: Rank, device: torch.device) -> None:
    where = f"file://{rank.meeting_point}" if rank.meeting_point else "env://"
    store = next(rendezvous(where, rank.number, rank.size))[0]
    # Each restart by torchrun finds its own keys: the addresses of dead processes would hang it.
    attempt = PrefixStore(f"attempt-{rank.restarts}", store)
    on_gpu = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", store=attempt, rank=rank.number, world_size=rank.size, timeout=_PATIENCE,
        device_id=device if on_gpu else None,
    )  # fmt: skip


def _share_cores(device: torch.device, rank: Rank) -> None:
    """Limit torch's threads to this process's share of the cores, unless the user has set their number."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // rank.here))


def own_device(device: torch.device) -> torch.device:
    """The device of this process: under torchrun each process has a GPU of its own."""
    rank = ranks.own()
    if device.type == "cuda" and device.index is None and rank is not None and rank.local is not None:
        return torch.device("cuda", rank.local)
    return device
