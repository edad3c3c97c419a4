"""A run folder: config.yaml, metrics.jsonl, and the checkpoints last.pt, previous.pt and best.pt; one writer at a time.

With `checkpoint.keep_best` above 1, further checkpoints lie beside best.pt, with their iterations in their names.
"""

import json
import math
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metalearn_cli.errors import RunError
from metalearn_cli.storage.files.atomic import append, disk_errors, make_folder, sweep, write_file
from metalearn_cli.storage.files.locks import locked
from metalearn_cli.storage.files.reading import content_of

_SPARE_BYTES = 16 << 20  # for the other files of a run
_KEPT = re.compile(r"best-\d{10}\.pt")


class RunFolder(NamedTuple):
    """The files of one run."""

    path: Path

    @property
    def last(self) -> Path:
        """The path of the newest checkpoint, from which `--resume` continues."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The path of the checkpoint before last.pt, in case last.pt is damaged."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def best(self) -> Path:
        """The path of the checkpoint with the best validation score."""
        return self.path / "checkpoints" / "best.pt"

    def kept(self, iteration: int) -> Path:
        """The path of the kept checkpoint of an iteration; sorted by name, these are sorted by iteration."""
        return self.best.with_name(kept_name(iteration))

    @property
    def all_kept(self) -> list[Path]:
        """The paths of all kept checkpoints in the folder, in the order of their iterations."""
        return kept_in(self.best.parent)

    def keep_only(self, iterations: Collection[int]) -> None:
        """Delete the kept checkpoints of all other iterations.

        Raises RunError if the disk refuses.
        """
        with disk_errors(self.best.parent):
            for file in sorted(set(self.all_kept) - {self.kept(iteration) for iteration in iterations}):
                file.unlink(missing_ok=True)

    @property
    def metrics(self) -> Path:
        """The path of metrics.jsonl, which has one Report per line, as JSON."""
        return self.path / "metrics.jsonl"

    def keep_config(self, text: str) -> None:
        """Write the resolved experiment to config.yaml."""
        write_file(self.path / "config.yaml", text.encode())

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        append(self.metrics, (as_json(row) + "\n").encode())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, without a row that a crash cut short.

        Raises RunError if it cannot be read.
        """
        return [json.loads(line) for line in self._lines() if _iteration(line) is not None]

    def forget_after(self, iteration: int) -> None:
        """Delete the rows of metrics.jsonl after `iteration`; a resumed run writes them again.

        Raises RunError if it cannot be read or written.
        """
        if rows := self._lines():
            kept = [row for row in rows if (_iteration(row) or iteration + 1) <= iteration]
            write_file(self.metrics, "".join(row + "\n" for row in kept).encode())

    def _lines(self) -> list[str]:
        try:
            return content_of(self.metrics).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.metrics}: cannot be read: {error.strerror}") from error

    def require_room(self, checkpoint_bytes: int, keep_best: int) -> None:
        """Raise RunError, before training starts, if the disk has no room for the checkpoints of a run."""
        # last, previous, best, and one that is being written; of kept ones, one more before the worst is deleted.
        files = 4 if keep_best == 1 else 5 + keep_best
        needed = files * checkpoint_bytes + _SPARE_BYTES
        try:
            free = shutil.disk_usage(self.path).free
        except OSError:  # a file system that does not report its free space
            return
        if free < needed:
            raise RunError(
                f"{self.path}: the disk has {free / 1e6:.0f} MB left, a run needs {needed / 1e6:.0f} MB; free some "
                "space, or choose another folder with --run-dir"
            )


@contextmanager
def open_run(path: Path, resume: bool) -> Iterator[RunFolder]:
    """Open the run folder `path`, create it if it does not exist, and lock it for this process inside the block.

    Raises RunError if it holds a run and `resume` is false, if another process writes it, or if the disk refuses.
    """
    folder = RunFolder(path)
    if not resume and (folder.all_kept or any(file.exists() for file in (folder.last, folder.previous, folder.best))):
        raise RunError(f"{path}: holds a run already; add --resume to go on with it, or --run-dir DIR for a new one")
    with disk_errors(path):
        make_folder(folder.last.parent, path)

    def held(holder: str) -> None:
        raise RunError(f"{path}: another process writes this run ({holder}); wait for it or stop it")

    with locked(path / ".lock", held):
        for place in (path, folder.last.parent):
            sweep(place)
        # A folder that cannot be written is found now, and not at the first checkpoint, after hours.
        write_file(folder.last.with_name(".probe"), b"")
        folder.last.with_name(".probe").unlink()
        if not resume:
            folder.metrics.unlink(missing_ok=True)
        yield folder


def kept_name(iteration: int) -> str:
    """The file name of the kept checkpoint of an iteration, such as best-0000060000.pt."""
    return f"best-{iteration:010}.pt"


def kept_in(folder: Path) -> list[Path]:
    """The kept best checkpoints in a folder, in the order of their iterations."""
    return sorted(file for file in folder.glob("best-*.pt") if _KEPT.fullmatch(file.name))


def as_json(value: Any) -> str:
    """The value as JSON; NaN and infinity become null, because JSON has no such numbers."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _iteration(row: str) -> int | None:
    try:
        value = json.loads(row)["iteration"]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) else None
