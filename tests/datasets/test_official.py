"""CUB, FGVC-Aircraft and VGG Flower from look-alikes of their official archives."""

import numpy as np
import pytest
from PIL import Image

from metalearn_cli.datasets import PARTS, aircraft, cub, vgg_flowers
from metalearn_cli.datasets.layouts import split_list
from metalearn_cli.errors import DataError
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared.preparation import prepare
from tests.lookalikes import in_folder, in_tgz, matlab, picture, pixels

CUB_SPLITS = {name: split_list(f"cub_{name}") for name in ("closerlook", "feat", "metadataset")}
BIRDS = sorted(name for part in PARTS for name in CUB_SPLITS["closerlook"][part])
VARIANTS = split_list("aircraft")
FLOWERS = {int(name[:3]): name for part in PARTS for name in split_list("vgg_flowers")[part]}


def silent(_label, _done, _total):
    pass


def prepared(module, tmp_path, source, **settings):
    name = module.__name__.rpartition(".")[2]
    config = module.Config(**{"allow_partial": True} | settings)
    return prepare(name, module.build(config), tmp_path / "data", source, False, silent)


def birds(each=1):
    members = {
        f"CUB_200_2011/images/{bird}/{bird}_{n}.jpg": picture(f"{bird}{n}") for bird in BIRDS for n in range(each)
    }
    return members | {"CUB_200_2011/README": b"text", "attributes.txt": b"text"}


def planes():
    members, lines = {}, {part: [] for part in PARTS}
    for part in PARTS:
        for place, variant in enumerate(VARIANTS[part][:3]):
            for n in range(3):
                number = f"{PARTS.index(part)}{place}{n:05}"
                members[f"fgvc-aircraft-2013b/data/images/{number}.jpg"] = picture(number)
                lines[PARTS[n]].append(f"{number} {variant}")  # the official parts cut through the classes
    for part, found in lines.items():
        members[f"fgvc-aircraft-2013b/data/images_variant_{part}.txt"] = "\n".join(found).encode()
    return members


def flowers(labels, **how):
    members = {f"jpg/image_{n:05}.jpg": picture(f"flower{n}") for n in range(1, len(labels) + 1)}
    return members | {"imagelabels.mat": matlab(labels, **how)}


@pytest.mark.parametrize("made", [in_folder, in_tgz])
def test_cub_has_its_three_splits_by_name(made, tmp_path):
    manifest, _folder = prepared(cub, tmp_path, made(tmp_path / "source", birds()))
    assert {n: {p: set(c) for p, c in s.items()} for n, s in manifest.splits.items()} == {
        name: {part: set(split[part]) for part in PARTS} for name, split in CUB_SPLITS.items()
    }
    assert manifest.partial == "200 of 11,788 pictures"


def test_cubs_splits_are_three_different_ones_of_the_same_birds():
    tests = [set(split["test"]) for split in CUB_SPLITS.values()]
    assert all(first != second for i, first in enumerate(tests) for second in tests[:i])
    assert all({n for part in PARTS for n in split[part]} == set(BIRDS) for split in CUB_SPLITS.values())
    assert [[len(split[part]) for part in PARTS] for split in CUB_SPLITS.values()] == [
        [100, 50, 50], [100, 50, 50], [140, 30, 30],
    ]  # fmt: skip


def test_cub_without_all_its_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cub: found 200 of 11,788 pictures; complete it"):
        prepared(cub, tmp_path, in_folder(tmp_path / "source", birds()), allow_partial=False)


def test_aircraft_are_grouped_by_variant_through_all_three_official_lists(tmp_path):
    manifest, _folder = prepared(aircraft, tmp_path, in_folder(tmp_path / "source", planes()))
    assert {entry.name: entry.count for entry in manifest.classes} == {v: 3 for p in PARTS for v in VARIANTS[p][:3]}
    assert manifest.splits["default"] == {part: VARIANTS[part][:3] for part in PARTS}


def test_the_credit_line_below_an_aircraft_is_cut_off(tmp_path):
    manifest, folder = prepared(aircraft, tmp_path, in_tgz(tmp_path / "source", planes()))
    first = np.load(folder / "images.npy")[0]
    number = next(f"{PARTS.index(p)}{place}00000" for p in PARTS for place in range(3)
                  if VARIANTS[p][place] == manifest.classes[0].name)  # fmt: skip
    upper = Image.fromarray(pixels(picture(number))[:64])
    assert np.array_equal(first, decode(upper, manifest.preprocessing, "upper"))


@pytest.mark.parametrize("compressed", [True, False])
def test_flowers_get_their_labels_from_the_matlab_file(compressed, tmp_path):
    labels = [n for n in FLOWERS for _ in range(2)]
    manifest, folder = prepared(
        vgg_flowers, tmp_path, in_folder(tmp_path / "source", flowers(labels, compressed=compressed))
    )
    assert [entry.name for entry in manifest.classes] == sorted(FLOWERS.values())
    assert {entry.count for entry in manifest.classes} == {2}
    place = labels.index(1)
    assert np.array_equal(np.load(folder / "images.npy")[0], pixels(picture(f"flower{place + 1}")))


@pytest.mark.parametrize("cut", range(0, 400, 23))
def test_a_cut_label_file_is_an_error(cut, tmp_path):
    content = matlab([1, 2, 3] * 100)
    with pytest.raises(DataError, match=r"imagelabels\.mat is damaged"):
        vgg_flowers.mat_bytes(content[: min(cut, len(content) - 1)])


def test_a_label_file_as_matlab_packs_small_elements_is_read():
    content = matlab([1, 2, 3], compressed=False)
    packed = content.replace(b"\x01\x00\x00\x00\x06\x00\x00\x00labels\x00\x00", b"\x01\x00\x04\x00labs")
    assert packed != content
    assert list(vgg_flowers.mat_bytes(packed)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("module", "message"),
    [(cub, "cub: not found there"), (aircraft, "aircraft: not found there"), (vgg_flowers, "vgg_flowers: not found")],
)
def test_another_folder_is_refused(module, message, tmp_path):
    with pytest.raises(DataError, match=message):
        prepared(module, tmp_path, in_folder(tmp_path / "source", {"cats/1.jpg": picture("cat")}))


@pytest.mark.parametrize(("name", "sizes"), [("aircraft", [70, 15, 15]), ("vgg_flowers", [71, 15, 16])])
def test_the_lists_have_the_published_sizes(name, sizes):
    split = split_list(name)
    assert [len(split[part]) for part in PARTS] == sizes
    assert len({one for part in PARTS for one in split[part]}) == sum(sizes)
