"""Any picture into stored pixels, in exactly the order that its Preprocessing says."""

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

# What Pillow warns of is harmless, such as odd EXIF data, or an error here; its words would stand among ours on stderr.
warnings.filterwarnings("ignore", module=r"PIL\.")

_MOST_PIXELS = 64_000_000
_LONGEST_SIDE = 65_535  # a JPEG's; Pillow keeps two words a row, however narrow
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
"""How to turn a picture of this EXIF orientation."""


def decode(
    source: bytes | Image.Image | NDArray[np.uint8], preprocessing: Preprocessing, name: str, cut_bottom: int = 0
) -> NDArray[np.uint8]:
    """The pixels [H, W, C] of a picture, as they are stored, without the `cut_bottom` lowest rows of the original.

    Raises DataError, with `name` and the reason, if it is no picture, a damaged one, or larger than 64 megapixels.
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
    except Exception as error:  # Pillow's parsers raise far more types than they document
        raise DataError(f"{name}: is damaged: {reason(error)}") from error


def _whole(content: bytes, name: str) -> Image.Image:
    """The picture in a file, upright. Raises DataError, with `name`, if it is none that is read."""
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
    """A JPEG without its last bytes, if none of its pixels is missing.

    libjpeg would fill up what is missing without a word; but then other bytes in its place give another picture.
    """
    content = content.rstrip(b"\xff")
    one, other = (_opened(content + filler + _END_OF_JPEG, "") for filler in (b"", b"\x55\xaa" * 64))
    if one.tobytes() != other.tobytes():
        raise OSError("image file is truncated")
    return one


def _upright(picture: Image.Image, name: str, orientation: int | None) -> Image.Image:
    """The first frame, loaded, and turned by its orientation, which Pillow is asked for if it is None."""
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
    except Exception:  # damaged EXIF raises many types; the picture is whole all the same
        return 1


def from_array(pictures: NDArray[np.uint8]) -> Sequence[Image.Image]:
    """Pictures of a uint8 array [N, H, W, C] with C of 1, 3 or 4, or [N, H, W].

    Raises DataError for another type or shape.
    """
    shape: tuple[int, ...] = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,), (4,)):
        raise DataError(f"pictures of type {pictures.dtype} and shape {shape}; expected uint8 [N, H, W, C]")
    return [Image.fromarray(one[..., 0] if shape[3:] == (1,) else one) for one in pictures]


def _stored(picture: Image.Image, preprocessing: Preprocessing, name: str) -> NDArray[np.uint8]:
    # Grey before resizing: Pillow takes NEAREST for 1-bit and palette pictures whatever filter is asked.
    plain = _opaque(picture, name).convert("L" if preprocessing.channels == 1 else "RGB")
    if preprocessing.fit == "crop":
        plain = _cropped(plain, preprocessing.width / preprocessing.height)
    size = (preprocessing.width, preprocessing.height)
    if plain.size != size:
        plain = plain.resize(size, _FILTERS[preprocessing.resize])
    pixels: NDArray[np.uint8] = np.asarray(plain).reshape(*reversed(size), preprocessing.channels)
    return 255 - pixels if preprocessing.invert else pixels


def _opaque(picture: Image.Image, name: str) -> Image.Image:
    """The picture in 8 bits, on white paper where it is transparent."""
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
    """16 bits, or numbers from 0 to 1, scaled to 8; Pillow's own conversion cuts everything above 255 off.

    Raises DataError, with `name`, for other numbers: nobody can know which of them is white.
    """
    values: NDArray[Any] = np.asarray(picture).astype(np.float64)
    tags = getattr(picture, "tag_v2", {})
    white = 1 if picture.mode == "F" else 2 ** tags.get(_BITS, (16,))[0] - 1 if picture.mode == "I;16" else 65535
    if not (values.min() >= 0 and values.max() <= white):
        raise DataError(f"{name}: has numbers from {values.min():g} to {values.max():g}, not from 0 to {white}")
    if tags.get(_PHOTOMETRIC) == 0 and picture.mode == "I;16":  # Pillow turns 0 into white for 8 bits and fewer alone
        values = white - values
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))


def _cropped(picture: Image.Image, ratio: float) -> Image.Image:
    """The largest centred part whose width is `ratio` times its height."""
    width, height = picture.size
    kept_width = max(1, min(width, round(height * ratio)))
    kept_height = max(1, min(height, round(width / ratio)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return picture.crop((left, top, left + kept_width, top + kept_height))
