"""All pictures of a source into pixels, on all cores, a few at a time."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.storage.downloads import Progress
from metalearn_cli.storage.pictures import decode
from metalearn_cli.storage.sources import Source
from metalearn_cli.storage.writing import Chunk

_SHOWN_FAILURES = 10
# Small pictures one by one would spend their time waiting for the interpreter; large ones need their memory.
_AT_ONCE = 32


class Decoder(NamedTuple):
    """What it takes to decode the classes of a source; `cut_bottom` as in Archive."""

    source: Source
    classes: Mapping[str, Sequence[str]]
    preprocessing: Preprocessing
    cut_bottom: int
    skip_damaged: bool
    progress: Progress

    def work(self, names: Sequence[str]) -> Iterator[Chunk]:
        """The classes in chunks, in order. All damaged pictures are found before the first ten are reported.

        Raises DataError for damaged pictures, unless they are to be skipped.
        """
        total = sum(len(members) for members in self.classes.values())
        done = total - sum(len(self.classes[name]) for name in names)
        damaged: list[str] = []
        jobs = ((name, members) for name in names for members in _runs(self.classes[name]))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for chunk, count in self._in_order(pool, jobs):
                done += count
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
        self, pool: ThreadPoolExecutor, jobs: Iterator[tuple[str, Sequence[str]]]
    ) -> Iterator[tuple[Chunk, int]]:
        """Each chunk and how many pictures it was made from; only so many are under way that memory stays small."""
        waiting: deque[tuple[Future[Chunk], int]] = deque()
        try:
            for name, members in jobs:
                waiting.append((pool.submit(self._decoded, name, members), len(members)))
                if len(waiting) >= 4 * (os.cpu_count() or 1):
                    future, count = waiting.popleft()
                    yield future.result(), count
            while waiting:
                future, count = waiting.popleft()
                yield future.result(), count
        finally:
            for future, _count in waiting:
                future.cancel()

    def _decoded(self, name: str, members: Sequence[str]) -> Chunk:
        pictures, damaged = [], []
        for member in members:
            try:
                pictures.append(decode(self.source.picture(member), self.preprocessing, member, self.cut_bottom))
            except DataError as error:
                damaged.append(str(error))
        shape = (0, self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        return Chunk(name, np.stack(pictures) if pictures else np.empty(shape, np.uint8), damaged)


def _runs(members: Sequence[str]) -> Iterator[Sequence[str]]:
    return (members[start : start + _AT_ONCE] for start in range(0, len(members), _AT_ONCE))
