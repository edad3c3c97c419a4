"""Turns pictures or rows into the inputs of a network, exactly as those of its training were prepared.

Legend: N examples, H height, W width, C channels, F features.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from metalearn_cli.datasets.tabular.encoding import encoded, size_in_words
from metalearn_cli.runtime.data.extraction import extracted_features
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.pixels import inputs_of_stored
from metalearn_cli.runtime.use.given_rows import RowsGiven, raw_rows
from metalearn_cli.runtime.use.python_arguments import Pictures, pictures_in
from metalearn_cli.storage.pictures.conversion import decode

Content = bytes | Image.Image | NDArray[np.uint8]
_PART = 64  # pictures that go through an extractor at once


def decoded_picture(content: Content, interface: Interface, name: str) -> NDArray[np.uint8]:
    """A picture as the network's first layer takes it, before its values are scaled, [H, W, C].

    Raises DataError, with `name`, for one that cannot be read.
    """
    seen, view = interface.preprocessing, interface.view
    assert seen is not None
    # Pictures that were stored smaller before their extractor read them are made smaller here, too.
    if view is not None and view.first is not None:
        content = decode(content, view.first, name)
    return decode(content, seen, name)


def network_inputs(pictures: Sequence[NDArray[np.uint8]], interface: Interface) -> Tensor:
    """Decoded pictures as inputs, [N, C, H, W] or, through the extractor, [N, F]; on the CPU.

    Raises ConfigError or CheckpointError if the extractor cannot be had, or is another one now.
    """
    assert interface.preprocessing is not None
    if interface.view is None:
        return inputs_of_stored(pictures, interface.preprocessing)
    extractor, starts = interface.view.extractor(), range(0, len(pictures), _PART)
    return torch.cat([extracted_features(np.stack(pictures[start : start + _PART]), extractor) for start in starts])


def inputs_of(given: Pictures | RowsGiven, interface: Interface) -> Tensor:
    """Pictures as network inputs [N, C, H, W], or as features [N, F] where the learner sees these; rows as [N, ...].

    They go through exactly what `prepare` did to those of training.

    Raises DataError for a picture that cannot be read, and for rows that are not of the table's columns.
    """
    if interface.table is not None:
        return torch.from_numpy(encoded(raw_rows(given, interface.table), interface.table))
    assert interface.preprocessing is not None
    pictures = pictures_in(given, interface.preprocessing.channels)
    return network_inputs([decoded_picture(one.content, interface, one.name) for one in pictures], interface)


def size_of(interface: Interface) -> str:
    """The inputs of a network in words: "28 x 28 pixels, grey", "1280 features (NAME)", or the columns of a table."""
    if interface.table is not None:
        return size_in_words(interface.table)
    if interface.view is not None:
        return f"{interface.input_shape[0]} features ({interface.view.told})"
    channels, height, width = interface.input_shape
    return f"{width} x {height} pixels, {'grey' if channels == 1 else 'colour'}"


def with_extractor(network: nn.Module, interface: Interface) -> nn.Module:
    """A network that reads features, with its extractor before it: inputs [N, C, H, W]. Others stay as they are."""
    if interface.view is None:
        return network
    return nn.Sequential(OrderedDict(extractor=interface.view.extractor().module, classifier=network))
