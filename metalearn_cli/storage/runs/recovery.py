"""Finds the checkpoint from which a run continues: the newest one that is whole."""

from collections.abc import Callable
from pathlib import Path

from metalearn_cli.errors import DamagedError
from metalearn_cli.storage.files.atomic import disk_errors
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint
from metalearn_cli.storage.runs.run_folder import RunFolder


def newest(folder: RunFolder, say: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
    """The newest whole checkpoint of a run, with its path; None if the run has no checkpoint.

    If last.pt is damaged, `say` gets a line, and the file is renamed to last.pt.damaged, so that it does not replace
    the whole previous.pt at the next write.

    Raises DamagedError if all checkpoints are damaged, CheckpointError if last.pt has a newer format.
    """
    damage = f"{folder.last}: is not there"
    if folder.last.exists():
        try:
            return folder.last, read_checkpoint(folder.last)
        except DamagedError as error:
            damage = str(error)
    others = (folder.previous, folder.best, *folder.all_kept)
    older = [(path, found) for path in others if (found := _whole(path)) is not None]
    if not older:
        if any(path.exists() for path in (folder.last, *others)):
            raise DamagedError(f"{damage}; no other checkpoint of the run is whole; start again with --run-dir DIR")
        return None
    path, checkpoint = max(older, key=lambda pair: _iteration(pair[1]))
    if folder.last.exists():
        aside = folder.last.with_name("last.pt.damaged")
        with disk_errors(aside):
            folder.last.replace(aside)
        damage += f" (kept as {aside.name})"
    say(f"{damage}; going on from {path.name}, iteration {_iteration(checkpoint)}")
    return path, checkpoint


def _whole(path: Path) -> Checkpoint | None:
    try:
        return read_checkpoint(path) if path.exists() else None
    except DamagedError:
        return None


def _iteration(checkpoint: Checkpoint) -> int:
    iteration = checkpoint.header.get("iteration")
    return iteration if type(iteration) is int else -1
