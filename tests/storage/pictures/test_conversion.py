import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.storage.pictures import recognition
from metalearn_cli.storage.pictures.conversion import decode, from_array

GREY = Preprocessing(channels=1, height=8, width=8)
COLOUR = Preprocessing(channels=3, height=8, width=8)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def painted(mode: str, colour) -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def halves(width: int = 8, height: int = 8) -> Image.Image:
    """Black on the left, white on the right."""
    picture = Image.new("L", (width, height), 0)
    picture.paste(255, (width // 2, 0, width, height))
    return picture


def announced(width: int, height: int) -> bytes:
    """A PNG that announces its size and has next to nothing behind."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("preprocessing", [GREY, COLOUR])
def test_pixels_have_the_shape_that_is_asked(preprocessing):
    pixels = decode(encoded(painted("RGB", "red").resize((30, 20))), preprocessing, "x")
    assert pixels.shape == (8, 8, preprocessing.channels)
    assert pixels.dtype == np.uint8


def test_a_picture_of_the_right_size_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels)), COLOUR, "x"), pixels)


def test_height_and_width_are_not_swapped():
    assert decode(encoded(halves()), Preprocessing(channels=1, height=4, width=6), "x").shape == (4, 6, 1)


def test_invert_turns_ink_bright():
    inverted = decode(encoded(halves()), GREY.model_copy(update={"invert": True}), "x")
    assert np.array_equal(inverted, 255 - decode(encoded(halves()), GREY, "x"))


@pytest.mark.parametrize(
    ("orientation", "quarters", "mirrored"),
    [(1, 0, False), (2, 0, True), (3, 2, False), (6, 3, False), (8, 1, False)],
)
def test_a_photo_is_stood_upright_as_its_exif_says(orientation, quarters, mirrored):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(pixels), exif=exif), GREY, "x")[..., 0]
    assert np.array_equal(found, np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))


def test_the_crop_follows_the_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = encoded(halves(32, 16), exif=exif)
    upright = Preprocessing(channels=1, height=16, width=8, fit="crop")
    assert np.array_equal(decode(picture, upright, "x")[[0, -1], 0, 0], [0, 255])


def test_a_palette_becomes_its_colours():
    picture = painted("RGB", (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert (decode(encoded(picture), COLOUR, "x") == (10, 200, 30)).all()


@pytest.mark.parametrize("resize", ["bilinear", "box", "bicubic", "lanczos"])
@pytest.mark.parametrize("mode", ["1", "P"])
def test_pictures_of_two_tones_are_resized_smoothly(mode, resize):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 2, (105, 105), dtype=np.uint8) * 255).convert(mode)
    assert len(np.unique(decode(encoded(noise), GREY.model_copy(update={"resize": resize}), "x"))) > 2


def test_nearest_makes_no_new_tones():
    preprocessing = GREY.model_copy(update={"resize": "nearest"})
    assert set(np.unique(decode(encoded(halves(105, 105).convert("1")), preprocessing, "x"))) == {0, 255}


@pytest.mark.parametrize("preprocessing", [GREY, COLOUR])
def test_print_colours_become_screen_colours(preprocessing):
    pixels = decode(encoded(painted("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), preprocessing, "x")
    expected = [255, 0, 0] if preprocessing.channels == 3 else [76]
    assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_16_bit_greys_are_scaled_and_not_cut_off():
    values = np.tile(np.array([0, 257, 32768, 65535], np.uint16).repeat(2), (8, 1))
    pixels = decode(encoded(Image.fromarray(values)), GREY, "x")
    assert pixels[0, ::2, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white_paper(mode):
    picture = painted(mode, (0,) * len(Image.new(mode, (1, 1)).getbands()))
    assert (decode(encoded(picture), GREY, "x") == 255).all()


def test_half_transparent_black_is_mid_grey():
    assert np.abs(decode(encoded(painted("RGBA", (0, 0, 0, 128))), COLOUR, "x").astype(int) - 127).max() <= 1


def test_the_transparent_entry_of_a_palette_becomes_white_paper():
    picture = painted("P", 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    assert (decode(encoded(picture, transparency=0), GREY, "x") == 255).all()


def test_crop_keeps_a_centred_part_of_the_right_shape():
    picture = Image.new("L", (24, 8), 0)
    picture.paste(255, (8, 0, 16, 8))
    assert (decode(encoded(picture), GREY.model_copy(update={"fit": "crop"}), "x") == 255).all()


def test_crop_cuts_tall_pictures_above_and_below():
    picture = Image.new("L", (8, 24), 0)
    picture.paste(255, (0, 8, 8, 16))
    assert (decode(encoded(picture), GREY.model_copy(update={"fit": "crop"}), "x") == 255).all()


def test_squash_keeps_the_edges():
    picture = Image.new("L", (24, 8), 0)
    picture.paste(255, (8, 0, 16, 8))
    row = decode(encoded(picture), GREY, "x")[0, :, 0]
    assert (row[0], row[4], row[-1]) == (0, 255, 0)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_any_shape_of_picture_fits(size, fit):
    assert decode(encoded(Image.new("L", size)), GREY.model_copy(update={"fit": fit}), "x").shape == (8, 8, 1)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
KINDS = {
    "PNG": {}, "JPEG": {}, "MPO": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "AVIF": {"quality": 100},
    "PPM": {}, "JPEG2000": {}, "QOI": {}, "TGA": {}, "PCX": {}, "SGI": {}, "DIB": {},
}  # fmt: skip
UNKNOWN_BY_CONTENT = {"TGA", "PCX", "SGI", "DIB"}


def called(kind):
    """A name that says nothing, for a kind that its content tells."""
    return f"x.{kind.lower()}" if kind in UNKNOWN_BY_CONTENT else "x"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_read_whatever_its_name(kind):
    pixels = decode(encoded(painted("RGB", (200, 100, 50)), kind, **KINDS[kind]), COLOUR, called(kind))
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_of_many_frames_the_first_counts(kind):
    more = {"save_all": True, "append_images": [painted("RGB", (0, 0, 250))] * 2}
    pixels = decode(encoded(painted("RGB", (200, 0, 0)), kind, **more), COLOUR, "x")
    assert np.abs(pixels.astype(int) - [200, 0, 0]).max() <= 8


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_any_compression_is_read(compression, big):
    picture = painted("1" if compression == "group4" else "RGB", "white")
    content = encoded(picture, "TIFF", compression=compression, big_tiff=big)
    assert (decode(content, COLOUR, "x") >= 253).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I;16B", "F"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_of_any_mode_is_read(mode, compression):
    if mode == "F":
        picture = Image.fromarray(np.ones((8, 8), np.float32))
    elif mode.startswith("I"):
        picture = Image.frombytes(mode, (8, 8), b"\xff" * 128)
    elif mode == "LAB":
        picture = Image.new("LAB", (8, 8), (255, 128, 128))
    else:
        picture = painted("RGB", "white").convert(mode)
    assert (decode(encoded(picture, "TIFF", compression=compression), COLOUR, "x") >= 253).all()


def sixteen_bits(values, kind):
    return encoded(Image.fromarray(np.tile(np.array(values, np.uint16).repeat(2), (8, 1))), kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bits_are_scaled_in_every_kind_that_has_them(kind):
    pixels = decode(sixteen_bits([0, 257, 32768, 65535], kind), GREY, "x")
    assert pixels[0, ::2, 0].tolist() == [0, 1, 128, 255]


def retagged(content, tag, value):
    """A little-endian TIFF whose short `tag` has another value."""
    start = content.index(struct.pack("<HHI", tag, 3, 1))
    return content[: start + 8] + struct.pack("<H", value) + content[start + 10 :]


def test_16_bits_of_which_0_is_white_are_turned():
    inverted = retagged(sixteen_bits([0, 257, 32768, 65535], "TIFF"), 262, 0)
    assert decode(inverted, GREY, "x")[0, ::2, 0].tolist() == [255, 254, 127, 0]


@pytest.mark.parametrize(
    "values", [np.full((8, 8), 7.5, np.float32), np.full((8, 8), np.nan, np.float32), np.full((8, 8), -1, np.int32)]
)
def test_numbers_of_no_known_scale_are_refused_by_name(values):
    with pytest.raises(DataError, match=r"^a\.tif: has numbers from .* not from 0 to"):
        decode(encoded(Image.fromarray(values), "TIFF"), GREY, "a.tif")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "TGA", "QOI"])
def test_what_is_transparent_is_white_paper_in_every_kind(kind):
    assert (decode(encoded(painted("RGBA", (0, 0, 0, 0)), kind), COLOUR, called(kind)) >= 254).all()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty file"),
        (b"hello, I am a text", "text"),
        ("grün".encode(), "text"),
        (b"\x00\x01\x02\xff" * 9, "file of no known kind"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC picture"),
        (b"\0\0\0\x18ftypmif1" + bytes(99), "HEIC picture"),
        (b"\xff\x0a" + bytes(99), "JPEG XL picture"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"%PDF-1.7", "PostScript or PDF file"),
        (b"\0\0\0\x20ftypisom" + bytes(99), "film or sound"),
        (b"Rar!\x1a\x07", "archive or document"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(content, kind, monkeypatch):
    monkeypatch.setattr(recognition, "reads_heif", lambda: False)
    with pytest.raises(DataError, match=rf"^a/text\.png: is no picture that is read \({kind}\): "):
        decode(content, GREY, "a/text.png")


@pytest.mark.parametrize("suffix", ["NEF", "cr2", "dng"])
def test_a_raw_photo_is_not_taken_for_its_preview(suffix):
    with pytest.raises(DataError, match="raw photo"):
        decode(encoded(painted("L", 0), "TIFF"), GREY, f"x.{suffix}")


@pytest.mark.parametrize("text", [b"BMW, Audi", b"P3 of 5", b"P5\nresults", b"II. chapter", b"MM", b"GIF8 is a format"])
def test_a_text_that_begins_like_a_picture_is_a_text(text):
    assert recognition.recognised("x", text).name == "text"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_cut_picture_is_refused_as_damaged(kind, share):
    content = encoded(NOISE, kind)
    with pytest.raises(DataError, match=r"^a/x(\.\w+)?: is "):
        decode(content[: int(len(content) * share)], COLOUR, f"a/{called(kind)}")


@pytest.mark.parametrize("size", [(8001, 8000), (9000, 8000)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(size):
    with pytest.raises(DataError, match=rf"^huge\.png: has {size[0]} x {size[1]} pixels; at most 64 megapixels"):
        decode(announced(*size), GREY, "huge.png")


def test_a_picture_that_would_fill_the_memory_is_refused():
    with pytest.raises(DataError, match=r"^huge\.png: .*3600000000 pixels"):
        decode(announced(60_000, 60_000), GREY, "huge.png")


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 1), (2, 8, 8, 3)])
def test_an_array_of_pictures_goes_the_way_of_files(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    preprocessing = COLOUR if shape[3:] == (3,) else GREY
    found = np.stack([decode(picture, preprocessing, "x") for picture in from_array(pixels)])
    assert np.array_equal(found.reshape(shape), pixels)


def test_the_fourth_channel_of_an_array_is_alpha():
    (picture,) = from_array(np.zeros((1, 8, 8, 4), np.uint8))
    assert (decode(picture, GREY, "x") == 255).all()


@pytest.mark.parametrize(
    "pictures", [np.zeros((1, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8, 2), np.uint8)]
)
def test_an_array_of_another_type_or_shape_is_refused(pictures):
    with pytest.raises(DataError, match=r"expected uint8 \[N, H, W, C\]"):
        from_array(pictures)


@pytest.mark.parametrize("size", [(70_000, 1), (1, 60_000_000)])
def test_a_picture_of_one_endless_side_is_refused_before_it_is_unpacked(size):
    with pytest.raises(DataError, match=rf"^long\.png: has {size[0]} x {size[1]} pixels; .* 65535 a side"):
        decode(announced(*size), GREY, "long.png")


def test_pillow_does_not_warn_among_our_own_lines():
    code = (
        "import sys\n"
        "from metalearn_cli.datasets import Preprocessing\n"
        "from metalearn_cli.storage.pictures.conversion import decode\n"
        "try: decode(sys.stdin.buffer.read(), Preprocessing(channels=1, height=8, width=8), 'x')\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, input=announced(10_000, 10_000), capture_output=True, check=True)
    assert result.stdout.startswith(b"x: has 10000 x 10000 pixels")
    assert result.stderr == b""
