"""What of a source is taken, and that the rest is said."""

import io
import os

import pytest
from PIL import Image

from metalearn_cli.datasets import folder
from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.pictures import recognition
from metalearn_cli.storage.prepared.preparation import prepare
from tests.storage.inputs.test_archives import held, tarred, unpacked, zipped

HEIC = b"\0\0\0\x18ftypheic" + bytes(99)
MADE = pytest.mark.parametrize("made", [zipped, tarred, unpacked])


def picture(kind="PNG", red=9) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 99, 199)).save(buffer, kind)
    return buffer.getvalue()


PNG = picture()
PETS = {f"{name}/{n}.png": picture(red=20 * ord(name[0]) % 251 + n) for name in ("ant", "bee", "cat") for n in range(2)}


@pytest.fixture(autouse=True)
def without_heif(monkeypatch):
    monkeypatch.setattr(recognition, "reads_heif", lambda: False)


def prepared(source, tmp_path, **settings):
    dataset = folder.build(folder.Config(image_size=8, **settings))
    return prepare("folder", dataset, tmp_path / "data", source, False, lambda *_moved: None)[0]


def left_out(manifest):
    return {(one.kind, one.count, one.example) for one in manifest.left_out}


@MADE
@pytest.mark.parametrize(
    ("name", "kind"),
    [("img_1", "PNG"), ("IMG.JPG", "JPEG"), ("a.jfif", "JPEG"), ("a.JPE", "JPEG"), ("a.Tif", "TIFF"),
     ("a.TIFF", "TIFF"),
     ("a.gif", "GIF"), ("a", "GIF"), ("a.img", "WEBP"), ("a.avif", "AVIF"), ("a.ppm", "PPM"), ("a.jp2", "JPEG2000"),
     ("a.TGA", "TGA"), ("a.bak", "BMP"), ("1.2.3", "JPEG"), ("a.txt", "PNG")],
)  # fmt: skip
def test_a_picture_is_recognised_by_suffix_or_content(name, kind, made, tmp_path):
    manifest = prepared(made(tmp_path / "it", PETS | {f"ant/{name}": picture(kind)}), tmp_path)
    assert {entry.name: entry.count for entry in manifest.classes} == {"ant": 3, "bee": 2, "cat": 2}
    assert manifest.left_out == []


@MADE
def test_what_is_no_picture_is_left_out_by_kind_and_number(made, tmp_path):
    others = {
        "ant/IMG.HEIC": HEIC, "bee/x.heic": HEIC, "cat/film.mp4": b"\0\0\0\x20ftypisom" + bytes(99),
        "notes.md": b"hello",
        "cat/raw.NEF": b"II*\0", "cat/none.bin": b"", "bee/old.svg": b"<svg/>",
    }  # fmt: skip
    manifest = prepared(made(tmp_path / "it", PETS | others), tmp_path)
    assert left_out(manifest) == {
        ("HEIC picture", 2, "ant/IMG.HEIC"), ("film or sound", 1, "cat/film.mp4"), ("text", 1, "notes.md"),
        ("raw photo", 1, "cat/raw.NEF"), ("empty file", 1, "cat/none.bin"), ("SVG", 1, "bee/old.svg"),
    }  # fmt: skip


def test_what_was_left_out_is_said_again_of_what_is_prepared_already(tmp_path):
    source = unpacked(tmp_path / "it", PETS | {"ant/IMG.HEIC": HEIC})
    assert prepared(source, tmp_path).left_out == prepared(source, tmp_path).left_out != []


@MADE
@pytest.mark.parametrize("content", [HEIC, b"\0\1\2\xff", b"\0\0\0\x20ftypisom" + bytes(99), b""])
def test_a_class_folder_without_a_picture_that_is_read_is_an_error(content, made, tmp_path):
    with pytest.raises(DataError, match=r"^no pictures in class folder 'dog' \(left out: 2 x .*; put some there"):
        prepared(made(tmp_path / "it", PETS | {"dog/1": content, "dog/2": content}), tmp_path)


@pytest.mark.parametrize("inside", [None, ".ipynb_checkpoints", "deep/er"])
def test_an_empty_class_folder_is_an_error(inside, tmp_path):
    source = unpacked(tmp_path / "it", PETS)
    (source / "dog" / (inside or "")).mkdir(parents=True)
    with pytest.raises(DataError, match=r"no pictures in class folder 'dog'"):
        prepared(source, tmp_path)


@pytest.mark.parametrize("link", ["dog/1.png", "dog"])
def test_a_class_folder_of_links_that_lead_out_is_an_error(link, tmp_path):
    source = unpacked(tmp_path / "it", PETS)
    outside = unpacked(tmp_path / "outside", {"1.png": PNG})
    (source / link).parent.mkdir(exist_ok=True)
    (source / link).symlink_to(outside / "1.png" if link.endswith("png") else outside)
    with pytest.raises(DataError, match=rf"class folder 'dog' \(left out: 1 x link \({link}\): it leads out"):
        prepared(source, tmp_path)


@MADE
def test_a_folder_of_texts_beside_the_classes_is_left_out(made, tmp_path):
    manifest = prepared(
        made(tmp_path / "it", PETS | {"annotations/1.xml": b"<a/>", "annotations/2.xml": b"<a/>"}), tmp_path
    )
    assert left_out(manifest) == {("text", 2, "annotations/1.xml")}


def test_an_emptied_class_below_train_val_and_test_is_an_error(tmp_path):
    members = {f"{part}/{name}": content for part in ("train", "val", "test") for name, content in PETS.items()}
    members = {name.replace("/", f"/{name[0]}", 1): content for name, content in members.items()}
    with pytest.raises(DataError, match="no pictures in class folder 'train/dog'"):
        prepared(unpacked(tmp_path / "it", members | {"train/dog/1.heic": HEIC}), tmp_path)


def test_pictures_that_a_list_does_not_name_are_left_out(tmp_path):
    rows = "".join(f"{name},{name[:3]}\n" for name in PETS)
    members = PETS | {"labels.csv": b"filename,label\n" + rows.encode(), "ant/more.png": PNG}
    assert left_out(prepared(unpacked(tmp_path / "it", members), tmp_path)) == {("picture", 1, "ant/more.png")}


def test_an_error_says_what_was_left_out(tmp_path):
    source = unpacked(tmp_path / "it", {"cats/1.heic": HEIC, "dogs/1.heic": HEIC})
    with pytest.raises(DataError, match=r"^no pictures there .*; left out: 2 x HEIC picture .*pip install pillow-heif"):
        prepared(source, tmp_path)


def test_a_damaged_picture_that_is_skipped_is_left_out_too(tmp_path):
    dataset = folder.build(folder.Config(image_size=8))
    source = unpacked(tmp_path / "it", PETS | {"ant/9.png": PNG[:40]})
    manifest, _folder = prepare("folder", dataset, tmp_path / "data", source, False, lambda *_moved: None, True)
    assert [(one.kind, one.count) for one in manifest.left_out] == [("damaged picture", 1)]


def linked(tmp_path):
    source = unpacked(tmp_path / "it", {"a/1.png": b"one", "b/2.png": b"two"})
    unpacked(tmp_path / "outside", {"3.png": b"three"})
    return source


@pytest.mark.parametrize(
    ("link", "target", "why"),
    [
        ("a/out.png", "../../outside/3.png", "leads out"),
        ("out", "../outside", "leads out"),
        ("a/out.png", "/etc/hostname", "leads out"),
        ("a/up", "..", "leads back"),
        ("a/self", ".", "leads back"),
        ("a/loop.png", "loop.png", "leads nowhere or to itself"),
        ("a/gone.png", "nothing.png", "leads nowhere or to itself"),
        ("a/gone", "nothing", "leads nowhere or to itself"),
    ],
)
def test_a_link_that_is_not_followed_is_said(link, target, why, tmp_path):
    source = linked(tmp_path)
    (source / link).symlink_to(target)
    with open_source(source) as opened:
        assert list(opened.members) == ["a/1.png", "b/2.png"]
        (omission,) = opened.omissions.listed()
    assert (omission.kind, omission.example) == ("link", link)
    assert why in omission.why


@pytest.mark.parametrize(
    ("link", "target", "member"),
    [("a/in.png", "../b/2.png", "a/in.png"), ("c", "b", "c/2.png"), ("a/c", "../b", "a/c/2.png")],
)
def test_a_link_that_stays_inside_is_followed(link, target, member, tmp_path):
    source = linked(tmp_path)
    (source / link).symlink_to(target)
    assert held(source) == {"a/1.png": b"one", "b/2.png": b"two", member: b"two"}


def test_folders_that_link_to_each_other_end(tmp_path):
    source = tmp_path / "it"
    names = [f"class{n}" for n in range(12)]
    unpacked(source, {f"{name}/1.png": b"" for name in names})
    for name in names:
        for other in names:
            if other != name:
                (source / name / f"to_{other}").symlink_to(f"../{other}")
    with open_source(source) as opened:
        assert len(opened.members) == 12 * 12
        assert opened.omissions.listed()[0].count == 12 * 11 * 11


def test_a_root_that_is_a_link_is_read(tmp_path):
    linked(tmp_path)
    (tmp_path / "door").symlink_to("it")
    assert set(held(tmp_path / "door")) == {"a/1.png", "b/2.png"}


def test_a_pipe_is_left_out(tmp_path):
    source = linked(tmp_path)
    os.mkfifo(source / "a" / "pipe.png")
    with open_source(source) as opened:
        assert [one.kind for one in opened.omissions.listed()] == ["pipe, socket or device"]


NAMES = (
    "Screenshot 2024-01-01 at 3.45.12\u202fPM", "花\u3000見", "a\u00a0b", "👩\u200d🌾", "می\u200cخواهم", "a\u2009b",
    "עברית", "ไทย", "e\u0301", "ﬁ", "🇩🇪", "a\u00adb", "\u202eabc", "a\u2028b", "\ue000", "…", "#1", "[b]", "a&b;",
    "%41", "~a", "-a",
)  # fmt: skip


@MADE
@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_any_letters_is_a_class_and_a_file(name, made, tmp_path):
    members = {f"{name}/{n}{name}.png": picture(red=n) for n in range(2)} | PETS
    manifest = prepared(made(tmp_path / "it", members), tmp_path)
    assert sorted(entry.count for entry in manifest.classes) == [2, 2, 2, 2]


@MADE
@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1b[31mb", "a\x7fb", "a\x85b", "a\x9bb", "a\x01b"])
@pytest.mark.parametrize("place", ["{}/1.png", "ant/{}.png", "{}.txt"])
def test_a_control_character_in_a_name_is_refused_in_one_line(name, place, made, tmp_path):
    source = made(tmp_path / "it", PETS | {place.format(name): PNG})
    with pytest.raises(DataError, match="has a name that cannot be printed; rename it") as caught:
        prepared(source, tmp_path)
    assert str(caught.value).isprintable()
