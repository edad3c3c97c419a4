"""Builds the extractor that an experiment's `dataset.features` names, and computes the features of pictures with it.

Legend: N pictures, H height, W width, C channels, F features.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.registry import EXTRACTED, module_of
from metalearn_cli.extractors import Extractor
from metalearn_cli.runtime.data.augmentation import augmented, chances_for, per_channel
from metalearn_cli.runtime.data.pixels import CPU
from metalearn_cli.runtime.data.random_streams import generator_for
from metalearn_cli.runtime.data.torch_threads import torch_alone
from metalearn_cli.settings import Choice

_AT_ONCE = 4
"""Pictures that one CPU thread takes at a time, so few that the outputs of the layers fit into its cache."""
_AT_ONCE_ELSEWHERE = 64
"""Pictures that a GPU takes at a time."""


def asked_features(dataset: Choice) -> Choice | None:
    """The settings of a dataset's extractor, or None if learners read pixels.

    Raises ConfigError if the members of a mixture have different extractors.
    """
    own: Choice | None = getattr(dataset, EXTRACTED, None)
    members: tuple[Choice, ...] = getattr(dataset, "of", ())
    if not members:
        return own
    asked = [asked_features(member) for member in members]
    if any(settings != asked[0] for settings in asked):
        raise ConfigError("dataset.of: some have other `features` than others; expected the same for all, or none")
    return asked[0]


def extractor_for(settings: Choice) -> Extractor:
    """The extractor of these settings, with its weights; a second call with equal settings returns the same object.

    Raises ConfigError if its library or its weights are missing or wrong.
    """
    return _built(type(settings), settings.model_dump_json(exclude={"views"}))


@lru_cache(maxsize=4)
def _built(config: type[Choice], values: str) -> Extractor:
    settings = config.model_validate_json(values)
    try:
        with torch_alone():
            extractor: Extractor = module_of(settings).build(settings)
    except ConfigError as error:
        raise ConfigError(f"dataset.{EXTRACTED}: {settings.name}: {error}") from error
    for parameter in extractor.module.parameters():  # a program of torch.export has no eval()
        parameter.requires_grad_(False)
    return extractor


def extracted_features(pictures: NDArray[np.uint8], extractor: Extractor, device: torch.device = CPU) -> Tensor:
    """The features [N, F] of pictures uint8 [N, H, W, C] in the size and colours of the extractor's preprocessing."""
    module, seen = extractor.module.to(device), extractor.preprocessing
    mean, std = (per_channel(tuple(values), device) for values in (seen.mean, seen.std))
    size = _AT_ONCE if device.type == "cpu" else _AT_ONCE_ELSEWHERE

    def part(start: int) -> Tensor:
        # permute changes only the strides, so channels still lie side by side; convolutions on a CPU are faster so.
        pixels = torch.from_numpy(pictures[start : start + size]).to(device).permute(0, 3, 1, 2)
        with torch.no_grad():
            features: Tensor = module((pixels.to(torch.float32) / 255 - mean) / std).float()
        return features

    starts = range(0, len(pictures), size)
    if not starts:
        return torch.empty(0, extractor.features, device=device)
    if device.type != "cpu":
        return torch.cat([part(start) for start in starts])
    with torch_alone() as cores, ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat(list(pool.map(part, starts)))


def views_of(pictures: NDArray[np.uint8], numbers: range, views: int, augmentation: list[str]) -> NDArray[np.uint8]:
    """The `views` versions of each picture [N, H, W, C], behind one another, [N * views, H, W, C]; first the picture.

    The random changes of a copy depend only on the picture's number in the dataset (`numbers`) and on the copy's place.
    """
    if views == 1:
        return pictures
    plain = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(torch.float32) / 255
    versions = [plain]
    for view in range(1, views):
        generators = [generator_for(view, "views", 0, number) for number in numbers]
        chances = np.stack([one.random(chances_for(augmentation), dtype=np.float32) for one in generators])
        versions.append(augmented(plain, torch.from_numpy(chances), augmentation))
    changed = torch.stack(versions, 1).flatten(0, 1).mul(255).round().clamp(0, 255).to(torch.uint8)
    stored: NDArray[np.uint8] = changed.permute(0, 2, 3, 1).contiguous().numpy()
    return stored
