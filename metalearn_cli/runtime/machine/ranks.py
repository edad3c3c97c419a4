"""The number of this process in its run, from environment variables of torchrun or of the run's first process."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.errors import ConfigError

MEETING_POINT = "METALEARN_MEETING_POINT"
"""The variable that names the file by which processes find each other that were started without torchrun."""

_LONGEST_NUMBER = 9


class Rank(NamedTuple):
    """This process is number `number` of `size` processes of the run, and number `local` of `here` on its machine.

    `restarts`: how often torchrun has started the processes again. `meeting_point`: the file where they find each
    other, empty under torchrun.
    """

    number: int
    size: int
    local: int | None
    here: int
    restarts: int
    meeting_point: str


def own() -> Rank | None:
    """This process's Rank; None if it is the only process of its run.

    Raises ConfigError, with the name of the variable, for a value that torchrun cannot have set.
    """
    size = _whole("WORLD_SIZE")
    if size is None or (size == 1 and not os.environ.get("RANK")):
        if os.environ.get(MEETING_POINT):
            raise _left_over(MEETING_POINT, "WORLD_SIZE is not")
        return None
    number = _whole("RANK")
    if number is None:
        raise _left_over(f"WORLD_SIZE={size}", "RANK is not")
    if not number < size:
        raise _left_over(f"RANK={number}", f"WORLD_SIZE is {size}")
    meeting_point = os.environ.get(MEETING_POINT, "")
    if meeting_point and not Path(meeting_point).parent.is_dir():
        raise _left_over(MEETING_POINT, "its folder is gone")
    if not meeting_point:
        _whole("MASTER_PORT")
    here, restarts = _whole("LOCAL_WORLD_SIZE"), _whole("TORCHELASTIC_RESTART_COUNT")
    return Rank(number, size, _whole("LOCAL_RANK"), max(here or 1, 1), restarts or 0, meeting_point=meeting_point)


def processes_here() -> int:
    """The number of processes of this run on this machine."""
    with suppress(ConfigError):  # `train` refuses it; no other command asks for ranks
        rank = own()
        return 1 if rank is None else rank.here
    return 1


def leads() -> bool:
    """Whether this process is the one that prints and writes."""
    rank = own()
    return rank is None or rank.number == 0


def restarted() -> bool:
    """Whether torchrun has started this process again, after a process of the run had died."""
    rank = own()
    return rank is not None and rank.restarts > 0


def _whole(name: str) -> int | None:
    """The number in an environment variable; None where it is not set, or empty."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise ConfigError(
            f"environment: {name} is {text[:40]!r}, expected a whole number, as torchrun sets it; unset it"
        )
    return int(text)


def _left_over(found: str, but: str) -> ConfigError:
    return ConfigError(
        f"environment: {found} is set, but {but}; unset it to train in this process alone, or start all with torchrun"
    )
