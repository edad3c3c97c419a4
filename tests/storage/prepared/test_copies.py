"""The same picture under two names, in a folder, a zip, a tar and a table of pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from metalearn_cli.datasets import folder
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.preparation import prepare
from tests.lookalikes import in_folder, in_tar, in_tgz, in_zip

MADE = {"folder": in_folder, "zip": in_zip, "tar": in_tar, "tgz": in_tgz}


def painted(seed, form="PNG"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


PARTS = {"train": ("ant", "bee", "cow"), "val": ("cat", "eel"), "test": ("dog", "fox")}
PLACES = [f"{part}/{name}/{n}.png" for part, names in PARTS.items() for name in names for n in range(3)]
DISTINCT = {place: painted([*place.encode()]) for place in PLACES}


def prepared(made, tmp_path, members):
    config = folder.Config(title="pets", image_size=8)
    source = MADE[made](tmp_path / "pets", members)
    return prepare("folder", folder.build(config), tmp_path / "data", source, False, lambda *_moved: None)


@pytest.mark.parametrize("made", MADE)
def test_distinct_pictures_are_all_taken(made, tmp_path):
    manifest, _where = prepared(made, tmp_path, DISTINCT)
    assert sum(entry.count for entry in manifest.classes) == len(DISTINCT)
    assert manifest.left_out == []


@pytest.mark.parametrize("name", ["copy.png", "0.PNG", "0.jpg", "0 (1).png"])
@pytest.mark.parametrize("made", MADE)
def test_a_copy_within_a_class_counts_once_and_is_named(made, name, tmp_path):
    manifest, where = prepared(made, tmp_path, DISTINCT | {f"train/bee/{name}": DISTINCT["train/bee/0.png"]})
    assert {entry.count for entry in manifest.classes} == {3}
    assert len({picture.tobytes() for picture in np.load(where / "images.npy")}) == len(DISTINCT)
    (left_out,) = manifest.left_out
    assert (left_out.kind, left_out.count) == ("picture", 1)
    assert left_out.example in (f"train/bee/{name}", "train/bee/0.png")


@pytest.mark.parametrize("made", MADE)
def test_a_picture_of_two_classes_of_a_part_is_in_neither(made, tmp_path):
    manifest, where = prepared(made, tmp_path, DISTINCT | {"train/ant/x.png": DISTINCT["train/bee/0.png"]})
    assert {entry.name: entry.count for entry in manifest.classes} == dict.fromkeys(sum(PARTS.values(), ()), 3) | {
        "bee": 2
    }
    assert len({picture.tobytes() for picture in np.load(where / "images.npy")}) == len(DISTINCT) - 1
    assert [(one.count, one.why) for one in manifest.left_out] == [(2, "the same picture is in another class too")]


@pytest.mark.parametrize("into", ["val/cat", "test/dog"])
@pytest.mark.parametrize("made", MADE)
def test_a_picture_in_two_parts_is_an_error_that_names_both(made, into, tmp_path):
    members = DISTINCT | {f"{into}/x.png": DISTINCT["train/bee/0.png"]}
    with pytest.raises(DataError, match="the same picture lies in two parts") as caught:
        prepared(made, tmp_path, members)
    assert "'train/bee/0.png' (train)" in str(caught.value)
    assert f"'{into}/x.png' ({into.split('/')[0]})" in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_one_picture_in_two_parts_by_a_list_is_an_error(tmp_path):
    members = {f"images/{name.replace('/', '_')}": content for name, content in DISTINCT.items()}
    rows = [(name, *name.removeprefix("images/").split("_")[:2]) for name in members]
    members["images/again.png"] = DISTINCT["train/bee/0.png"]
    text = "file,split,label\n" + "".join(",".join(row) + "\n" for row in [*rows, ("again.png", "test", "dog")])
    with pytest.raises(DataError, match=r"'images/train_bee_0\.png' \(train\) = 'images/again\.png' \(test\)"):
        prepared("folder", tmp_path, members | {"labels.csv": text.encode()})


def test_a_class_without_pictures_of_its_own_is_an_error(tmp_path):
    copies = {f"train/gnu/{n}.png": DISTINCT[f"train/bee/{n}.png"] for n in range(3)}
    with pytest.raises(DataError, match=r"class 'bee': all its pictures are in other classes too.*as an archive\?"):
        prepared("folder", tmp_path, DISTINCT | copies)


def test_files_that_are_no_pictures_are_no_copies_of_each_other(tmp_path):
    damaged = {f"train/ant/bad{n}.png": b"\x89PNG no picture" for n in range(2)}
    with pytest.raises(DataError, match=r"2 of 23 pictures cannot be read"):
        prepared("folder", tmp_path, DISTINCT | damaged)


def test_only_pictures_of_equal_size_are_read_before_decoding(tmp_path, monkeypatch):
    from metalearn_cli.storage.prepared import copies

    read = []
    digest = copies._digest
    monkeypatch.setattr(copies, "_digest", lambda source, member: read.append(member) or digest(source, member))
    members = {name: content + bytes(number) for number, (name, content) in enumerate(DISTINCT.items())}
    sizes = [len(content) for content in members.values()]
    prepared("folder", tmp_path, members)
    assert len(read) == sum(sizes.count(size) > 1 for size in sizes)


def test_an_interrupted_call_leaves_out_the_same_copies(tmp_path):
    members = DISTINCT | {"train/bee/x.png": DISTINCT["train/bee/0.png"]}
    source = in_folder(tmp_path / "pets", members)
    dataset = folder.build(folder.Config(title="pets", image_size=8))

    def stop(_label, done, _total):
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("folder", dataset, tmp_path / "data", source, False, stop)
    manifest, _where = prepare("folder", dataset, tmp_path / "data", source, False, lambda *_moved: None)
    assert manifest == prepare("folder", dataset, tmp_path / "other", source, False, lambda *_moved: None)[0]
