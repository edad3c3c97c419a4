"""Whole pictures whose notes are large, odd or damaged: they are read, and only their orientation counts."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.storage.pictures.conversion import decode

SEEN = Preprocessing(channels=3, height=16, width=16, fit="squash")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
NOISE = os.urandom(300_000)
TURNED = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, 6, 0, 0)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def encoded(kind, picture=PICTURE, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content):
    return decode(content, SEEN, "x")


def outcome(content):
    """Nothing if the picture is read, else what is said of it."""
    try:
        assert read(content).shape == (16, 16, 3)
    except DataError as error:
        return str(error)
    return ""


def chunk(kind, body, size=None):
    size = len(body) if size is None else size
    return size.to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def in_png(*chunks, at=33):
    content = encoded("PNG")
    return content[:at] + b"".join(chunks) + content[at:]


def in_jpeg(*segments):
    content = encoded("JPEG", quality=100)
    return content[:2] + b"".join(segments) + content[2:]


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


BOMB = zlib.compress(bytes(100 << 20))
PNG_NOTES = {
    "a large profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(NOISE * 8)),
    "a profile that is a bomb": chunk(b"iCCP", b"icc\0\0" + BOMB),
    "a damaged profile": chunk(b"iCCP", b"icc\0\0" + NOISE[:99]),
    "a profile without an end to its name": chunk(b"iCCP", b"icc"),
    "a packed text that is a bomb": chunk(b"zTXt", b"note\0\0" + BOMB),
    "a damaged packed text": chunk(b"zTXt", b"note\0\0" + NOISE[:99]),
    "a text packed in an unknown way": chunk(b"zTXt", b"note\0\7" + NOISE[:99]),
    "an international text that is a bomb": chunk(b"iTXt", b"note\0\1\0\0\0" + BOMB),
    "an international text cut short": chunk(b"iTXt", b"note\0\1"),
    "a text of megabytes": chunk(b"tEXt", b"note\0" + b"x" * (5 << 20)),
    "eighty texts of a megabyte": b"".join([chunk(b"tEXt", b"note\0" + b"x" * (1 << 20))] * 80),
    "an empty gamma": chunk(b"gAMA", b""),
    "a gamma of nothing": chunk(b"gAMA", bytes(4)),
    "odd whites": chunk(b"cHRM", NOISE[:7]),
    "an empty rendering intent": chunk(b"sRGB", b""),
    "an odd size of pixels": chunk(b"pHYs", b"\1"),
    "a wrong checksum of a note": chunk(b"tEXt", b"note\0x")[:-1] + b"!",
    "damaged EXIF": chunk(b"eXIf", NOISE[:200]),
    "EXIF that points nowhere": chunk(b"eXIf", struct.pack("<2sHI", b"II", 42, 1 << 31)),
    "EXIF of a hundred kilobytes": chunk(b"eXIf", TURNED[:10].replace(b"\1\0", b"\0\0") + NOISE[:100_000]),
    "an unknown note": chunk(b"prVt", NOISE[:99]),
}


@pytest.mark.parametrize("note", PNG_NOTES)
@pytest.mark.parametrize("at", [33, -12], ids=["before the pixels", "behind them"])
def test_a_png_is_read_whatever_its_notes_are(note, at):
    assert np.array_equal(read(in_png(PNG_NOTES[note], at=at)), read(encoded("PNG")))


JPEG_NOTES = {
    "a large profile": b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 200]) + NOISE[:60_000]) for n in range(200)),
    "a profile that lacks parts": segment(0xE2, b"ICC_PROFILE\0\7\x09" + NOISE[:99]),
    "damaged EXIF": segment(0xE1, b"Exif\0\0" + NOISE[:500]),
    "EXIF in many parts": segment(0xE1, b"Exif\0\0" + NOISE[:60_000]) * 30,
    "damaged XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + NOISE[:500]),
    "a damaged list of further pictures": segment(0xE2, b"MPF\0" + NOISE[:50]),
    "a list of further pictures that is empty": segment(0xE2, b"MPF\0"),
    "a damaged Photoshop part": segment(0xED, b"Photoshop 3.0\x008BIM" + NOISE[:9]),
    "comments of megabytes": segment(0xFE, b"x" * 60_000) * 90,
    "a short JFIF": segment(0xE0, b"JFIF\0"),
    "a short Adobe part": segment(0xEE, b"Adobe"),
    "unknown parts": segment(0xE7, NOISE[:999]) + segment(0xEB, b""),
}


@pytest.mark.parametrize("note", JPEG_NOTES)
def test_a_jpeg_is_read_whatever_its_notes_are(note):
    assert np.array_equal(read(in_jpeg(JPEG_NOTES[note])), read(encoded("JPEG", quality=100)))


@pytest.mark.parametrize("tag", [270, 305, 700, 33723, 34377, 34665, 34675, 34853, 65000])
@pytest.mark.parametrize("content", [NOISE[:200], NOISE, b"\xff"], ids=["damaged", "large", "tiny"])
def test_a_tiff_is_read_whatever_its_notes_are(tag, content):
    whole = encoded("TIFF", tiffinfo={65001: b"a note to put in its place"})
    start = whole.index(struct.pack("<H", 65001))
    entry = struct.pack("<HHII", tag, 7, len(content), len(whole) if len(content) > 4 else 0)
    assert np.array_equal(read(whole[:start] + entry + whole[start + 12 :] + content), read(encoded("TIFF")))


def test_a_tiff_whose_notes_point_behind_its_end_is_read():
    whole = encoded("TIFF", tiffinfo={65001: b"a note to put in its place"})
    start = whole.index(struct.pack("<H", 65001))
    for tag in (34665, 700):
        entry = struct.pack("<HHII", tag, 4, 1, 1 << 30)
        assert np.array_equal(read(whole[:start] + entry + whole[start + 12 :]), read(encoded("TIFF")))


ORIENTATIONS = {
    "PNG, eXIf": in_png(chunk(b"eXIf", TURNED)),
    "PNG, eXIf behind the pixels": in_png(chunk(b"eXIf", TURNED), at=-12),
    "PNG, XMP": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "PNG, packed XMP": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "PNG, ImageMagick": in_png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  32\n" + TURNED.hex().encode()))
    ),
    "PNG, beside a damaged profile": in_png(PNG_NOTES["a damaged profile"], chunk(b"eXIf", TURNED)),
    "JPEG, EXIF": in_jpeg(segment(0xE1, b"Exif\0\0" + TURNED)),
    "JPEG, XMP": in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "JPEG, EXIF cut behind the orientation": in_jpeg(
        segment(0xE1, b"Exif\0\0" + TURNED[:8] + b"\x09\0" + TURNED[10:22] + NOISE[:5])
    ),
}


@pytest.mark.parametrize("place", ORIENTATIONS)
def test_a_picture_is_turned_upright_wherever_its_orientation_is_written(place):
    upright = read(encoded(place.split(",")[0], **({"quality": 100} if place.startswith("JPEG") else {})))
    assert np.array_equal(read(ORIENTATIONS[place]), np.rot90(upright, -1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_as_pillow_does(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    content = encoded(kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert np.array_equal(read(content), expected)


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_an_orientation_that_is_none_changes_nothing(value):
    odd = TURNED.replace(struct.pack("<HHI", 6, 0, 0), struct.pack("<HHI", value, 0, 0))
    assert odd != TURNED
    assert np.array_equal(read(in_png(chunk(b"eXIf", odd))), read(encoded("PNG")))


@pytest.mark.parametrize("cut", [1, 2, 4, 12])
def test_a_png_that_lacks_nothing_but_its_end_is_read(cut):
    assert np.array_equal(read(encoded("PNG")[:-cut]), read(encoded("PNG")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_what_lies_behind_the_end_of_a_picture_changes_nothing(kind):
    assert np.array_equal(read(encoded(kind) + NOISE[:5000]), read(encoded(kind)))


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_a_jpeg_that_lacks_nothing_but_its_end_is_read(cut, options):
    content = encoded("JPEG", **options)
    assert np.array_equal(read(content[:-cut]), read(content))


@pytest.mark.parametrize("cut", [*range(4, 40, 3), 100, 200])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"optimize": True}])
def test_a_jpeg_that_lacks_pixels_is_damaged(cut, options):
    with pytest.raises(DataError, match="x: is damaged"):
        read(encoded("JPEG", **options)[:-cut])


@pytest.mark.parametrize("at", [60, 200, 400])
def test_a_bit_turned_in_the_pixels_of_a_png_is_damage(at):
    content = bytearray(encoded("PNG"))
    content[at] ^= 16
    with pytest.raises(DataError, match="x: is damaged"):
        read(bytes(content))


def test_any_bytes_in_place_of_a_header_are_refused_or_read_in_one_line():
    random, messages = np.random.default_rng(0), []
    for kind in ("PNG", "JPEG", "TIFF"):
        whole = encoded(kind)
        for _ in range(300):
            content = bytearray(whole)
            for at in random.integers(0, min(len(whole), 700), 3):
                content[at] = random.integers(0, 256)
            messages.append(outcome(bytes(content)))
    assert "" in messages
    assert all("\n" not in message for message in messages)
    assert any(message.startswith("x: is damaged") for message in messages)
