"""Refuses to test a checkpoint on classes that it may have been trained on."""

from pathlib import Path

from metalearn_cli.datasets import PREPARATION_ONLY, Mixture, Part, TaskSource, trains_on_val
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.settings import Choice
from metalearn_cli.storage.runs import checkpoints


def require_unseen(
    checkpoint: checkpoints.Checkpoint, path: Path, trained: Choice, asked: Choice, *, data: Data, part: Part
) -> None:
    """Raise ConfigError or CheckpointError if the checkpoint may have been trained on a class of the part.

    `trained` is the dataset block of the checkpoint, `asked` that of the test. Members of a mixture are checked alone.
    """
    suspicion = "it may have been trained on the classes that it would be tested on"
    if isinstance(mixture := opening.dataset_of(trained), Mixture) and asked.name != trained.name:
        for member in mixture.of:
            require_unseen(checkpoint, path, member, asked, data=data, part=part)
        return
    same = asked.name == trained.name and getattr(asked, "title", None) == getattr(trained, "title", None)
    if not same:
        common = sorted(opening.class_names(trained, None, "train") & data.classes(part))
        if common:
            raise ConfigError(
                f"dataset.name: {path} was trained on {len(common)} classes of part '{part}' of {asked.name}, "
                f"such as {common[0]!r}; it cannot be tested on them"
            )
        return
    if part == "val" and trains_on_val(trained):
        raise ConfigError(
            f"dataset.trainval: {path} was trained on the classes of part 'val'; it can be tested on 'test'"
        )
    if isinstance(opening.dataset_of(asked), TaskSource):  # its tasks are drawn anew, so none was trained on
        return
    before, after = trained.model_dump(), asked.model_dump()
    for key in sorted((before.keys() | after.keys()) - PREPARATION_ONLY):
        if before.get(key) != after.get(key):
            then, now = (brief(repr(values.get(key))) for values in (before, after))
            raise ConfigError(f"dataset.{key}: {path} was trained with {then}; with {now} {suspicion}")
    if checkpoint.header["experiment"]["dataset"]["name"] == asked.name and data.sha256 != checkpoint.header.get(
        "data_sha256"
    ):
        raise CheckpointError(
            f"{path}: was trained on other data than the prepared {asked.name} holds now; {suspicion}"
        )
