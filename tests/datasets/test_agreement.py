"""A published dataset whose source has a split of its own is read by the split that is asked, or refused."""

import pickle

import numpy as np
import pytest

from metalearn_cli.datasets import PARTS, aircraft, cifar_fs, cub, fc100, miniimagenet, omniglot, tieredimagenet
from metalearn_cli.datasets.layouts import shipped_rows, split_list
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared.preparation import prepare
from tests import lookalikes
from tests.lookalikes import CHOSEN, in_folder, picture

CIFAR = [*shipped_rows("cifar100.tsv")][1:]
CUB = {name: split_list(f"cub_{name}") for name in ("closerlook", "feat", "metadataset")}
SPELLINGS = [("train", "val", "test"), ("training", "validation", "testing"), ("base", "dev", "novel")]


def prepared(module, tmp_path, members, **settings):
    name = module.__name__.rpartition(".")[2]
    source = in_folder(tmp_path / "source", members)
    config = module.Config(**{"allow_partial": True} | settings)
    return prepare(name, module.build(config), tmp_path / "data", source, False, lambda *_moved: None)[0]


def cifar_pickles(column, number_of, name="CIFAR_FS"):
    """{NAME}_{train,val,test}.pickle, with a picture of each class that the list has in that part."""
    members = {}
    for part in PARTS:
        fine = [row for row in CIFAR if row[column] == part]
        images = np.random.default_rng(len(part)).integers(0, 256, (len(fine), 32, 32, 3), dtype=np.uint8)
        labels = [number_of(int(row[0]), place, part) for place, row in enumerate(fine)]
        members[f"{name}_{part}.pickle"] = pickle.dumps({"data": images, "labels": labels}, 2)
    return members


@pytest.mark.parametrize(("module", "column"), [(cifar_fs, 4), (fc100, 5)])
def test_pickles_numbered_as_cifar_100_are_read(module, column, tmp_path):
    manifest = prepared(module, tmp_path, cifar_pickles(column, lambda number, _place, _part: number))
    split = manifest.splits[module.__name__.rpartition(".")[2]]
    assert {part: set(split[part]) for part in PARTS} == {
        part: {row[1] for row in CIFAR if row[column] == part} for part in PARTS
    }


@pytest.mark.parametrize(
    "number_of",
    [
        lambda _number, place, part: place + {"train": 0, "val": 64, "test": 80}[part],
        lambda _number, place, _part: place,
        lambda number, _place, _part: 99 - number,
        lambda number, _place, _part: (number + 1) % 100,
    ],
    ids=["counted on", "counted anew", "backwards", "off by one"],
)
@pytest.mark.parametrize(("module", "column"), [(cifar_fs, 4), (fc100, 5)])
def test_pickles_numbered_otherwise_are_refused(module, column, number_of, tmp_path):
    with pytest.raises(
        DataError, match=r"the source has '\w+' in .* has it in .* numbered otherwise than CIFAR-100's own"
    ):
        prepared(module, tmp_path, cifar_pickles(column, number_of))


def test_the_pickles_of_the_other_split_are_refused_by_its_name(tmp_path):
    with pytest.raises(DataError, match=r"cifar_fs: .* it has the split 'fc100'"):
        prepared(cifar_fs, tmp_path, cifar_pickles(5, lambda number, _place, _part: number, "FC100"))


@pytest.mark.parametrize("words", SPELLINGS, ids="-".join)
@pytest.mark.parametrize("asked", CUB)
@pytest.mark.parametrize("given", CUB)
def test_class_folders_of_cub_are_read_by_their_own_split_alone(given, asked, words, tmp_path):
    members = {
        f"{words[PARTS.index(part)]}/{name}/1.jpg": picture(name[:3], 16)
        for part in PARTS
        for name in CUB[given][part][:20]
    }
    if given == asked:
        assert prepared(cub, tmp_path, members, split=asked).classes
        return
    with pytest.raises(DataError, match=rf"cub: the source has '\d{{3}}.*but the split '{asked}' has it in"):
        prepared(cub, tmp_path, members, split=asked)


@pytest.mark.parametrize("words", SPELLINGS, ids="-".join)
@pytest.mark.parametrize(
    "layout", ["{part}/{wnid}/{name}", "images/{part}/{wnid}/{name}", "{part}/{wnid}/images/{name}"]
)
def test_class_folders_of_miniimagenet_in_other_parts_are_refused(layout, words, tmp_path):
    turned = dict(zip(PARTS, (*words[1:], words[0]), strict=True))
    right = dict(zip(PARTS, words, strict=True))
    for parts, fits in ((right, True), (turned, False)):
        members = {
            layout.format(part=parts[part], wnid=wnid, name=name): content
            for part, wnids in CHOSEN.items() for wnid in wnids for name, _number, content in lookalikes.ravi(wnid)
        }  # fmt: skip
        if fits:
            assert prepared(miniimagenet, tmp_path / "right", members).sample == "ravi"
        else:
            with pytest.raises(DataError, match=r"miniimagenet: the source has 'n\d{8}' in"):
                prepared(miniimagenet, tmp_path / "turned", members)


def turned_lists(suffix):
    members = lookalikes.images_and_lists() if suffix == "csv" else lookalikes.data_and_splits()
    folder = "" if suffix == "csv" else "splits/ravi-larochelle/"
    texts = [members[f"{folder}{part}.{suffix}"] for part in PARTS]
    return members | {f"{folder}{part}.{suffix}": text for part, text in zip(PARTS, texts[1:] + texts[:1], strict=True)}


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_lists_of_miniimagenet_that_name_other_parts_are_refused(suffix, tmp_path):
    with pytest.raises(DataError, match=r"miniimagenet: the source has 'n\d{8}' in"):
        prepared(miniimagenet, tmp_path, turned_lists(suffix))


def test_one_folder_of_lists_among_several_is_enough(tmp_path):
    members = turned_lists("txt")
    other = {name.replace("ravi-larochelle", "mine"): text for name, text in members.items() if name.endswith("txt")}
    assert prepared(miniimagenet, tmp_path, lookalikes.data_and_splits() | other).sample == "ravi"


def test_named_pickles_of_tieredimagenet_in_other_parts_are_refused(tmp_path):
    from tests.datasets.test_tieredimagenet import png_pickles

    right = png_pickles()
    ends = ("images_png.pkl", "labels.pkl")
    turned = {
        f"{new}_{end}": right[f"{old}_{end}"]
        for old, new in zip(PARTS, PARTS[1:] + PARTS[:1], strict=True)
        for end in ends
    }
    with pytest.raises(DataError, match=r"tieredimagenet: the source has 'n\d{8}' in"):
        prepared(tieredimagenet, tmp_path, turned)


def test_a_split_over_pictures_contradicts_nothing(tmp_path):
    members = {
        f"{part}/{row[1]}/{n}.png": picture(f"{part}{n}", 32)
        for part in ("train", "test")
        for row in CIFAR
        for n in range(2)
    }
    assert prepared(cifar_fs, tmp_path, members).classes


def test_the_training_folder_of_imagenet_is_no_split(tmp_path):
    assert prepared(miniimagenet, tmp_path, lookalikes.imagenet_folders("ILSVRC/Data/CLS-LOC/train/")).sample == "ravi"


def test_aircraft_in_folders_of_other_parts_are_refused(tmp_path):
    from tests.datasets.test_official import VARIANTS, planes

    members = planes()
    turn = dict(zip(PARTS, PARTS[1:] + PARTS[:1], strict=True))
    variants = {
        f"{PARTS.index(part)}{place}": turn[part] for part in PARTS for place, _ in enumerate(VARIANTS[part][:3])
    }
    moved = {}
    for name, content in members.items():
        number = name.rpartition("/")[2]
        moved[name.replace("images/", f"images/{variants[number[:2]]}/") if name.endswith(".jpg") else name] = content
    with pytest.raises(DataError, match=r"aircraft: the source has"):
        prepared(aircraft, tmp_path, moved)


def test_omniglot_in_folders_of_another_split_is_refused():
    from tests.datasets.test_omniglot import OFFICIAL

    arrangement = omniglot.arrange(OFFICIAL)
    part_of = {name: part for part in PARTS for name in arrangement.splits["maml1200"][part]}
    moved = [f"{part_of['/'.join(member.split('/')[-3:-1])]}/{'/'.join(member.split('/')[-3:])}" for member in OFFICIAL]

    class Members:
        members = sorted(moved)

    assert omniglot.build(omniglot.Config(split="maml1200")).arrange(Members).splits.keys() == arrangement.splits.keys()
    with pytest.raises(DataError, match=r"omniglot: the source has .* it has the split 'maml1200'"):
        omniglot.build(omniglot.Config(split="vinyals")).arrange(Members)
