"""A run folder: config.yaml, metrics.jsonl, checkpoints/last.pt and best.pt, and one writer at a time."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metalearn_cli.errors import RunError
from metalearn_cli.storage.atomic import disk_errors, write_file
from metalearn_cli.storage.locks import locked


class RunFolder(NamedTuple):
    """The files of one run."""

    path: Path

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def metrics(self) -> Path:
        """One Report a line, as JSON."""
        return self.path / "metrics.jsonl"

    def keep_config(self, text: str) -> None:
        """config.yaml holds the resolved experiment."""
        write_file(self.path / "config.yaml", text.encode())

    def append(self, row: Mapping[str, Any]) -> None:
        """metrics.jsonl has one row more."""
        with disk_errors(self.metrics), self.metrics.open("a") as file:
            file.write(as_json(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; one that a crash cut short is left out."""
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if _iteration(line) is not None]

    def forget_after(self, iteration: int) -> None:
        """metrics.jsonl holds no row of an iteration after `iteration`, which a resumed run will write again."""
        if not self.metrics.exists():
            return
        rows = self.metrics.read_text().splitlines()
        kept = [row for row in rows if (_iteration(row) or iteration + 1) <= iteration]
        write_file(self.metrics, "".join(row + "\n" for row in kept).encode())


@contextmanager
def opened(path: Path, resume: bool) -> Iterator[RunFolder]:
    """The run folder at `path`, made if need be and locked for this process until the block ends.

    Raises RunError if it holds a run and `resume` is false, if another process writes it, or if the disk refuses.
    """
    folder = RunFolder(path)
    if folder.last.exists() and not resume:
        raise RunError(f"{path}: holds a run already; add --resume to go on with it, or --run-dir DIR for a new one")
    with disk_errors(path):
        folder.last.parent.mkdir(parents=True, exist_ok=True)

    def held(holder: str) -> None:
        raise RunError(f"{path}: another process writes this run ({holder}); wait for it or stop it")

    with locked(path / ".lock", held):
        if not resume:
            folder.metrics.unlink(missing_ok=True)
        yield folder


def as_json(value: Any) -> str:
    """The value as JSON, which has no numbers that are not finite: they become null."""
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
