"""Opens the features beside the pictures of a prepared dataset, and computes them if they are not stored yet.

Legend: N pictures, V views, H height, W width, C channels, F features.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from metalearn_cli.datasets import Archive, Generated
from metalearn_cli.extractors import Extractor
from metalearn_cli.runtime.data.extraction import extracted_features, extractor_for, views_of
from metalearn_cli.runtime.data.pixels import CPU
from metalearn_cli.settings import Choice
from metalearn_cli.storage.files.locks import locked
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared.dataset import Prepared
from metalearn_cli.storage.prepared.features import (
    Asked,
    Floats,
    Stored,
    Work,
    features_folder,
    open_features,
    write_features,
)
from metalearn_cli.storage.prepared.originals import Originals, originals

_SECONDS_BETWEEN_LOOKS = 0.2
_DECODERS = 4  # threads that decode pictures while the extractor computes


def features_beside(
    settings: Choice, dataset: Archive | Generated, prepared: Prepared, folder: Path, progress: Progress,
    device: torch.device = CPU,
) -> Stored:  # fmt: skip
    """The features of all pictures of the prepared dataset in `folder`, by the extractor that its `settings` name.

    If they are not stored, one process computes them while others wait. It reads the original pictures in the
    extractor's own size if their source is unchanged, and otherwise the stored pictures.

    Raises ConfigError if the extractor is missing, DataError if features are damaged or pictures cannot be read,
    RunError if the disk refuses.
    """
    asked, extractor = asked_of(settings, prepared)
    views, augmentation = asked.views, list(asked.augmentation)
    place = features_folder(folder, asked)
    if found := open_features(place, asked, progress):
        return found

    def wait(holder: str) -> None:
        progress(f"waiting for {holder}, which computes features", 0, 1)
        time.sleep(_SECONDS_BETWEEN_LOOKS)

    with locked(folder.parent / f".{folder.name}.lock", wait):
        if found := open_features(place, asked, progress):
            return found
        with originals(folder, prepared, dataset) as source:
            reads = _stored(prepared, extractor) if isinstance(source, str) else _originals(source, extractor)
            facts = {
                "about": extractor.about, "features": extractor.features,
                "read_from": "stored" if isinstance(source, str) else "originals",
                "why": source if isinstance(source, str) else "",
            }  # fmt: skip
            with ThreadPoolExecutor(_DECODERS) as readers:

                def part(numbers: Sequence[int]) -> Floats:
                    pictures = np.stack(list(readers.map(reads, numbers)))
                    copies = views_of(pictures, range(numbers[0], numbers[-1] + 1), views, augmentation)
                    values: Floats = extracted_features(copies, extractor, device).cpu().numpy().astype(np.float16)
                    return values

                work = Work(prepared.images.shape[0], part, facts, f"{extractor.about} features")
                return write_features(place, asked, work, progress)


def asked_of(settings: Choice, prepared: Prepared) -> tuple[Asked, Extractor]:
    """The key of the features that a dataset's settings name (everything on which they depend), and their extractor.

    Raises ConfigError if the extractor is missing.
    """
    chosen: Choice = settings.features  # type: ignore[attr-defined]
    augmentation: list[str] = list(settings.augmentation)  # type: ignore[attr-defined]
    extractor = extractor_for(chosen)
    return Asked(prepared.manifest.sha256, extractor.identity, getattr(chosen, "views", 1), augmentation), extractor


def _originals(source: Originals, extractor: Extractor) -> Callable[[int], NDArray[np.uint8]]:
    """A function from the number of a picture to its original, in the extractor's size."""
    members = source.stored()
    return lambda number: source.read(members[number], number, extractor.preprocessing)


def _stored(prepared: Prepared, extractor: Extractor) -> Callable[[int], NDArray[np.uint8]]:
    """A function from the number of a picture to the stored picture, resized to the extractor's size."""

    def read(number: int) -> NDArray[np.uint8]:
        return decode(prepared.images.picture(number), extractor.preprocessing, f"picture {number}")

    return read
