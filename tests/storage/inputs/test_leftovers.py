"""What tools leave among people's pictures counts nowhere, alike in a folder, a zip and a tar."""

import io

import pytest
from PIL import Image

from metalearn_cli.datasets import folder
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs.leftovers import KIND, leftover
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.prepared.preparation import prepare
from tests.storage.inputs.test_archives import held, tarred, unpacked, zipped

FOLDERS = (
    *(
        ".ipynb_checkpoints",
        ".thumbnails",
        ".Trash-1000",
        ".Trashes",
        ".git",
        ".AppleDouble",
        ".Spotlight-V100",
        ".cache",
    ),
    *("@eaDir", "@tmp", "@Recycle", "@__thumb", "#recycle", "#snapshot", "~snapshot", "__MACOSX", "__pycache__"),
    *("$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found", "FOUND.000", "Network Trash Folder"),
)
FILES = (
    *(".DS_Store", "._1.png", ".hidden.png", ".nomedia", "Thumbs.db", "thumbs.db", "ehthumbs_vista.db", "desktop.ini"),
    *("Desktop.ini", "Icon\r", "~$notes.docx", "Picasa.ini", ".picasa.ini"),
)
ORDINARY = (
    "cats.",
    "my.DS_Store",
    "eaDir",
    "recycle",
    "trash",
    "git",
    "a~b",
    "thumbs",
    "lost and found",
    "FOUND",
    "@home",
)


def picture(red: int = 9) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 99, 199)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = picture()


@pytest.mark.parametrize("name", [*(f"{name}/1.png" for name in FOLDERS), *FILES])
@pytest.mark.parametrize("made", [zipped, tarred, unpacked])
@pytest.mark.parametrize("above", ["", "cats/"])
def test_what_a_tool_left_is_no_member_and_is_said_once(name, made, above, tmp_path):
    members = {"cats/2.png": b"two", above + name: b"", above + name.rpartition("/")[0] + "/deep/3.png": b"three"}
    members = members if "/" in name else {"cats/2.png": b"two", above + name: b""}
    omissions = Omissions()
    with open_source(made(tmp_path / "it", members).absolute(), omissions=omissions) as source:
        assert list(source.members) == ["cats/2.png"]
        assert source.folders <= {"cats"}
    assert [(one.kind, one.count) for one in omissions.listed()] == [(KIND, 1)]


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("made", [zipped, tarred, unpacked])
def test_an_ordinary_name_is_a_class(name, made, tmp_path):
    members = {f"{name}/1.png": b"one", f"cats/{name}.png": b"two"}
    assert held(made(tmp_path / "it", members)) == members
    assert leftover(name) is None


def test_a_source_may_itself_be_hidden(tmp_path):
    assert held(unpacked(tmp_path / ".mine" / "pets", {"a/1.png": b"one"})) == {"a/1.png": b"one"}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("above", ["", "class0/"])
def test_prepare_makes_no_class_and_no_picture_of_it(name, above, tmp_path):
    members = {f"class{c}/{n}.png": picture(10 * c + n) for c in range(3) for n in range(2)}
    source = unpacked(tmp_path / "it", members | {f"{above}{name}/files/old.png": PICTURE})
    dataset = folder.build(folder.Config(image_size=8))
    manifest, _folder = prepare("folder", dataset, tmp_path / "data", source, False, lambda *_moved: None)
    assert [(entry.name, entry.count) for entry in manifest.classes] == [(f"class{c}", 2) for c in range(3)]
    assert [one.example for one in manifest.left_out] == [above + name]
