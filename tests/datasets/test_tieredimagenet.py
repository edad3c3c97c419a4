import io
import pickle

import numpy as np
import pytest

from metalearn_cli.datasets.tieredimagenet import Config, build, listed
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.preparation import prepare
from tests.lookalikes import in_folder, in_tar, in_tgz, picture, pixels, tar

PARTS = ("train", "val", "test")
CHOSEN = {part: sorted(wnid for wnid, one in listed().items() if one.part == part)[:2] for part in PARTS}
EACH = 3


def silent(_label, _done, _total):
    pass


def prepared(tmp_path, source, allow_partial=True):
    config = Config(allow_partial=allow_partial)
    return prepare("tieredimagenet", build(config), tmp_path / "data", source, False, silent)


def lossless(seed: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels(picture(seed))).save(buffer, "PNG")
    return buffer.getvalue()


def of_class(wnid):
    return [(f"{wnid}_{number}.png", lossless(f"{wnid}{number}")) for number in range(EACH)]


def class_folders():
    return {f"{part}/{w}/{name}": content for part in PARTS for w in CHOSEN[part] for name, content in of_class(w)}


def tar_of_tars():
    return {f"{w}.tar": tar(dict(of_class(w))) for part in PARTS for w in CHOSEN[part]} | {"n00000001.tar": b"no tar"}


def png_pickles(as_arrays=True, names=True):
    """{part}_images_png.pkl and {part}_labels.pkl (renmengye)."""
    members = {}
    for part in PARTS:
        encoded = [content for w in CHOSEN[part] for _, content in of_class(w)]
        images = [np.frombuffer(one, np.uint8)[:, None] for one in encoded] if as_arrays else encoded
        labels = {"label_specific": np.repeat(np.arange(2), EACH), "label_general": np.zeros(2 * EACH)}
        if names:
            labels["label_specific_str"] = [listed()[w].name for w in CHOSEN[part]]
        members[f"{part}_images_png.pkl"] = pickle.dumps(images, 2)
        members[f"{part}_labels.pkl"] = pickle.dumps(labels, 2)
    return members


def arrays():
    """{part}_images.npz, blue first, and {part}_labels.pkl (MetaOptNet)."""
    members = {}
    for part in PARTS:
        images = np.stack([pixels(content) for w in CHOSEN[part] for _, content in of_class(w)])
        buffer = io.BytesIO()
        np.savez(buffer, images=images[..., ::-1])
        members[f"{part}_images.npz"] = buffer.getvalue()
        members[f"{part}_labels.pkl"] = pickle.dumps({"labels": [0] * EACH + [1] * EACH}, 2)
    return members


EXPECTED = np.stack([pixels(content) for part in PARTS for w in CHOSEN[part] for _, content in of_class(w)])


@pytest.mark.parametrize(
    ("made", "members"),
    [
        (in_folder, class_folders),
        (in_tar, tar_of_tars),
        (in_folder, png_pickles),
        (in_tgz, png_pickles),
        (in_folder, lambda: png_pickles(as_arrays=False)),
    ],
)
def test_every_layout_gives_the_same_store(made, members, tmp_path):
    manifest, folder = prepared(tmp_path, made(tmp_path / "source", members()))
    assert [entry.name for entry in manifest.classes] == [w for part in PARTS for w in CHOSEN[part]]
    assert manifest.splits == {"default": CHOSEN}
    assert np.array_equal(np.load(folder / "images.npy"), EXPECTED)


@pytest.mark.parametrize("members", [arrays, lambda: png_pickles(names=False)])
def test_classes_without_names_are_numbered_and_colours_stand_in_their_order(members, tmp_path):
    manifest, folder = prepared(tmp_path, in_folder(tmp_path / "source", members()))
    assert [entry.name for entry in manifest.classes] == [f"{part}-00{n}" for part in PARTS for n in range(2)]
    assert manifest.sample == "without class names"
    assert "train has 2 of 351 classes, 6 of 448,695 pictures" in manifest.partial
    assert np.array_equal(np.load(folder / "images.npy"), EXPECTED)


@pytest.mark.parametrize("members", [class_folders, arrays])
def test_what_is_missing_is_counted(members, tmp_path):
    with pytest.raises(DataError, match=r"(6 of 608 classes|train has 2 of 351 classes).*allow_partial=true"):
        prepared(tmp_path, in_folder(tmp_path / "source", members()), allow_partial=False)


def test_pictures_without_their_labels_are_an_error(tmp_path):
    members = {name: content for name, content in arrays().items() if name != "val_labels.pkl"}
    with pytest.raises(DataError, match=r"val_images\.npz: its labels are missing; expected val_labels\.pkl beside it"):
        prepared(tmp_path, in_folder(tmp_path / "source", members))


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="tieredimagenet: not found there; expected class folders"):
        prepared(tmp_path, in_folder(tmp_path / "source", {"cats/1.jpg": picture("cat")}))


def test_the_shipped_list_has_the_published_sizes():
    assert [sum(one.part == part for one in listed().values()) for part in PARTS] == [351, 97, 160]
    pictures = [sum(one.pictures for one in listed().values() if one.part == part) for part in PARTS]
    assert pictures == [448_695, 124_261, 206_209]
