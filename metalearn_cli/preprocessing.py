"""The steps from a picture to a network's input. Datasets, extractors and checkpoints each store them."""

from typing import Annotated, Literal

from pydantic import Field

from metalearn_cli.settings import Settings

_Share = Annotated[float, Field(ge=0, le=1)]
Resize = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]


class Preprocessing(Settings):
    """The steps from a picture to a network's input, stored with the dataset and with every checkpoint.

    In this order: EXIF orientation, grey or RGB, crop to the target's aspect ratio (`fit: crop`) or not
    (`fit: squash`), resize to `height` x `width`, invert. These pixels are stored as uint8. When they are used, each
    becomes (pixel / 255 - mean) / std, per channel.

    `ink`, if known: the brightness of the stored training pictures, as mean and standard deviation of their mean pixels
    (0 to 1).
    """

    channels: Literal[1, 3]
    height: int
    width: int
    resize: Resize = "bilinear"
    fit: Literal["squash", "crop"] = "squash"
    invert: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    ink: tuple[_Share, _Share] | None = None
