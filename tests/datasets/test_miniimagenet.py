import pickle
import zipfile
import zlib

import numpy as np
import pytest

from metalearn_cli.datasets.miniimagenet import Config, build
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.preparation import prepare
from tests import lookalikes
from tests.lookalikes import CHOSEN, PER_CLASS, RAVI, in_folder, in_tar, in_tgz, in_zip, picture

PARTS = {"train": "train", "val": "val", "test": "test"}
OTHER_NAMES = {"train": "base", "val": "validation", "test": "novel"}

LAYOUTS = {
    "images and lists": (in_folder, lookalikes.images_and_lists),
    "images and lists in a zip": (in_zip, lookalikes.images_and_lists),
    "images and lists in a tgz": (in_tgz, lookalikes.images_and_lists),
    "class folders": (in_folder, lambda: lookalikes.class_folders(PARTS)),
    "class folders with other names": (in_tar, lambda: lookalikes.class_folders(OTHER_NAMES)),
    "class folders by number": (in_folder, lambda: lookalikes.class_folders(PARTS, by_number=True)),
    "folders without a split": (in_folder, lookalikes.folders_without_split),
    "data and splits": (in_folder, lookalikes.data_and_splits),
    "cache pickles": (in_folder, lookalikes.cache_pickles),
    "cache pickles of today": (in_folder, lambda: lookalikes.cache_pickles(5, "validation")),
    "cache pickles in a tgz": (in_tgz, lookalikes.cache_pickles),
    "category pickles": (in_folder, lookalikes.category_pickles),
    "ImageNet's folders": (in_folder, lookalikes.imagenet_folders),
    "ImageNet's tar of tars": (in_tar, lookalikes.imagenet_tar),
    "ImageNet's inner tars": (in_folder, lookalikes.imagenet_tar),
}


def silent(_label, _done, _total):
    pass


def prepared(tmp_path, source, **settings):
    config = Config(**{"allow_partial": True} | settings)
    return prepare("miniimagenet", build(config), tmp_path / "data", source, False, silent)


@pytest.fixture(scope="module")
def expected():
    """The store that every layout must give: class after class in the order of the parts, by rank."""
    wnids = [wnid for part in PARTS for wnid in sorted(CHOSEN[part])]
    images = np.stack([lookalikes.pixels(content) for wnid in wnids for _, _, content in lookalikes.ravi(wnid)])
    return wnids, images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_store(layout, expected, tmp_path):
    made, members = LAYOUTS[layout]
    manifest, folder = prepared(tmp_path, made(tmp_path / "source", members()))
    wnids, images = expected
    assert [entry.name for entry in manifest.classes] == wnids
    assert np.array_equal(np.load(folder / "images.npy"), images)
    assert manifest.splits == {"ravi": {part: sorted(CHOSEN[part]) for part in PARTS}}
    assert manifest.sample == "ravi"


def test_real_photos_give_the_same_store_from_files_pickles_and_tars(test_data, tmp_path, monkeypatch):
    with zipfile.ZipFile(test_data / "grocery" / "grocery84.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::90]
        photos = [archive.read(name) for name in names]
    monkeypatch.setattr(lookalikes, "picture", lambda seed: photos[zlib.crc32(seed.encode()) % len(photos)])
    layouts = ("images and lists", "cache pickles", "category pickles", "ImageNet's tar of tars", "class folders")
    sums = set()
    for layout in layouts:
        made, members = LAYOUTS[layout]
        manifest, _folder = prepared(tmp_path / layout, made(tmp_path / layout / "source", members()))
        sums.add((manifest.sha256, str(manifest.moments)))
    assert len(sums) == 1


def test_pictures_that_lie_there_twice_count_once(tmp_path):
    members = {**lookalikes.images_and_lists(), **lookalikes.class_folders(PARTS), **lookalikes.cache_pickles()}
    manifest, _folder = prepared(tmp_path, in_folder(tmp_path / "source", members))
    assert {entry.count for entry in manifest.classes} == {PER_CLASS}


def test_a_table_without_class_names_gives_the_same_pictures_under_numbers(expected, tmp_path):
    manifest, folder = prepared(tmp_path, in_folder(tmp_path / "source", lookalikes.gate_tables()))
    assert [entry.name for entry in manifest.classes] == [f"{part}-00{n}" for part in PARTS for n in range(2)]
    assert manifest.sample == "without class names"
    assert np.array_equal(np.load(folder / "images.npy"), expected[1])


def test_timms_own_sample_is_told_from_the_standard_one(tmp_path):
    manifest, folder = prepared(tmp_path, in_folder(tmp_path / "source", lookalikes.timm_tables()))
    assert manifest.sample == "timm"
    first = sorted(CHOSEN["train"])[0]
    drawn = [lookalikes.pixels(picture(f"timm/{name}/{first}")) for name in ("train", "validation")]
    assert np.array_equal(np.load(folder / "images.npy")[:2], np.stack(drawn))


def test_other_pictures_of_the_same_classes_are_told_from_the_standard_ones(tmp_path):
    members = {}
    for part, wnids in CHOSEN.items():
        for wnid in wnids:
            official = {number for _, number in RAVI[wnid][1]}
            others = [number for number in range(1, 99) if number not in official][:2]
            members |= {f"{part}/{wnid}/{wnid}_{n}.JPEG": picture(f"{wnid}{n}") for n in others}
    assert prepared(tmp_path, in_folder(tmp_path / "source", members))[0].sample == "reptile"


def test_of_a_full_imagenet_folder_the_listed_pictures_are_taken(tmp_path):
    members = lookalikes.class_folders(PARTS, by_number=True)
    wnid = CHOSEN["train"][0]
    numbers = [number for _, number in RAVI[wnid][1]]
    official = {f"train/{wnid}/{wnid}_{n}.JPEG": picture(f"o{n % 7}") for n in numbers}
    more = {f"train/{wnid}/{wnid}_{n}.JPEG": picture("more") for n in range(1, 400) if n not in numbers}
    manifest, folder = prepared(tmp_path, in_folder(tmp_path / "source", {**members, **official, **more}))
    place = [entry.name for entry in manifest.classes].index(wnid)
    assert manifest.classes[place].count == 600
    images = np.load(folder / "images.npy")[PER_CLASS * place :][:600]
    expected = np.stack([lookalikes.pixels(picture(f"o{n % 7}")) for n in numbers])
    assert np.array_equal(images, expected)


def test_what_is_missing_is_counted_and_named(tmp_path):
    source = in_folder(tmp_path / "source", lookalikes.images_and_lists())
    with pytest.raises(
        DataError, match=r"6 of 100 classes; missing n01\d+, .* and 89 more; pictures: .* has 3 of 600"
    ) as found:
        prepared(tmp_path, source, allow_partial=False)
    assert "--set dataset.allow_partial=true" in str(found.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_is_partial_says_so_in_its_manifest(tmp_path):
    manifest, _folder = prepared(tmp_path, in_folder(tmp_path / "source", lookalikes.images_and_lists()))
    assert manifest.partial.startswith("6 of 100 classes; missing ")


def test_pictures_of_another_size_are_resized_as_a_whole(tmp_path):
    members = {name: picture(name, 120) for name in lookalikes.class_folders(PARTS)}
    manifest, _folder = prepared(tmp_path, in_folder(tmp_path / "source", members))
    assert manifest.image_shape == (84, 84, 3)
    assert (manifest.preprocessing.resize, manifest.preprocessing.fit) == ("lanczos", "squash")


@pytest.mark.parametrize("members", [{"cats/1.jpg": picture("cat")}, {"notes.txt": b""}])
def test_another_folder_is_refused_with_the_layouts_that_are_known(tmp_path, members):
    with pytest.raises(DataError, match="miniimagenet: not found there; expected images/ with csv lists"):
        prepared(tmp_path, in_folder(tmp_path / "source", members))


def test_a_pickle_that_would_run_a_command_is_refused_and_does_not_run_it(tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    members = lookalikes.cache_pickles() | {"mini-imagenet-cache-test.pkl": pickle.dumps({"image_data": Evil()})}
    with pytest.raises(DataError, match=r"mini-imagenet-cache-test\.pkl: asks for posix\.system.*it was not run"):
        prepared(tmp_path, in_folder(tmp_path / "source", members))
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "data").iterdir()) == []


def test_the_rare_other_list_is_a_store_of_its_own(tmp_path):
    import json

    lists = json.loads((lookalikes.LISTS / "miniimagenet_vinyals.json").read_text())
    members = {f"{part}/{lists[part][n]}/{n}.jpg": picture(f"{part}{n}") for part in PARTS for n in range(2)}
    manifest, folder = prepared(tmp_path, in_folder(tmp_path / "source", members), split="vinyals")
    assert (manifest.sample, folder.name) == ("vinyals", "miniimagenet-vinyals-84")


def test_the_shipped_list_has_600_pictures_of_each_of_64_16_and_20_classes():
    assert {part: sum(found == part for found, _ in RAVI.values()) for part in PARTS} == {
        "train": 64,
        "val": 16,
        "test": 20,
    }
    assert {len(pairs) for _, pairs in RAVI.values()} == {600}
    assert all(pairs == sorted(pairs) for _, pairs in RAVI.values())
    assert sum(len({number for _, number in pairs}) for _, pairs in RAVI.values()) == 60_000
