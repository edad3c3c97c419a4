"""Several processes as one: the same tasks whatever their number, and one all-reduce per step.

Legend: R processes (ranks), E episodes, K inner steps.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from metalearn_cli.core.meta import Scores
from metalearn_cli.errors import ConfigError, DeviceError, RunError

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, which may be preparing data or validating."""

MEETING_POINT = "METALEARN_MEETING_POINT"
"""The variable that names the file by which processes find each other that were started without torchrun."""

_WHERE_IN_THE_LIBRARY = re.compile(r"^\[[^]]*\] *")


class Group(NamedTuple):
    """The processes of this run, and which of them this one is; by itself, one process."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def share(self, numbers: range) -> range:
        """This process's every R-th of the numbers."""
        return numbers[self.rank :: self.size]

    def summed(self, tensors: list[Tensor]) -> list[Tensor]:
        """Each tensor's sum over the processes, by one all-reduce of them all."""
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
        """Whether any process wishes so; asked by all at once, and answered alike."""
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
        """The block runs in the leading process, and then in the others."""
        if not self.leads:
            self._wait()
        yield
        if self.leads:
            self._wait()

    def require_same(self, what: str, value: object) -> None:
        """Raises ConfigError, in every process, if they do not all have the same value."""
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
    """Inside the block the processes talk to each other.

    Raises RunError if one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        reason = _WHERE_IN_THE_LIBRARY.sub("", str(error).split(". ")[0].splitlines()[0])
        by_torchrun = "start all of them again with --resume, or torchrun with --max-restarts"
        cure = "go on with --resume" if MEETING_POINT in os.environ else by_torchrun
        rank = os.environ.get("RANK")
        raise RunError(f"process {rank}: another process of this run has ended ({reason}); {cure}") from error


ALONE = Group()
"""This process, by itself."""


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The Group that this process was started in, by torchrun or by its first process; a Group of one otherwise.

    Raises DeviceError if the processes cannot find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank = int(os.environ["RANK"])
    try:
        file = os.environ.get(MEETING_POINT)
        store = next(rendezvous(f"file://{file}", rank, size) if file else rendezvous("env://"))[0]
        # Each restart by torchrun finds its own keys: the addresses of dead processes would hang it.
        attempt = PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        if on_gpu := device.type == "cuda":
            torch.cuda.set_device(device)  # objects are exchanged over the current one
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=attempt, rank=rank, world_size=size, timeout=_PATIENCE,
            device_id=device if on_gpu else None,
        )  # fmt: skip
        _share_cores(device)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"process {rank} of {size} cannot reach the others: {str(error).splitlines()[0]}") from error
    # It is left as it is: the process ends with the run, and taking the group apart has been seen to abort it.
    yield Group(rank, size)


def _share_cores(device: torch.device) -> None:
    """Torch's own threads are no more than this process's share of the cores, where nobody has said how many."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes_here()))


def restarted() -> bool:
    """Whether torchrun has started this process again, after one of the run had died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def own_device(device: torch.device) -> torch.device:
    """The device of this process: under torchrun, one GPU each."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def processes_here() -> int:
    """How many processes of this run share this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
