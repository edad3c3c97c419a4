"""Sinks: receivers of a run's numbers and pictures besides metrics.jsonl. TensorBoard's is in this file.

`sinks` in an experiment lists the sinks of a run: `tensorboard`, or `package.module:Name` for your own class, which is
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
from metalearn_cli.references import first_line, imported
from metalearn_cli.storage.files.atomic import disk_errors, make_folder

Setting = bool | int | float | str
_HPARAMS = "hparams"


class Run(NamedTuple):
    """The run for which a sink is opened.

    `settings` is the whole experiment in one level, such as {"algorithm.inner_lr": 0.4}, with null and lists as JSON.
    """

    folder: Path
    name: str
    settings: Mapping[str, Setting]


@runtime_checkable
class Sink(Protocol):
    """A receiver of a run's reports. If a method raises an error, the run goes on with a warning."""

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Receive the numbers of one report; a number may be infinite or NaN."""

    def picture(self, iteration: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Receive a picture, RGB, uint8 [H, W, 3]."""

    def result(self, metrics: Mapping[str, float]) -> None:
        """Receive the final numbers, for comparison with other runs; called once, when training has ended."""

    def close(self) -> None:
        """Write out everything that is pending; called last, however the run ended."""


class TensorBoard:
    """TensorBoard events in the run folder, through tensorboardX (the extra `metalearn-cli[tensorboard]`)."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        self._run = run
        if (run.folder / _HPARAMS).is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link, and nothing is written through one", _HPARAMS)
        # The file name is random, because the library would write through a link that somebody left at a known name.
        self._suffix = f".{uuid.uuid4().hex}"
        # Events are flushed every second, not every two minutes, for people who watch the run. The library's `flush`
        # would not do: it leaves out events that the writer's thread has not taken yet.
        self._writer: Any = SummaryWriter(str(run.folder), flush_secs=1, filename_suffix=self._suffix)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Receive the numbers of one report; those that are not finite are left out: TensorBoard cannot show them."""
        for name, value in _finite(values).items():
            self._writer.add_scalar(name, value, iteration)

    def picture(self, iteration: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Receive a picture, RGB, uint8 [H, W, 3]."""
        self._writer.add_image(name, pixels, iteration, dataformats="HWC")

    def result(self, metrics: Mapping[str, float]) -> None:
        """Write settings and final numbers as a row of TensorBoard's tab HPARAMS."""
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        # These are the steps of add_hparams, which would choose a file name of its own.
        folder, found = self._run.folder / _HPARAMS, _finite(metrics)
        with disk_errors(folder):
            make_folder(folder, self._run.folder)
        with SummaryWriter(str(folder), filename_suffix=self._suffix) as writer:
            for summary in hparams(dict(self._run.settings), found):
                writer.file_writer.add_summary(summary)
            for name, value in found.items():
                writer.add_scalar(name, value)

    def close(self) -> None:
        """Write out everything that is pending."""
        self._writer.close()


class Opener(NamedTuple):
    """A function that opens a sink, the sink's index in the experiment's list (None for the default), and its name."""

    place: int | None
    name: str
    open: Callable[[Run], Sink]


def settings_of(experiment: Experiment) -> dict[str, Setting]:
    """The experiment in one level, with keys such as `algorithm.inner_lr`; null and lists as JSON."""
    return dict(_flat(experiment.model_dump(mode="json"), ""))


def sink_openers(references: Sequence[str] | None) -> list[Opener]:
    """The openers of the sinks in a list; without a list, TensorBoard's if its library is installed.

    Modules are also looked for in the folder where the command runs.

    Raises ConfigError, with the index in the list, for a sink that does not exist.
    """
    if references is None:
        with suppress(ImportError):
            importlib.import_module("tensorboardX")
            return [Opener(None, "tensorboard", TensorBoard)]
        return []
    return [Opener(place, name, _named(place, name)) for place, name in enumerate(references)]


@contextmanager
def open_sinks(openers: Sequence[Opener], run: Run | None, warn: Callable[[str], None]) -> Iterator[list[Sink]]:
    """Open the sinks for a run, and close them when the block ends, however it ends.

    `run` is None for a process that writes nothing; it gets an empty list. The first error of a sink inside the block
    goes to `warn`.

    Raises ConfigError, with the index in the list, for a sink that cannot be opened or lacks a method.
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
    """A sink whose errors do not reach the run; the first one goes to `warn`."""

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
        except Exception as error:  # a foreign sink, or the server behind it, can fail in any way
            if not self._failed:
                self._warn(f"sink {self._name} failed and lacks numbers; the run goes on ({first_line(error)})")
            self._failed = True


def _named(place: int, name: str) -> Callable[[Run], Sink]:
    if name == "tensorboard":
        return TensorBoard
    made: Callable[[Run], Sink] = imported(name, f"sinks[{place}]")
    return made


def _open(opener: Opener, run: Run) -> Sink:
    try:
        sink = opener.open(run)
    except Exception as error:  # code from outside can raise any type
        raise ConfigError(f"sinks[{opener.place or 0}]: {opener.name} cannot be opened: {first_line(error)}") from error
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
