"""Finds stored features for a run that was trained on pixels, so that both can be compared."""

import torch

from metalearn_cli.datasets import Archive
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.runtime.data.featured import asked_of
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.opening import dataset_of, open_data
from metalearn_cli.storage.prepared.features import features_folder
from metalearn_cli.storage.prepared.preparation import data_folder, open_or_explain

_USUAL = "dataset.features={name: efficientnet_lite}"


def beside_pixels(experiment: Experiment, device: torch.device) -> Data | None:
    """The data of the same tasks with features of efficientnet_lite as inputs, if `prepare --features` stored them.

    None if they are not stored or cannot be read, or if the extra `photos` is not installed. No feature is computed.
    """
    featured = with_overrides(experiment, [_USUAL, "dataset.augmentation=[]"])
    dataset = dataset_of(featured.dataset)
    if not isinstance(dataset, Archive):
        return None
    try:
        prepared = open_or_explain(featured.dataset.name, dataset, data_folder(None), lambda *_moved: None)
        asked, _ = asked_of(featured.dataset, prepared)
        there = (features_folder(data_folder(None) / dataset.store, asked) / "features.json").exists()
        return open_data(featured, None, lambda *_moved: None, device=device) if there else None
    except (ConfigError, DataError):
        return None
