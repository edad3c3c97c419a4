"""Removes metadata (colour profiles, notes, previews, texts) from PNG, JPEG and TIFF files, and keeps the orientation.

Metadata are often large, odd or damaged while the pixels are whole, and Pillow reads all of them before the first
pixel.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_APP0, _APP1, _APP14, _APP15, _COMMENT, _SCAN, _END = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xDA, 0xD9
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_ORIENTATION = 274
_PIXEL_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, _ORIENTATION, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324),
    *(325, 332, 334, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 34712, 50674),
}
"""The tags of a TIFF that are needed to decode its pixels."""
_IN_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_MOST_TEXT = 1 << 20


class Bare(NamedTuple):
    """A file without metadata, and its orientation: 1 to 8 as in EXIF, or None if Pillow can still read it itself."""

    content: bytes
    orientation: int | None


def bare(content: bytes) -> Bare:
    """A PNG, JPEG or TIFF without metadata; any other file, and one with an unknown structure, unchanged."""
    readers: dict[bytes, Callable[[bytes], Bare]] = {_PNG: _png, b"\xff\xd8\xff": _jpeg, b"II": _tiff, b"MM": _tiff}
    for start, reader in readers.items():
        if content.startswith(start):
            try:
                return reader(content)
            except (IndexError, ValueError):
                break
    return Bare(content, None)


def _png(content: bytes) -> Bare:
    kept, notes, at = [_PNG], list[tuple[bytes, bytes]](), len(_PNG)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IEND":
            break
        if kind[0] & 0x20 and kind != b"tRNS":
            notes.append((kind, content[at + 8 : end - 4]))
        else:
            kept.append(content[at:end])
        at = end
    orientations = (_in_png(kind, body) for kind, body in notes)
    return Bare(b"".join([*kept, _PNG_END]), next((found for found in orientations if found), 1))


def _in_png(kind: bytes, body: bytes) -> int | None:
    if kind == b"eXIf":
        return _in_exif(body.removeprefix(_EXIF))
    keyword, _, text = body.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp":  # iTXt: a flag for compression, its method, two names (may be empty), the text
        compressed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        return _in_xmp(_unpacked(text) if compressed else text)
    if keyword == b"Raw profile type exif":  # the format of ImageMagick: a name, a length and hexadecimal digits
        lines = (_unpacked(text[1:]) if kind == b"zTXt" else text).split(b"\n", 3)
        try:
            return _in_exif(bytes.fromhex(lines[-1].decode("ascii")).removeprefix(_EXIF))
        except ValueError:
            return None
    return None


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _MOST_TEXT)
    except zlib.error:
        return b""


def _jpeg(content: bytes) -> Bare:
    kept, exif, xmp, at = [content[:2]], b"", b"", 2
    while content[at] == 0xFF and (marker := content[at + 1]) not in (_SCAN, _END):
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        body = content[at + 4 : end]
        if marker == _APP1 and body.startswith(_EXIF):
            exif += body[len(_EXIF) :]
        elif marker == _APP1 and body.startswith(_XMP):
            xmp += body
        if not _is_note(marker, body):
            kept.append(content[at:end])
        at = end
    return Bare(b"".join([*kept, content[at:]]), _in_exif(exif) or _in_xmp(xmp) or 1)


def _is_note(marker: int, body: bytes) -> bool:
    """Whether the segment is metadata. JFIF's and Adobe's segments are not: they say how the pixels are coded."""
    coded = (marker == _APP0 and len(body) >= 14) or (marker == _APP14 and len(body) >= 12)
    return (_APP0 <= marker <= _APP15 or marker == _COMMENT) and not coded


def _tiff(content: bytes) -> Bare:
    """The file with only those tags of its first picture that decode pixels.

    They are written over the old table, so nothing moves, and the positions in the tags stay right.
    """
    table = _table(content)
    entries = [content[at : at + table.width] for at in _places(content, table)]
    kept = [entry for entry in entries if int.from_bytes(entry[:2], table.order) in _PIXEL_TAGS]
    room = b"".join(kept) + bytes(table.last)  # the pointer to a next picture becomes 0: there is none
    start = table.at + table.count_width
    end = start + len(entries) * table.width + table.last
    room = len(kept).to_bytes(table.count_width, table.order) + room.ljust(end - start, b"\0")
    return Bare(content[: table.at] + room + content[end:], None)


class _Table(NamedTuple):
    """The position of a TIFF's first table of tags, and the widths in bytes of its count, its entries and its end."""

    order: Literal["little", "big"]
    at: int
    count_width: int
    width: int
    last: int


def _table(content: bytes) -> _Table:
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    version = int.from_bytes(content[2:4], order)
    if version == 43:  # BigTIFF
        return _Table(order, int.from_bytes(content[8:16], order), 8, 20, 8)
    if version != 42:
        raise ValueError("no TIFF")
    return _Table(order, int.from_bytes(content[4:8], order), 2, 12, 4)


def _places(content: bytes, table: _Table) -> Iterator[int]:
    start = table.at + table.count_width
    count = int.from_bytes(content[table.at : start], table.order)
    if not 0 < count <= 4096 or start + count * table.width > len(content):
        raise ValueError("no table of tags")
    return iter(range(start, start + count * table.width, table.width))


def _in_exif(exif: bytes) -> int | None:
    """The orientation in EXIF, even if other parts of it are damaged; None if there is none."""
    try:
        table = _table(exif)
    except ValueError:
        return None
    start = table.at + table.count_width
    for at in range(start, len(exif) - 11, table.width):
        if (at - start) // table.width >= int.from_bytes(exif[table.at : start], table.order):
            break
        if int.from_bytes(exif[at : at + 2], table.order) == _ORIENTATION:
            width = {1: 1, 3: 2, 4: 4}.get(int.from_bytes(exif[at + 2 : at + 4], table.order), 0)
            value = int.from_bytes(exif[at + 8 : at + 8 + width], table.order)
            return value if 1 <= value <= 8 else None
    return None


def _in_xmp(xmp: bytes) -> int | None:
    found = _IN_XMP.search(xmp)
    return int(found[1]) if found else None
