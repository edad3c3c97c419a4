"""Recognises the kind of a file by its first bytes, and says whether pictures of this kind can be read."""

import re
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

HEAD = 512
"""The number of first bytes that are enough to recognise a file."""

READ = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000", "QOI", "PSD")
"""The kinds of pictures that are recognised by content, under Pillow's names; a JPEG may also be an MPO."""

BY_SUFFIX = {".tga": "TGA", ".pcx": "PCX", ".sgi": "SGI", ".dib": "DIB"}
"""The kinds of pictures that can only be recognised by their suffix."""

PICTURE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".qoi", ".psd", *BY_SUFFIX),
)

_RAW_SUFFIXES = re.compile(r"\.(dng|cr2|cr3|crw|nef|nrw|arw|srf|sr2|orf|rw2|raf|pef|srw|3fr|iiq|x3f|erf|kdc)$", re.I)
_AVIF, _HEIF = rb"....ftyp(?:....)*avi[fs]", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"
_UNREAD_PICTURE = "convert it to PNG or JPEG"
_NO_PICTURE = "only pictures are looked at"


class FileKind(NamedTuple):
    """The name of a kind of file, and the reason why it is left out; the reason is "" for a picture that is read."""

    name: str
    why: str = ""


_PICTURE = FileKind("picture")
_TEXT = FileKind("text", _NO_PICTURE)
_UNKNOWN = FileKind("file of no known kind", _NO_PICTURE)

_KINDS: dict[bytes, FileKind] = {
    rb"\x89PNG\r\n\x1a\n": _PICTURE,
    rb"\xff\xd8\xff": _PICTURE,
    rb"RIFF....WEBP": _PICTURE,
    rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0": _PICTURE,
    rb"GIF8[79]a": _PICTURE,
    rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]": _PICTURE,
    rb"P(?:[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s|[Ff]\s+\d+\s+\d+\s)": _PICTURE,
    rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\0": _PICTURE,
    rb"qoif": _PICTURE,
    rb"8BPS\0\x01": _PICTURE,
    rb"\xff\x0a|\0\0\0\x0cJXL ": FileKind("JPEG XL picture", _UNREAD_PICTURE),
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s/>]": FileKind(
        "SVG", _UNREAD_PICTURE
    ),
    rb"\0\0[\x01\x02]\0[^\0]\0|icns": FileKind("icon", _UNREAD_PICTURE),
    rb"%!PS|\xc5\xd0\xd3\xc6|%PDF": FileKind("PostScript or PDF file", _UNREAD_PICTURE),
    rb"DDS |\x76\x2f\x31\x01|#\?RADIANCE|gimp xcf|FUJIFILM|IIU\0|IIRO": FileKind(
        "picture of a rare kind", _UNREAD_PICTURE
    ),
    rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|OggS|ID3|RIFF....WAVE|fLaC": FileKind("film or sound", _NO_PICTURE),
    rb"Rar!|7z\xbc\xaf|PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|.{257}ustar": FileKind(
        "archive or document", "zip and tar are unpacked, by their suffixes; unpack others"
    ),
}
_RECOGNISED = [(re.compile(start, re.DOTALL), kind) for start, kind in _KINDS.items()]


def recognised(name: str, head: bytes) -> FileKind:
    """The kind of the file called `name` whose content begins with `head` (at most HEAD bytes)."""
    if not head:
        return FileKind("empty file", _NO_PICTURE)
    if _RAW_SUFFIXES.search(name):  # most are TIFFs, in which Pillow would find the preview
        return FileKind("raw photo", _UNREAD_PICTURE)
    if re.match(_AVIF, head[:64], re.DOTALL):
        return _PICTURE
    if re.match(_HEIF, head, re.DOTALL):
        return _PICTURE if reads_heif() else FileKind("HEIC picture", "pip install pillow-heif, and it is read")
    if name.lower().endswith((*BY_SUFFIX,)):
        return _PICTURE
    for start, kind in _RECOGNISED:
        if start.match(head):
            return kind
    return _TEXT if _is_text(head) else _UNKNOWN


def is_text(kind: FileKind) -> bool:
    """Whether a file of this kind is plain text, which nobody takes for a picture."""
    return kind == _TEXT


@cache
def reads_heif() -> bool:
    """Whether the optional package that reads HEIC is installed."""
    return find_spec("pillow_heif") is not None


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and b"\0" not in head  # a character that is cut at the end of `head`
    return b"\0" not in head
