"""Any picture into stored pixels, in exactly the order that its Preprocessing says."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError, reason

# What Pillow warns of is harmless, such as odd EXIF data, or an error here; its words would stand among ours on stderr.
warnings.filterwarnings("ignore", module=r"PIL\.")

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MOST_PIXELS = 64_000_000
_LONGEST_SIDE = 65_535  # a JPEG's; Pillow keeps two words a row, however narrow
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode(
    source: bytes | Image.Image | NDArray[np.uint8], preprocessing: Preprocessing, name: str, cut_bottom: int = 0
) -> NDArray[np.uint8]:
    """The pixels [H, W, C] of a picture, as they are stored, without the `cut_bottom` lowest rows of the original.

    Raises DataError, with `name` and the reason, if it is no picture, a damaged one, or larger than 64 megapixels.
    """
    try:
        if isinstance(source, np.ndarray):
            picture = from_array(source[np.newaxis])[0]
        else:
            picture = Image.open(io.BytesIO(source), formats=_FORMATS) if isinstance(source, bytes) else source
        width, height = picture.size
        if width * height > _MOST_PIXELS or max(width, height) > _LONGEST_SIDE:
            raise DataError(
                f"{name}: has {width} x {height} pixels; at most 64 megapixels and {_LONGEST_SIDE} a side are read"
            )
        upright = ImageOps.exif_transpose(picture)
        if cut_bottom:
            upright = upright.crop((0, 0, upright.width, max(1, upright.height - cut_bottom)))
        return _stored(upright, preprocessing)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: at most 64 megapixels are read: {reason(error)}") from error
    except Exception as error:  # Pillow's parsers raise far more types than they document
        if "cannot identify" in str(error):
            raise DataError(f"{name}: is not a png, jpg, webp or bmp picture") from error
        raise DataError(f"{name}: is damaged: {reason(error)}") from error


def from_array(pictures: NDArray[np.uint8]) -> Sequence[Image.Image]:
    """Pictures of a uint8 array [N, H, W, C] with C of 1, 3 or 4, or [N, H, W].

    Raises DataError for another type or shape.
    """
    shape: tuple[int, ...] = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,), (4,)):
        raise DataError(f"pictures of type {pictures.dtype} and shape {shape}; expected uint8 [N, H, W, C]")
    return [Image.fromarray(one[..., 0] if shape[3:] == (1,) else one) for one in pictures]


def _stored(picture: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    # Grey before resizing: Pillow takes NEAREST for 1-bit and palette pictures whatever filter is asked.
    plain = _opaque(picture).convert("L" if preprocessing.channels == 1 else "RGB")
    if preprocessing.fit == "crop":
        plain = _cropped(plain, preprocessing.width / preprocessing.height)
    size = (preprocessing.width, preprocessing.height)
    if plain.size != size:
        plain = plain.resize(size, _FILTERS[preprocessing.resize])
    pixels: NDArray[np.uint8] = np.asarray(plain).reshape(*reversed(size), preprocessing.channels)
    return 255 - pixels if preprocessing.invert else pixels


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture in 8 bits, on white paper where it is transparent."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bits(picture)
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16 bits scaled to 8; Pillow's own conversion cuts everything above 255 off."""
    values: NDArray[Any] = np.asarray(picture)
    return Image.fromarray((values.astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))


def _cropped(picture: Image.Image, ratio: float) -> Image.Image:
    """The largest centred part whose width is `ratio` times its height."""
    width, height = picture.size
    kept_width = max(1, min(width, round(height * ratio)))
    kept_height = max(1, min(height, round(width / ratio)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return picture.crop((left, top, left + kept_width, top + kept_height))
