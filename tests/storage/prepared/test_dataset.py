import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared import checking
from metalearn_cli.storage.prepared.dataset import open_checked, open_prepared, verify
from metalearn_cli.storage.prepared.rows import Rows
from metalearn_cli.storage.prepared.writing import Chunk, Contents, write_dataset

COUNTS = {"a": 3, "b": 1, "c": 2, "d": 4}
SPLITS = {"one": {"train": ["a", "d"], "val": ["b"], "test": ["c"]}}
CONTENTS = Contents("pets", SPLITS, Preprocessing(channels=3, height=4, width=5), {"size": 4}, "here")


def pictures(seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8) for name, count in COUNTS.items()}


def written(folder, contents=CONTENTS, classes=None):
    found = pictures() if classes is None else classes
    return write_dataset(folder, contents, [*found], "key", lambda names: (Chunk(name, found[name]) for name in names))


def edited(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(tmp_path):
    written(tmp_path / "pets")
    return tmp_path / "pets"


def test_what_was_written_is_what_is_opened(tmp_path):
    manifest = written(tmp_path / "pets")
    opened = open_prepared(tmp_path / "pets")
    assert opened.manifest == manifest
    assert np.array_equal(opened.images, np.concatenate(list(pictures().values())))


def test_the_manifest_says_what_is_there(folder):
    manifest = open_prepared(folder).manifest
    assert {entry.name: entry.count for entry in manifest.classes} == COUNTS
    assert manifest.image_shape == (4, 5, 3)
    assert manifest.splits == SPLITS
    assert (manifest.dataset, manifest.settings, manifest.source) == ("pets", {"size": 4}, "here")
    assert manifest.bytes == (folder / "images.npy").stat().st_size


def test_the_pictures_are_a_plain_numpy_file(folder):
    assert np.load(folder / "images.npy").shape == (10, 4, 5, 3)


def test_opening_reads_no_pictures(folder, monkeypatch):
    monkeypatch.setattr(Rows, "_read", lambda *_where: pytest.fail("a picture was read"))
    assert open_prepared(folder).images.shape == (10, 4, 5, 3)


def test_a_given_mean_is_kept(folder):
    assert open_prepared(folder).manifest.preprocessing == CONTENTS.preprocessing


def test_without_a_mean_it_is_that_of_the_train_classes_per_channel(tmp_path):
    preprocessing = CONTENTS.preprocessing.model_copy(update={"mean": (), "std": ()})
    manifest = written(tmp_path / "x", CONTENTS._replace(preprocessing=preprocessing))
    found = manifest.preprocessing_for("one", "dataset")
    train = np.concatenate([pictures()["a"], pictures()["d"]]) / 255
    assert found.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-4)
    assert found.std == pytest.approx(train.std((0, 1, 2)), abs=1e-4)
    assert len(found.mean) == len(found.std) == 3


def test_a_channel_without_variation_has_a_spread_that_can_divide(tmp_path):
    preprocessing = CONTENTS.preprocessing.model_copy(update={"mean": (), "std": ()})
    flat = {name: np.full_like(images, 7) for name, images in pictures().items()}
    manifest = written(tmp_path / "x", CONTENTS._replace(preprocessing=preprocessing), flat)
    assert min(manifest.preprocessing_for("one", "dataset").std) > 0


def test_who_has_the_old_one_open_keeps_its_pictures_when_it_is_replaced(folder):
    old = open_prepared(folder).images
    written(folder, classes=pictures(1))
    assert np.array_equal(old, np.concatenate(list(pictures().values())))
    assert np.array_equal(open_prepared(folder).images, np.concatenate(list(pictures(1).values())))


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    assert written(tmp_path / "x") == written(tmp_path / "y")
    assert (tmp_path / "x" / "images.npy").read_bytes() == (tmp_path / "y" / "images.npy").read_bytes()


@pytest.mark.parametrize(
    ("splits", "classes", "message"),
    [
        (SPLITS, {}, "there are no classes"),
        (SPLITS, {"a": pictures()["a"][:0]}, "class 'a' has no pictures"),
        ({"one": {"train": ["a"], "val": ["e"]}}, None, "split 'one' names class 'e', which has no pictures"),
        ({"one": {"train": ["a", "b"], "val": ["b"]}}, None, "split 'one' has 1 classes in two parts"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_leaves_nothing(tmp_path, splits, classes, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path / "pets", CONTENTS._replace(splits=splits), classes)
    assert list(tmp_path.iterdir()) == []


def test_two_classes_of_one_name_are_refused(tmp_path):
    chunks = [Chunk(name, pictures()[name]) for name in (*COUNTS, "a")]
    with pytest.raises(DataError, match="two classes have the same name"):
        write_dataset(tmp_path / "x", CONTENTS, [*COUNTS, "a"], "key", lambda names: iter(chunks))


def test_each_split_has_the_mean_of_its_own_train_classes(tmp_path):
    other = {"two": {"train": ["b"], "val": ["a"], "test": ["c"]}}
    contents = CONTENTS._replace(
        preprocessing=CONTENTS.preprocessing.model_copy(update={"mean": (), "std": ()}), splits=SPLITS | other
    )
    found = written(tmp_path / "x", contents).preprocessing_for("two", "dataset")
    assert found.mean == pytest.approx((pictures()["b"] / 255).mean((0, 1, 2)), abs=1e-4)


@pytest.mark.parametrize(
    ("normalisation", "mean", "std"),
    [("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("none", (0, 0, 0), (1, 1, 1))],
)
def test_a_normalisation_can_be_named_instead(folder, normalisation, mean, std):
    found = open_prepared(folder).manifest.preprocessing_for("one", normalisation)
    assert (found.mean, found.std) == (mean, std)


def test_a_folder_without_a_dataset_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no prepared dataset there"):
        open_prepared(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_an_error(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: damaged; prepare the dataset again with --force"):
        open_prepared(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"format": 2}', '{"format": "1"}'])
def test_a_manifest_of_another_format_is_an_error(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"has format .*, this metalearn reads 1; prepare again with --force"):
        open_prepared(folder)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"image_shape": [4, 5]}, "image_shape"),
        ({"classes": None}, "classes"),
        ({"classes": [{"name": "a"}]}, "classes"),
        ({"preprocessing": {"channels": 2}}, "preprocessing"),
        ({"more": 1}, "more"),
    ],
)
def test_an_edited_manifest_names_the_place(folder, changes, where):
    edited(folder, **changes)
    with pytest.raises(DataError, match=rf"manifest\.json: {where}.* was edited or cut"):
        open_prepared(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_shape": [5, 4, 3]},
        {"classes": [{"name": "a", "count": 9}]},
        {"bytes": 1},
        {"splits": {"one": {"train": ["nobody"], "val": ["b"], "test": ["c"]}}},
        {"splits": {"one": {"train": ["a"], "val": ["a"], "test": ["c"]}}},
        {"classes": [{"name": name, "count": count} for name, count in zip("abcd", [3, -1, 2, 6], strict=True)]},
    ],
)
def test_an_edited_manifest_that_no_longer_fits_is_an_error(folder, changes):
    edited(folder, **changes)
    with pytest.raises(DataError):
        open_prepared(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "elsewhere"},
        {"sample": "ravi"},
        {"splits": {"one": {"train": ["a", "c"], "val": ["b"], "test": ["d"]}}},
        {"classes": [{"name": name, "count": count} for name, count in zip("abcd", [2, 2, 2, 4], strict=True)]},
        {"settings": {"size": 5}},
    ],
)
def test_a_manifest_that_was_edited_into_another_valid_one_is_an_error(folder, changes):
    edited(folder, **changes)
    with pytest.raises(DataError, match=r"manifest\.json: was edited; prepare the dataset again with --force"):
        open_prepared(folder)


def test_a_manifest_of_the_first_version_without_a_checksum_is_read(folder):
    fields = json.loads((folder / "manifest.json").read_text())
    newer = ("checksum", "sample", "partial", "damaged", "left_out", "remarks", "moments")
    old = {key: value for key, value in fields.items() if key not in newer}
    (folder / "manifest.json").write_text(json.dumps(old))
    assert open_prepared(folder).manifest.preprocessing_for("one", "dataset").mean == (0.0, 0.0, 0.0)


def test_a_manifest_from_before_omissions_were_kept_is_read(folder):
    """As version 0.1.0 wrote it: summed over the fields that it had, in their order."""
    fields = json.loads((folder / "manifest.json").read_text())
    for newer in ("left_out", "remarks", "checksum"):
        del fields[newer]
    del fields["preprocessing"]["ink"]
    summed = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    fields["checksum"] = hashlib.sha256(summed.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(fields))
    assert open_prepared(folder).manifest.left_out == []


@pytest.mark.parametrize("field", ["left_out", "remarks"])
def test_what_was_left_out_cannot_be_edited_away(field, folder):
    fields = json.loads((folder / "manifest.json").read_text())
    told = {"kind": "link", "why": "it leads out", "count": 1, "example": "a"}
    fields[field] = {"left_out": [told], "remarks": ["odd"]}[field]
    (folder / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="was edited"):
        open_prepared(folder)


@pytest.mark.parametrize("kept", [0, 5, 127, 128, -1])
def test_a_cut_array_is_an_error(folder, kept):
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"images\.npy: .*prepare the dataset again with --force"):
        open_prepared(folder)


def test_an_array_with_more_behind_it_is_an_error(folder):
    with (folder / "images.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"images\.npy: "):
        open_prepared(folder)


@pytest.mark.parametrize("dtype", [np.int8, np.float32, object])
def test_an_array_of_another_type_is_an_error(folder, dtype):
    np.save(folder / "images.npy", np.zeros((10, 4, 5, 3), dtype), allow_pickle=True)
    with pytest.raises(DataError, match=r"images\.npy: "):
        open_prepared(folder)


def test_an_archive_of_arrays_in_place_of_the_array_is_an_error(folder):
    with (folder / "images.npy").open("wb") as file:
        np.savez(file, images=np.zeros((10, 4, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"images\.npy: damaged"):
        open_prepared(folder)


def test_a_missing_array_is_an_error(folder):
    (folder / "images.npy").unlink()
    with pytest.raises(DataError, match=r"images\.npy: is missing"):
        open_prepared(folder)


def test_verify_passes_what_was_written(folder):
    assert verify(folder) == open_prepared(folder).manifest


def test_verify_finds_one_flipped_bit(folder):
    images = open_memmap(folder / "images.npy", mode="r+")
    images[7, 2, 2, 1] ^= 1
    images.flush()
    with pytest.raises(DataError, match=r"images\.npy: is not as it was written"):
        verify(folder)


def flip(folder, times=None):
    """Another value in one pixel, and the file's times as they were if so asked."""
    images = open_memmap(folder / "images.npy", mode="r+")
    images[3, 1, 1, 0] ^= 1
    images.flush()
    if times is not None:
        os.utime(folder / "images.npy", ns=(times.st_atime_ns, times.st_mtime_ns))


def silent(*_moved):
    """No progress."""


def test_a_changed_pixel_is_found_when_the_dataset_is_opened_to_learn_from(folder):
    assert open_checked(folder, silent).manifest == open_prepared(folder).manifest
    flip(folder, times=(folder / "images.npy").stat())
    with pytest.raises(DataError, match=r"images\.npy: is not as it was written; prepare the dataset again"):
        open_checked(folder, silent)


def test_a_large_array_is_read_once_and_again_when_it_has_changed(folder, monkeypatch):
    monkeypatch.setattr(checking, "_READ_ALWAYS", 0)
    seen = []
    for _ in range(2):
        open_checked(folder, lambda *moved: seen.append(moved))
        size = (folder / "images.npy").stat().st_size
        assert seen == [("checking pictures", size, size)]
    flip(folder)
    with pytest.raises(DataError, match="is not as it was written"):
        open_checked(folder, silent)


def test_a_large_array_in_a_folder_that_takes_no_files_is_read_each_time(folder, monkeypatch):
    monkeypatch.setattr(checking, "_READ_ALWAYS", 0)
    (folder / ".checked").mkdir()
    seen = []
    for _ in range(2):
        open_checked(folder, lambda *moved: seen.append(moved))
    assert len(seen) == 2


def test_pixels_in_the_order_of_fortran_are_an_error(folder):
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes().replace(b"False", b"True ", 1))
    with pytest.raises(DataError, match=r"images\.npy: damaged \(its header says"):
        open_prepared(folder)


def test_a_header_that_says_it_is_shorter_is_an_error(folder):
    content = (folder / "images.npy").read_bytes()
    shorter = content[:8] + (128 - 10 - 16).to_bytes(2, "little") + content[10:111] + b"\n" + content[112:]
    (folder / "images.npy").write_bytes(shorter)
    with pytest.raises(DataError, match=r"images\.npy: damaged \(its header says"):
        open_prepared(folder)


@pytest.mark.parametrize("name", ["manifest.json", "images.npy"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "endless link"])
def test_what_is_no_file_is_refused_at_once(name, kind, folder):
    path = folder / name
    path.unlink()
    make = {"pipe": os.mkfifo, "folder": Path.mkdir}.get(kind)
    if make is None:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    else:
        make(path)
    with pytest.raises(DataError):
        open_prepared(folder)


def test_a_manifest_that_lost_its_checksum_and_changed_is_an_error(folder):
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["checksum"]
    (folder / "manifest.json").write_text(json.dumps({**fields, "source": "elsewhere"}))
    with pytest.raises(DataError, match=r"manifest\.json: was edited"):
        open_prepared(folder)
