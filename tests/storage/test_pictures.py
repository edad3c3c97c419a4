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
from metalearn_cli.storage.pictures import decode, from_array

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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_four_kinds_of_pictures_are_read(kind):
    assert np.abs(decode(encoded(painted("RGB", "white"), kind), COLOUR, "x").astype(int) - 255).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM"])
def test_other_kinds_are_refused_by_name(kind):
    with pytest.raises(DataError, match=r"^a/b\.gif: is not a png, jpg, webp or bmp picture$"):
        decode(encoded(painted("L", 0), kind), GREY, "a/b.gif")


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_by_name(content):
    with pytest.raises(DataError, match=r"^a/text\.png: is not a png, jpg, webp or bmp picture$"):
        decode(content, GREY, "a/text.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_cut_picture_is_refused_as_damaged(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, kind)
    with pytest.raises(DataError, match=r"^a/cut\.x: is "):
        decode(content[: len(content) // 2], COLOUR, "a/cut.x")


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
        "from metalearn_cli.storage.pictures import decode\n"
        "try: decode(sys.stdin.buffer.read(), Preprocessing(channels=1, height=8, width=8), 'x')\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, input=announced(10_000, 10_000), capture_output=True, check=True)
    assert result.stdout.startswith(b"x: has 10000 x 10000 pixels")
    assert result.stderr == b""
