"""Where numbers go besides metrics.jsonl: a sink is one small interface, filled here for TensorBoard.

For W&B or MLflow write a class with the same two methods and pass it to runtime.training.train.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol


class Sink(Protocol):
    """A receiver of scalars."""

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one report."""

    def close(self) -> None:
        """Write out what is pending."""


class TensorBoard:
    """TensorBoard events in a run folder, through tensorboardX (the extra `metalearn-cli[tensorboard]`)."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one report; TensorBoard has no place for one that is not finite."""
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()


@contextmanager
def opened(folder: Path | None) -> Iterator[list[Sink]]:
    """The sinks whose library is installed, TensorBoard or none; closed with the block, however it ends.

    Without a folder there are none: this process writes nothing.
    """
    sinks: list[Sink] = []
    if folder is not None:
        with suppress(ImportError):
            sinks = [TensorBoard(folder)]
    try:
        yield sinks
    finally:
        for sink in sinks:
            sink.close()
