"""Support folders as people have them: whatever lies in one, it is learned from or refused by name in one line."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from metalearn_cli.core.objectives import classification
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.use import finetuning
from metalearn_cli.runtime.use.finetuning import queries_in, support_in
from tests.faults._hostile import claiming

SEEN = Preprocessing(channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
INTERFACE = Interface((3, 8, 8), 2, classification, SEEN)
RED = Image.new("RGB", (12, 12), (200, 0, 0))


def saved(picture, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def support(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "support" / name).mkdir(parents=True)
        (tmp_path / "support" / name / "1.png").write_bytes(saved(RED))
    return tmp_path / "support"


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        support_in(path, INTERFACE)
    assert str(caught.value).isprintable()
    return str(caught.value)


def first_pixel(support, content, name="odd.png"):
    (support / "cat" / name).write_bytes(content)
    found = support_in(support, INTERFACE)
    return found.inputs[found.files.index(f"{support}/cat/{name}"), :, 0, 0].mul(255).round().tolist()


def frames(kind) -> bytes:
    return saved(RED, kind, save_all=True, append_images=[Image.new("RGB", (12, 12), (0, 0, 200))] * 2, lossless=True)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_a_moving_picture_the_first_frame_counts(kind, support):
    assert first_pixel(support, frames(kind), f"odd.{kind.lower()}") == [200, 0, 0]


MODES = {
    "16 bits": (saved(Image.fromarray(np.full((12, 12), 200 * 257, np.uint16))), [200, 200, 200]),
    "1 bit": (saved(Image.new("1", (12, 12), 1)), [255, 255, 255]),
    "palette": (saved(RED.quantize(4)), [200, 0, 0]),
    "grey with alpha": (saved(Image.new("LA", (12, 12), (0, 0))), [255, 255, 255]),
    "transparent": (saved(Image.new("RGBA", (12, 12), (9, 9, 9, 0))), [255, 255, 255]),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_mode_become_the_colours_that_people_see(mode, support):
    content, colour = MODES[mode]
    assert first_pixel(support, content) == colour


def test_print_colours_are_read(support):
    ink = saved(Image.new("CMYK", (12, 12), (0, 255, 255, 55)), "JPEG", quality=100)
    red, green, blue = first_pixel(support, ink, "odd.jpg")
    assert red > 150 > 60 > max(green, blue)


def test_a_photo_is_stood_upright(support):
    half = Image.new("RGB", (12, 12))
    half.paste((255, 255, 255), (6, 0, 12, 12))
    exif = Image.Exif()
    exif[0x0112] = 8  # turned left: the right half comes to the top
    assert first_pixel(support, saved(half, exif=exif)) == [255, 255, 255]


NO_PICTURES = {
    "text": (b"hello", "is no picture that is read (text): only pictures are looked at"),
    "nothing": (b"", "is no picture that is read (empty file)"),
    "a photo of an iPhone": (b"\0\0\0\x18ftypheic" + bytes(99), "(HEIC picture): pip install pillow-heif"),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "(SVG): convert it to PNG or JPEG"),
    "a page": (b"<html></html>", "is no picture that is read (text)"),
    "a cut one": (saved(Image.effect_noise((64, 64), 99))[:900], "is damaged: "),
    "a header that claims 2,500 megapixels": (claiming(50_000, 50_000), "at most 64 megapixels are read"),
    "a header that claims one long row": (claiming(60_000_000, 1), "has 60000000 x 1 pixels; at most"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_no_picture_is_named(kind, support):
    content, message = NO_PICTURES[kind]
    (support / "cat" / "odd.png").write_bytes(content)
    assert refusal(support).startswith(f"{support}/cat/odd.png: ")
    assert message in refusal(support)


def test_a_name_that_a_terminal_would_obey_is_printed_with_escapes(support):
    (support / "cat" / "\x1b[31m\n.png").write_bytes(saved(RED))
    assert r"\x1b[31m\n.png' has a name that cannot be printed" in refusal(support)


def test_names_in_any_script_are_classes(support):
    (support / "cat").rename(support / "köttchen 猫")
    assert support_in(support, INTERFACE).classes == ["dog", "köttchen 猫"]


def test_a_folder_without_pictures_is_refused(support):
    for name in ("cat", "dog"):
        (support / name / "1.png").unlink()
    assert "no pictures there" in refusal(support)


def test_an_empty_class_folder_is_refused_by_name(support):
    (support / "dog" / "1.png").unlink()
    assert "no pictures in class folder 'dog' (it is empty)" in refusal(support)


def test_fewer_than_two_classes_are_refused(support):
    (support / "dog" / "1.png").unlink()
    (support / "dog").rmdir()
    assert "has 1 class folder, two or more are needed" in refusal(support)


def test_links_that_lead_round_in_circles_and_pipes_are_passed_over(support):
    (support / "cat" / "loop.png").symlink_to("loop.png")
    (support / "cat" / "up").symlink_to(support)
    (support / "cat" / "gone.png").symlink_to("nothing.png")
    os.mkfifo(support / "cat" / "pipe.png")
    assert len(support_in(support, INTERFACE).files) == 2


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero")]
)
@pytest.mark.parametrize("name", ["it.zip", "it.png", "it"])
def test_a_pipe_a_device_or_an_endless_link_in_place_of_a_folder_is_refused_at_once(name, make, tmp_path):
    make(tmp_path / name)
    assert name in refusal(tmp_path / name)


def test_a_name_longer_than_disks_hold_is_refused(tmp_path):
    assert "File name too long" in refusal(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["cat", "cat/1.png"])
def test_what_may_not_be_read_is_named(name, support):
    (support / name).chmod(0)
    assert f"{support / name}: cannot be read: Permission denied" in refusal(support)


def test_folders_without_end_are_refused(support):
    deep = support / "/".join("d" * 120)
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(saved(RED))
    assert "more than 100 levels deep" in refusal(support)


def test_thousands_of_pictures_are_read_one_after_the_other(support, monkeypatch):
    content = saved(RED)
    for number in range(2000):
        (support / "dog" / f"{number:04}.png").write_bytes(content)
    given, decoded, contents = [], [], finetuning._contents

    def counted(path, omissions, classes):
        for one in contents(path, omissions, classes):
            given.append(path)
            yield one

    def decode(*_given):
        decoded.append(len(given) - len(decoded))  # how many pictures were read and are not decoded yet
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(finetuning, "_contents", counted)
    monkeypatch.setattr(finetuning, "decoded_picture", decode)
    assert len(support_in(support, INTERFACE).files) == 2002
    assert set(decoded) == {1}


def test_a_query_is_read_and_refused_like_the_support(support):
    picture = support / "cat" / "1.png"
    assert torch.equal(queries_in([picture], ["cat"], INTERFACE).inputs[0], support_in(support, INTERFACE).inputs[0])
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", zlib.crc32(b"")))
    with pytest.raises(DataError, match=r"cat/1\.png: is damaged"):
        queries_in([picture], ["cat"], INTERFACE)
