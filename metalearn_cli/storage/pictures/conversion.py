"""Turns any picture into stored pixels, by the steps of its Preprocessing, always in the same order."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError, reason
from metalearn_cli.storage.pictures.metadata import bare
from metalearn_cli.storage.pictures.recognition import BY_SUFFIX, HEAD, READ, reads_heif, recognised

# Pillow's warnings are either harmless (odd EXIF data) or errors here already, and would mix with our lines on stderr.
warnings.filterwarnings("ignore", module=r"PIL\.")

_MOST_PIXELS = 64_000_000  # 256 MB in the four channels of RGBA
_LONGEST_SIDE = 65_535  # the limit of JPEG; Pillow needs memory for each row, even if the picture is one pixel wide
_END_OF_JPEG = b"\xff\xd9"
_ORIENTATION = 274  # in EXIF
_BITS, _PHOTOMETRIC = 258, 262  # in TIFF
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a picture with this EXIF orientation upright."""


def decode(
    source: bytes | Image.Image | NDArray[np.uint8], preprocessing: Preprocessing, name: str, cut_bottom: int = 0
) -> NDArray[np.uint8]:
    """The stored pixels [H, W, C] of a picture, without the `cut_bottom` lowest rows of the original.

    Raises DataError, with `name` and the reason, if it is not a picture, is damaged, or has over 64 megapixels.
    """
    try:
        if isinstance(source, np.ndarray):
            source = from_array(source[np.newaxis])[0]
        upright = _whole(source, name) if isinstance(source, bytes) else _upright(source, name, None)
        if cut_bottom:
            upright = upright.crop((0, 0, upright.width, max(1, upright.height - cut_bottom)))
        return _stored(upright, preprocessing, name)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: at most 64 megapixels are read: {reason(error)}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: is damaged: its beginning makes no sense") from error
    except Exception as error:  # Pillow's parsers raise far more types of errors than they document
        raise DataError(f"{name}: is damaged: {reason(error)}") from error


def _whole(content: bytes, name: str) -> Image.Image:
    """The picture in a file, upright. Raises DataError, with `name`, if metalearn does not read files of this kind."""
    kind, why = recognised(name, content[:HEAD])
    if why:
        raise DataError(f"{name}: is no picture that is read ({kind}): {why}")
    content, orientation = bare(content)
    try:
        return _upright(_opened(content, name), name, orientation)
    except OSError:
        if not content.startswith(b"\xff\xd8") or content.endswith(_END_OF_JPEG):
            raise
        return _upright(_ended(content), name, orientation)


def _opened(content: bytes, name: str) -> Image.Image:
    formats = [*READ, *(kind for suffix, kind in BY_SUFFIX.items() if name.lower().endswith(suffix))]
    if content[4:8] == b"ftyp" and reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    return Image.open(io.BytesIO(content), formats=formats)


def _ended(content: bytes) -> Image.Image:
    """A JPEG that lacks its last bytes, completed, if no pixel is missing.

    libjpeg silently fills missing pixels with grey. To find out whether any is missing, the file is completed by other
    bytes too: if pixels were missing, the two pictures would differ.
    """
    content = content.rstrip(b"\xff")
    one, other = (_opened(content + filler + _END_OF_JPEG, "") for filler in (b"", b"\x55\xaa" * 64))
    if one.tobytes() != other.tobytes():
        raise OSError("image file is truncated")
    return one


def _upright(picture: Image.Image, name: str, orientation: int | None) -> Image.Image:
    """The first frame, loaded and turned upright; if `orientation` is None, Pillow reads it."""
    width, height = picture.size
    if width * height > _MOST_PIXELS or max(width, height) > _LONGEST_SIDE:
        raise DataError(
            f"{name}: has {width} x {height} pixels; at most 64 megapixels and {_LONGEST_SIDE} a side are read"
        )
    picture.load()
    if orientation is None:
        orientation = _orientation(picture)
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises many types of errors; the pixels are whole all the same
        return 1


def from_array(pictures: NDArray[np.uint8]) -> Sequence[Image.Image]:
    """The pictures in a uint8 array [N, H, W, C] with C = 1, 3 or 4, or [N, H, W].

    Raises DataError for another dtype or shape.
    """
    shape: tuple[int, ...] = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,), (4,)):
        raise DataError(f"pictures of type {pictures.dtype} and shape {shape}; expected uint8 [N, H, W, C]")
    return [Image.fromarray(pixels[..., 0] if shape[3:] == (1,) else pixels) for pixels in pictures]


def _stored(picture: Image.Image, preprocessing: Preprocessing, name: str) -> NDArray[np.uint8]:
    # Grey before resizing: Pillow resizes 1-bit and palette pictures by NEAREST, whatever filter it is asked for.
    plain = _opaque(picture, name).convert("L" if preprocessing.channels == 1 else "RGB")
    if preprocessing.fit == "crop":
        plain = _cropped(plain, preprocessing.width / preprocessing.height)
    size = (preprocessing.width, preprocessing.height)
    if plain.size != size:
        plain = plain.resize(size, _FILTERS[preprocessing.resize])
    pixels: NDArray[np.uint8] = np.asarray(plain).reshape(*reversed(size), preprocessing.channels)
    return 255 - pixels if preprocessing.invert else pixels


def _opaque(picture: Image.Image, name: str) -> Image.Image:
    """The picture in 8 bits, with transparent pixels turned white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bits(picture, name)
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if {*picture.getbands()} & {"A", "a"} or "transparency" in picture.info:
        layer = picture.convert("LA" if picture.mode == "La" else "RGBA").convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return picture


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Values of 16 bits, or from 0 to 1, scaled to 8 bits; Pillow's own conversion would cut off all above 255.

    Raises DataError, with `name`, for other numbers, because it is unknown which of them is white.
    """
    values: NDArray[Any] = np.asarray(picture).astype(np.float64)
    tags = getattr(picture, "tag_v2", {})
    white = 1 if picture.mode == "F" else 2 ** tags.get(_BITS, (16,))[0] - 1 if picture.mode == "I;16" else 65535
    if not (values.min() >= 0 and values.max() <= white):
        raise DataError(f"{name}: has numbers from {values.min():g} to {values.max():g}, not from 0 to {white}")
    if tags.get(_PHOTOMETRIC) == 0 and picture.mode == "I;16":  # 0 is white; Pillow inverts only up to 8 bits itself
        values = white - values
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))


def _cropped(picture: Image.Image, ratio: float) -> Image.Image:
    """The largest centred part with a width of `ratio` times its height."""
    width, height = picture.size
    kept_width = max(1, min(width, round(height * ratio)))
    kept_height = max(1, min(height, round(width / ratio)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return picture.crop((left, top, left + kept_width, top + kept_height))
