"""Finds the checkpoints to measure: a single file, or the members of an ensemble in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.datasets import PREPARATION_ONLY, TaskSource
from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.runtime.data.extraction import asked_features
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.opening import dataset_of
from metalearn_cli.runtime.run.checkpoint_contents import trained_in
from metalearn_cli.runtime.run.checkpoint_headers import TrainingHeader, training_header
from metalearn_cli.settings import Choice
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint
from metalearn_cli.storage.runs.run_folder import kept_in, kept_name

_TRAINED_ALIKE = ("dataset", "task", "backbone", "algorithm")
_MAY_DIFFER = {
    "every",
    "episodes",
    "val_episodes",
    "calibrate_shots",
    *PREPARATION_ONLY,
}  # keys without effect on tasks


class EnsembleMember(NamedTuple):
    """A checkpoint: the experiment it was trained with, the one it is measured with, and its network's interface."""

    path: Path
    checkpoint: Checkpoint
    header: TrainingHeader
    trained: Experiment
    asked: Experiment
    interface: Interface


def members(path: Path, overrides: Sequence[str]) -> list[EnsembleMember]:
    """The checkpoint in a file, or the members of the ensemble in a folder, sorted by name.

    In the folder of a run, the members are the checkpoints that `checkpoint.keep_best` kept; in any other folder they
    are all `*.pt` files.

    Raises CheckpointError or ConfigError if a checkpoint cannot be measured with the overrides, or not together with
    the others.
    """
    found = [_opened(file, overrides) for file in (_files(path) if path.is_dir() else [path])]
    for other in found[1:]:
        _require_alike(found[0], other)
    return found


def _files(folder: Path) -> list[Path]:
    place = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    if not any((place / name).exists() for name in ("last.pt", "best.pt")):
        if files := sorted(place.glob("*.pt")):
            return files
        raise CheckpointError(f"{folder}: holds no checkpoints, expected the folder of a run, or *.pt files in it")
    kept = kept_in(place)
    if not kept:
        raise CheckpointError(
            f"{folder}: this run kept no checkpoints for an ensemble, which checkpoint.keep_best=5 does in training; "
            f"measure {place / 'best.pt'} by itself"
        )
    return _named_by(kept[-1])


def _named_by(newest: Path) -> list[Path]:
    """The checkpoints in the list that the newest one stores; a crash may have left files that are no longer in it."""
    kept = training_header(read_checkpoint(newest), newest).kept
    files = sorted(newest.with_name(kept_name(iteration)) for iteration, _ in kept)
    for file in files:
        if not file.exists():
            raise CheckpointError(f"{file}: is not there, but {newest.name} names it as one of the best of its run")
    return files


def _opened(path: Path, overrides: Sequence[str]) -> EnsembleMember:
    checkpoint = read_checkpoint(path)
    header, trained, interface = trained_in(checkpoint, path)
    asked = with_overrides(trained, overrides)
    _require_as_trained(path, trained, asked)
    _require_inputs(path, interface, asked.dataset)
    return EnsembleMember(path, checkpoint, header, trained, asked, interface=interface)


def _require_as_trained(path: Path, trained: Experiment, asked: Experiment) -> None:
    """Raise ConfigError if an override changes network or algorithm: tables would name settings never trained."""
    for part in ("algorithm", "backbone"):
        before, after = getattr(trained, part).model_dump(), getattr(asked, part).model_dump()
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                then = brief(repr(before.get(key)))
                raise ConfigError(f"{part}.{key}: {path} was trained with {then}, which --set cannot change now")


def _require_inputs(path: Path, interface: Interface, asked: Choice) -> None:
    """Raise ConfigError for numbers in the place of pictures or the other way round, or for another extractor."""
    dataset = dataset_of(asked)
    table, numbers = isinstance(dataset, Tabular), isinstance(dataset, TaskSource | Tabular)
    if numbers != (interface.preprocessing is None) or table != (interface.table is not None):
        trained = "pictures" if interface.preprocessing else "numbers" if interface.table is None else "a table"
        raise ConfigError(f"dataset.name: {path} was trained on {trained}, and {asked.name} has none")
    chosen, view = asked_features(asked), interface.view
    trained_with = None if view is None else view.settings
    if chosen != trained_with:
        now, then = (settings and settings.model_dump(mode="json") for settings in (chosen, trained_with))
        raise ConfigError(f"dataset.features: found {now}, but {path} was trained with {then}; set it so")


def _require_alike(first: EnsembleMember, other: EnsembleMember) -> None:
    """Raise ConfigError unless two members differ only in weights, seeds and the course of their training.

    The mean of outputs is a prediction only if all members solve the same task with the same network.
    """
    pairs = [(block, getattr(first.trained, block), getattr(other.trained, block)) for block in _TRAINED_ALIKE]
    for block, wanted, found in [*pairs, ("eval", first.asked.eval, other.asked.eval)]:
        before, after = wanted.model_dump(), found.model_dump()
        for key in sorted((before.keys() | after.keys()) - _MAY_DIFFER, key=lambda key: (key != "name", key)):
            if before.get(key) != after.get(key):
                then, now = (brief(repr(values.get(key))) for values in (before, after))
                raise _unlike(first, other, f"{block}.{key}: {now}", then)
    if first.checkpoint.header["data_sha256"] != other.checkpoint.header["data_sha256"]:
        raise _unlike(first, other, "trained on other data", "the same")
    if first.interface != other.interface:
        raise _unlike(first, other, "a network with other inputs or outputs", "the same")


def _unlike(first: EnsembleMember, other: EnsembleMember, found: str, expected: str) -> ConfigError:
    return ConfigError(f"{other.path}: no ensemble with {first.path}: found {found}, expected {expected}")
