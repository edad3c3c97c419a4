"""Where numbers and pictures go besides metrics.jsonl: a sink is one small interface, filled here for TensorBoard.

`sinks` in an experiment lists those of a run: `tensorboard`, or `package.module:Name` for one of your own, which is
called with a Run (docs/sinks.md).

Legend: H height, W width.
"""

import errno
import importlib
import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.references import imported, reason
from metalearn_cli.storage.files.atomic import disk_errors, make_folder

Setting = bool | int | float | str
_HPARAMS = "hparams"


class Run(NamedTuple):
    """The run that a sink is opened for.

    `settings` are its whole experiment in one level, such as {"algorithm.inner_lr": 0.4}; null and lists as JSON.
    """

    folder: Path
    name: str
    settings: Mapping[str, Setting]


@runtime_checkable
class Sink(Protocol):
    """A receiver of what a run reports. Whatever it raises costs a warning and what it missed, never the run."""

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one report; a number may be infinite or NaN."""

    def picture(self, iteration: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Take a picture, RGB [H, W, 3]."""

    def result(self, metrics: Mapping[str, float]) -> None:
        """Take the final numbers, to be compared with those of other runs: once, when training has ended."""

    def close(self) -> None:
        """Write out what is pending; called last, however the run ended."""


class TensorBoard:
    """TensorBoard events in the run folder, through tensorboardX (the extra `metalearn-cli[tensorboard]`)."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        self._run = run
        if (run.folder / _HPARAMS).is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link, and nothing is written through one", _HPARAMS)
        # A name that nobody can foresee: the library would write through a link that lies there already.
        self._suffix = f".{uuid.uuid4().hex}"
        # Somebody is watching: a report is there after a second, not after two minutes. Its `flush` leaves out what the
        # writer's own thread has not taken up yet.
        self._writer: Any = SummaryWriter(str(run.folder), flush_secs=1, filename_suffix=self._suffix)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one report; TensorBoard has no place for one that is not finite."""
        for name, value in _finite(values).items():
            self._writer.add_scalar(name, value, iteration)

    def picture(self, iteration: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Take a picture."""
        self._writer.add_image(name, pixels, iteration, dataformats="HWC")

    def result(self, metrics: Mapping[str, float]) -> None:
        """Settings and final numbers are a row of the tab HPARAMS."""
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        # What add_hparams does, which would choose a name of its own for the file.
        folder, found = self._run.folder / _HPARAMS, _finite(metrics)
        with disk_errors(folder):
            make_folder(folder, self._run.folder)
        with SummaryWriter(str(folder), filename_suffix=self._suffix) as writer:
            for summary in hparams(dict(self._run.settings), found):
                writer.file_writer.add_summary(summary)
            for name, value in found.items():
                writer.add_scalar(name, value)

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()


class Opener(NamedTuple):
    """How a sink is opened, its place in the experiment's list (None: nobody asked for it), and its name there."""

    place: int | None
    name: str
    open: Callable[[Run], Sink]


def settings_of(experiment: Experiment) -> dict[str, Setting]:
    """The experiment in one level: `algorithm.inner_lr`; null and lists as JSON."""
    return dict(_flat(experiment.model_dump(mode="json"), ""))


def found(references: Sequence[str] | None) -> list[Opener]:
    """How each sink is opened; without a list, TensorBoard's if its library is installed.

    Modules are also looked for in the folder where the command runs.

    Raises ConfigError, with the place in the list, for one that is not there.
    """
    if references is None:
        with suppress(ImportError):
            importlib.import_module("tensorboardX")
            return [Opener(None, "tensorboard", TensorBoard)]
        return []
    return [Opener(place, name, _named(place, name)) for place, name in enumerate(references)]


@contextmanager
def opened(openers: Sequence[Opener], run: Run | None, warn: Callable[[str], None]) -> Iterator[list[Sink]]:
    """The sinks, opened for a run; closed with the block, however it ends. None for a process that writes nothing.

    What a sink raises inside the block is told to `warn` once.

    Raises ConfigError, with the place in the list, for one that cannot be opened or lacks a method.
    """
    sinks: list[Sink] = []
    try:
        for opener in openers if run is not None else ():
            assert run is not None
            sinks.append(_Guarded(opener.name, _open(opener, run), warn))
        yield sinks
    finally:
        for sink in sinks:
            sink.close()


class _Guarded:
    """A sink whose failures do not reach the run; the first one is told."""

    def __init__(self, name: str, sink: Sink, warn: Callable[[str], None]) -> None:
        self._name, self._sink, self._warn = name, sink, warn
        self._failed = False

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self._sink.scalars(iteration, values))

    def picture(self, iteration: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self._try(lambda: self._sink.picture(iteration, name, pixels))

    def result(self, metrics: Mapping[str, float]) -> None:
        self._try(lambda: self._sink.result(metrics))

    def close(self) -> None:
        self._try(self._sink.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # somebody else's code, or somebody else's server
            if not self._failed:
                self._warn(f"sink {self._name} failed and lacks numbers; the run goes on ({reason(error)})")
            self._failed = True


def _named(place: int, name: str) -> Callable[[Run], Sink]:
    if name == "tensorboard":
        return TensorBoard
    made: Callable[[Run], Sink] = imported(name, f"sinks[{place}]")
    return made


def _open(opener: Opener, run: Run) -> Sink:
    try:
        sink = opener.open(run)
    except Exception as error:  # somebody else's code
        raise ConfigError(f"sinks[{opener.place or 0}]: {opener.name} cannot be opened: {reason(error)}") from error
    if not isinstance(sink, Sink):
        lacks = [n for n in ("scalars", "picture", "result", "close") if not hasattr(sink, n)]
        raise ConfigError(f"sinks[{opener.place or 0}]: {opener.name} has no method {', '.join(lacks)}")
    return sink


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _flat(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, Setting]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value if isinstance(value, Setting) else json.dumps(value)
