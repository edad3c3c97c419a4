import numpy as np
import pytest

from metalearn_cli.datasets import cifar_fs, fc100
from metalearn_cli.datasets.layouts import shipped_rows
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.preparation import prepare
from tests.lookalikes import cifar_python, in_folder, in_tgz, picture, pixels

ROWS = [*shipped_rows("cifar100.tsv")][1:]
CLASSES = {fine: int(number) for number, fine, *_rest in ROWS[:40]}


def silent(_label, _done, _total):
    pass


def prepared(module, data_dir, source, **settings):
    name = module.__name__.rpartition(".")[2]
    config = module.Config(**{"allow_partial": True} | settings)
    return prepare(name, module.build(config), data_dir, source, False, silent)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("made", [in_tgz, in_folder])
def test_the_official_files_give_each_class_its_training_and_then_its_test_pictures(made, protocol, tmp_path):
    manifest, folder = prepared(cifar_fs, tmp_path / "data", made(tmp_path / "source", cifar_python(CLASSES, protocol)))
    names = [entry.name for entry in manifest.classes]
    assert names == sorted(CLASSES)
    expected = [pixels(picture(f"{name}/{which}", 32)) for name in names for which in ("train/0", "train/1", "test/0")]
    assert np.array_equal(np.load(folder / "images.npy"), np.stack(expected))


def test_one_store_serves_both_splits(tmp_path):
    source = in_folder(tmp_path / "source", cifar_python(CLASSES))
    first, folder = prepared(cifar_fs, tmp_path / "data", source)
    second, same = prepared(fc100, tmp_path / "data", None)
    assert (second, same) == (first, folder)
    for column, split in ((4, "cifar_fs"), (5, "fc100")):
        for part in ("train", "val", "test"):
            assert first.splits[split][part] == sorted(r[1] for r in ROWS if r[column] == part and r[1] in CLASSES)


def test_each_split_is_normalised_by_its_own_train_classes(tmp_path):
    manifest, _folder = prepared(cifar_fs, tmp_path / "data", in_folder(tmp_path / "source", cifar_python(CLASSES)))
    assert manifest.moments["cifar_fs"] != manifest.moments["fc100"]


def test_folders_named_like_the_classes_are_read_too(tmp_path):
    members = {f"cifar100/data/{name}/{n}.png": picture(f"{name}{n}", 32) for name in CLASSES for n in range(2)}
    manifest, _folder = prepared(fc100, tmp_path / "data", in_folder(tmp_path / "source", members))
    assert [entry.name for entry in manifest.classes] == sorted(CLASSES)


def test_what_is_missing_is_counted(tmp_path):
    source = in_folder(tmp_path / "source", cifar_python(CLASSES))
    with pytest.raises(DataError, match=r"CIFAR-100: found 40 of 100 classes.* has 3 of 600"):
        prepared(cifar_fs, tmp_path / "data", source, allow_partial=False)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR-100: not found there; expected cifar-100-python\.tar\.gz"):
        prepared(fc100, tmp_path / "data", in_folder(tmp_path / "source", {"cats/1.png": picture("cat")}))


def test_the_lists_have_the_published_sizes():
    assert [sum(row[4] == part for row in ROWS) for part in ("train", "val", "test")] == [64, 16, 20]
    assert [sum(row[5] == part for row in ROWS) for part in ("train", "val", "test")] == [60, 20, 20]


def test_fc100_shares_no_coarse_class_between_parts():
    coarse = {part: {row[3] for row in ROWS if row[5] == part} for part in ("train", "val", "test")}
    assert [len(found) for found in coarse.values()] == [12, 4, 4]
    assert len(set().union(*coarse.values())) == 20
