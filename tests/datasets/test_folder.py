import pytest
from pydantic import ValidationError

from metalearn_cli.datasets import PARTS
from metalearn_cli.datasets.folder import Config, arrange, build
from metalearn_cli.datasets.layouts import is_picture
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.prepared.dataset import verify
from metalearn_cli.storage.prepared.preparation import prepare

GIVEN = ["train/ant/1.png", "train/ant/2.png", "train/bee/1.jpg", "val/cat/1.webp", "test/dog/1.bmp"]
SPLIT = {"train": ["ant", "bee"], "val": ["cat"], "test": ["dog"]}
TEN = [f"class{number}/{picture}.png" for number in range(10) for picture in range(3)]


class Listed:
    """A source of which only the names are known, and the content of its lists."""

    def __init__(self, members, lists=None):
        self._lists = lists or {}
        self.omissions = Omissions()
        self.members = sorted([*members, *self._lists])

    def text(self, member):
        return self._lists[member]

    def content(self, member):
        text = self._lists[member]
        return text if isinstance(text, bytes) else text.encode()

    def pictures(self):
        return [member for member in self.members if is_picture(member)]

    def require_filled(self, pictures):
        pass


def arranged(members, lists=None, **settings):
    return arrange(Config(**settings), Listed(members, lists))


def arranged_and_left_out(members, lists=None, **settings):
    source = Listed(members, lists)
    return arrange(Config(**settings), source), source.omissions.listed()


def split_of(members, **settings):
    return arranged(members, **settings).splits["classes"]


def test_folders_train_val_and_test_are_the_split():
    assert split_of(GIVEN) == SPLIT


def test_a_class_holds_the_pictures_below_its_folder():
    assert arranged(GIVEN[::-1]).classes == {
        "ant": ["train/ant/1.png", "train/ant/2.png"],
        "bee": ["train/bee/1.jpg"],
        "cat": ["val/cat/1.webp"],
        "dog": ["test/dog/1.bmp"],
    }


@pytest.mark.parametrize(
    "names", [("base", "val", "novel"), ("Train", "VALID", "Test"), ("train", "validation", "novel")]
)
def test_the_parts_have_their_other_names_too(names):
    renamed = {"train": names[0], "val": names[1], "test": names[2]}
    assert split_of(["/".join([renamed[part], rest]) for part, rest in (m.split("/", 1) for m in GIVEN)]) == SPLIT


@pytest.mark.parametrize("above", ["shop", "my/old/shop"])
def test_folders_around_the_whole_collection_are_passed_over(above):
    assert split_of([f"{above}/{member}" for member in GIVEN]) == SPLIT
    assert set(arranged([f"{above}/{member}" for member in TEN]).classes) == {f"class{n}" for n in range(10)}


def test_a_group_is_part_of_its_classes_names():
    members = ["train/pets/ant/1.png", "train/wild/ant/1.png", "val/cat/1.png", "test/dog/1.png"]
    assert split_of(members)["train"] == ["pets/ant", "wild/ant"]


def test_without_part_folders_the_classes_are_split_by_seed():
    split = split_of(TEN)
    assert [len(split[part]) for part in PARTS] == [6, 2, 2]
    assert sorted(name for part in PARTS for name in split[part]) == [f"class{number}" for number in range(10)]


def test_the_same_seed_splits_alike_and_another_otherwise():
    assert split_of(TEN) == split_of(TEN[::-1])
    assert split_of(TEN) != split_of(TEN, split_seed=1)


def test_the_fractions_are_those_of_the_classes():
    split = split_of(TEN, val_fraction=0.1, test_fraction=0.5)
    assert [len(split[part]) for part in PARTS] == [4, 1, 5]


def test_three_classes_are_enough():
    split = split_of(TEN[:9])
    assert [len(split[part]) for part in PARTS] == [1, 1, 1]


def test_other_files_are_passed_over():
    assert arranged([*GIVEN, "readme.txt", "train/ant/notes.md", "anim/x.mp4"]) == arranged(GIVEN)


@pytest.mark.parametrize("members", [[], ["a/b.txt", "c/d.mp4"]])
def test_no_pictures_are_an_error_that_says_which_kinds_are_read(members):
    with pytest.raises(DataError, match=r"no pictures there \(png, jpg, webp, gif, tif, bmp and others\)"):
        arranged(members)


@pytest.mark.parametrize("loose", ["loose.png", "train/loose.png"])
@pytest.mark.parametrize("above", ["", "shop/"])
def test_a_picture_outside_any_class_is_an_error(loose, above):
    with pytest.raises(DataError, match=rf"'{above}{loose}' lies outside a class; expected CLASS/picture\.jpg"):
        arranged([above + member for member in [*GIVEN, loose]])


def test_pictures_without_any_folder_are_an_error():
    with pytest.raises(DataError, match=r"'a\.png' lies outside a class"):
        arranged(["a.png", "b.png"])


def test_a_class_in_two_parts_is_an_error():
    with pytest.raises(DataError, match=r"class 'ant' is in test \(test/ant\) and in train \(train/ant\)"):
        arranged([*GIVEN, "test/ant/3.png"])


def test_too_few_classes_to_split_are_an_error():
    with pytest.raises(DataError, match="2 classes; 3 or more are needed"):
        arranged(TEN[:6])


def test_a_part_without_classes_is_an_error():
    with pytest.raises(DataError, match="no classes for val; expected train, val and test"):
        arranged([member for member in GIVEN if not member.startswith("val")])


def test_fractions_that_leave_nothing_to_train_on_are_an_error():
    with pytest.raises(DataError, match=r"nothing is left for train: dataset\.val_fraction takes 9 of 10"):
        arranged(TEN, val_fraction=0.9, test_fraction=0.5)


PETS = {f"images/{number}.jpg": number % 4 for number in range(8)}
NAMES = ["ant", "bee", "cat", "dog"]


def listed(columns=("FILE_NAME", "CATEGORY"), delimiter=",", extra=(), below="images/"):
    rows = [columns, *((name.removeprefix(below), NAMES[label], *extra) for name, label in PETS.items())]
    return "".join(delimiter.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", listed()),
        ("labels.tsv", listed(("filename", "label"), "\t")),
        ("labels.csv", listed(("Image", "Class"), below="")),
        ("labels.csv", listed(("FILE_NAME", "CATEGORY", "SUPER_CATEGORY"), extra=("insects",))),
    ],
)
@pytest.mark.parametrize("above", ["", "pets/"])
def test_a_list_gives_the_classes_of_pictures_in_one_folder(name, text, above):
    found = arranged([above + member for member in PETS], {above + name: text})
    assert {n: [m.removeprefix(above) for m in members] for n, members in found.classes.items()} == {
        name: [f"images/{label}.jpg", f"images/{label + 4}.jpg"] for label, name in enumerate(NAMES)
    }


def test_meta_albums_info_may_rename_the_columns():
    info = '{"image_column_name": "PICTURE", "category_column_name": "Kind"}'
    found = arranged(PETS, {"labels.csv": listed(("picture", "kind")), "info.json": info})
    assert sorted(found.classes) == NAMES


@pytest.mark.parametrize("info", ["", "[]", "{}", '{"image_column_name": 3}'])
def test_another_info_changes_nothing(info):
    assert arranged(PETS, {"labels.csv": listed(), "info.json": info}) == arranged(PETS, {"labels.csv": listed()})


def test_a_column_of_a_list_gives_the_parts():
    parts = {"ant": "train", "bee": "train", "cat": "valid", "dog": "test"}
    rows = [("filename", "label", "split"), *((name, NAMES[n], parts[NAMES[n]]) for name, n in PETS.items())]
    split = arranged(PETS, {"x.csv": "".join(",".join(row) + "\n" for row in rows)}).splits["classes"]
    assert split == SPLIT


def test_a_list_for_each_part_gives_the_parts():
    lists = {"train.csv": (0, 1), "val.csv": (2,), "test.csv": (3,)}
    texts = {
        name: "filename,label\n" + "".join(f"{n},{NAMES[label]}\n" for n, label in PETS.items() if label in labels)
        for name, labels in lists.items()
    }
    assert arranged(PETS, texts).splits["classes"] == SPLIT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,label\nnobody.jpg,ant\n", r"x\.csv:2: 'nobody\.jpg' is not there; expected nobody\.jpg or images"),
        ("filename,label\n0.jpg,\n", r"x\.csv:2: '0\.jpg' has no label that can be printed"),
        ("filename,label\n0.jpg\n", r"x\.csv:2: '0\.jpg' has no label that can be printed"),
        ("filename,label\n0.jpg,\x1b[2J\n", r"x\.csv:2: '0\.jpg' has no label that can be printed"),
        (f"filename,label\n{'x' * 200_000},a\n", r"x\.csv: is no list that can be read: field larger than"),
        ("filename,label\n../../etc/passwd,ant\n", "is not there"),
    ],
)
def test_a_mistake_in_a_list_names_its_line(text, message):
    with pytest.raises(DataError, match=message):
        arranged(PETS, {"x.csv": text})


def test_another_csv_beside_class_folders_is_passed_over():
    assert arranged(GIVEN, {"notes.csv": "who,what\nme,this\n"}) == arranged(GIVEN)


def test_classes_can_be_named_for_val_and_test():
    split = split_of(TEN, val_classes=["class3"], test_classes=["class9", "class1"])
    assert (split["val"], split["test"]) == (["class3"], ["class1", "class9"])
    assert len(split["train"]) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_classes": ["nobody"], "test_classes": ["class1"]}, r"dataset\.val_classes: 'nobody' has no pictures"),
        ({"val_classes": ["class1"], "test_classes": ["class1"]}, "'class1' is in both"),
        ({"val_classes": ["class1"]}, "no classes for test"),
    ],
)
def test_named_classes_that_do_not_make_a_split_are_an_error(settings, message):
    with pytest.raises(DataError, match=message):
        split_of(TEN, **settings)


def test_pictures_in_tables_are_classes_by_their_label_wherever_they_lie():
    members = [f"data/{part}-0.parquet/{name}/{n:06}" for part in ("a", "b") for name in NAMES for n in range(2)]
    assert {name: len(found) for name, found in arranged(members).classes.items()} == dict.fromkeys(NAMES, 4)


@pytest.mark.parametrize("change", [{"title": "birds"}, {"image_size": 28}, {"channels": 1}])
def test_the_store_is_named_by_title_size_and_channels(change):
    assert build(Config(**change)).store != build(Config()).store


@pytest.mark.parametrize("change", [{"resize": "box"}, {"fit": "squash"}, {"split_seed": 1}, {"val_fraction": 0.3}])
def test_what_pixels_and_splits_depend_on_is_in_the_settings(change):
    assert build(Config(**change)).settings != build(Config()).settings


def test_rotations_are_not_in_the_settings():
    assert build(Config(rotations="task")).settings == build(Config()).settings


@pytest.mark.parametrize("title", ["", "../up", "a b", "a/b", "x" * 61, "é"])
def test_a_title_that_cannot_name_a_folder_is_refused(title):
    with pytest.raises(ValidationError, match="expected letters, digits"):
        Config(title=title)


@pytest.fixture(scope="module")
def grocery(test_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grocery")
    source = test_data / "grocery" / "grocery84.zip"
    return prepare("folder", build(Config(title="grocery")), folder, source, False, lambda *_moved: None)


def test_the_grocery_archive_gives_its_classes_pictures_and_parts(grocery):
    manifest, _folder = grocery
    assert len(manifest.classes) == 81
    assert sum(entry.count for entry in manifest.classes) == 5421
    assert [len(manifest.splits["classes"][part]) for part in PARTS] == [52, 13, 16]


def test_the_grocery_manifest_has_a_mean_and_spread_per_channel_and_verifies(grocery):
    manifest, folder = grocery
    assert len(manifest.moments["classes"].mean) == len(manifest.moments["classes"].std) == 3
    assert all(0.2 < value < 0.8 for value in manifest.moments["classes"].mean)
    assert all(0.1 < value < 0.4 for value in manifest.moments["classes"].std)
    assert verify(folder) == manifest
