"""Decodes all pictures of a source into pixels, on all cores, a few at a time."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError, RunError
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.inputs.sources import OpenedSource
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared.writing import Chunk

_SHOWN_FAILURES = 10
_AT_ONCE = 32  # pictures in a job
# For small pictures most of the time is spent in Python's interpreter, which runs one thread at a time. Processes do
# not have this limit, but take most of a second to start; so they are used from so many pictures on.
_WORTH_PROCESSES = 4000
_READERS = 2

Content = bytes | NDArray[np.uint8] | DataError
Contents = Sequence[tuple[str, Content]]


class Decoder(NamedTuple):
    """The settings for decoding the classes of a source; `cut_bottom` has the same meaning as in Archive."""

    source: OpenedSource
    classes: Mapping[str, Sequence[str]]
    preprocessing: Preprocessing
    cut_bottom: int
    skip_damaged: bool
    progress: Progress

    def work(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield the pictures of the classes in chunks, in order.

        Raises DataError if pictures are damaged, unless `skip_damaged`. It first looks through all pictures, and then
        reports the number of damaged ones and the first ten.
        """
        total = sum(len(members) for members in self.classes.values())
        left = sum(len(self.classes[name]) for name in names)
        done, damaged = total - left, list[str]()
        jobs = ((name, members) for name in names for members in _runs(self.classes[name]))
        with ThreadPoolExecutor(_READERS) as readers, _workers(left) as workers:
            for chunk in self._in_order(readers, workers, jobs):
                done += len(chunk.pictures) + len(chunk.damaged)
                self.progress("decoding", done, total)
                damaged += chunk.damaged
                yield chunk
        if damaged and not self.skip_damaged:
            shown = "; ".join(sorted(damaged)[:_SHOWN_FAILURES])
            raise DataError(
                f"{len(damaged)} of {total} pictures cannot be read, mend or remove them, or leave them out with "
                f"--set dataset.skip_damaged=true: {shown}"
            )

    def _in_order(
        self, readers: Executor, workers: Executor, jobs: Iterator[tuple[str, Sequence[str]]]
    ) -> Iterator[Chunk]:
        """Yield each chunk in order; only a few are read or decoded at a time, so that memory stays small."""
        ahead = 4 * (os.cpu_count() or 1)
        reading: deque[tuple[str, Future[Contents]]] = deque()
        decoding: deque[Future[Chunk]] = deque()
        try:
            for job in chain(jobs, repeat(None, 2 * ahead)):
                if job is not None:
                    reading.append((job[0], readers.submit(self._contents, job[1])))
                if reading and (job is None or len(reading) >= ahead):
                    name, contents = reading.popleft()
                    found = contents.result()
                    decoding.append(workers.submit(decoded_class, name, found, self.preprocessing, self.cut_bottom))
                if decoding and (job is None or len(decoding) >= ahead):
                    yield decoding.popleft().result()
        except BrokenProcessPool as error:
            raise RunError("a process that decodes pictures was stopped; was there too little memory?") from error
        finally:
            for chunk in decoding:
                chunk.cancel()
            for _name, contents in reading:
                contents.cancel()

    def _contents(self, members: Sequence[str]) -> Contents:
        found: list[tuple[str, Content]] = []
        for member in members:
            try:
                found.append((member, self.source.picture(member)))
            except DataError as error:
                found.append((member, error))
        return found


def decoded_class(name: str, contents: Contents, preprocessing: Preprocessing, cut_bottom: int) -> Chunk:
    """The readable pictures of a class, and the faults of the others."""
    pictures, damaged = [], []
    for member, content in contents:
        try:
            if isinstance(content, DataError):
                raise content
            pictures.append(decode(content, preprocessing, member, cut_bottom))
        except DataError as error:
            damaged.append(str(error))
    shape = (0, preprocessing.height, preprocessing.width, preprocessing.channels)
    return Chunk(name, np.stack(pictures) if pictures else np.empty(shape, np.uint8), damaged)


def _workers(pictures: int) -> Executor:
    cores = os.cpu_count() or 1
    if pictures < _WORTH_PROCESSES or cores == 1:
        return ThreadPoolExecutor(cores)
    # Without it, Python would import modules from the current folder, and a file in a downloaded dataset would run.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    spawned = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(cores, mp_context=spawned, initializer=_serve)


def _serve() -> None:
    """Make a worker process ignore signals, which its parent handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _runs(members: Sequence[str]) -> Iterator[Sequence[str]]:
    return (members[start : start + _AT_ONCE] for start in range(0, len(members), _AT_ONCE))
