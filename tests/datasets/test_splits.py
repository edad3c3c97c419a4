"""Whatever looks like a split is used or refused by name, and never gives way to a seed."""

import numpy as np
import pytest

from metalearn_cli.datasets import PARTS
from metalearn_cli.datasets.layouts.parts import part_named, parts_of_names
from metalearn_cli.errors import DataError
from tests.datasets.test_folder import GIVEN, arranged, arranged_and_left_out

SPELLINGS = [
    ("train", "val", "test"),
    ("training", "validation", "testing"),
    ("train", "valid", "test"),
    ("train", "dev", "test"),
    ("meta-train", "meta-val", "meta-test"),
    ("meta_train", "meta_valid", "meta_test"),
    ("metatrain", "metaval", "metatest"),
    ("MetaTrain", "MetaVal", "MetaTest"),
    ("base", "val", "novel"),
    ("base", "validation", "novel"),
    ("training", "dev", "eval"),
    ("train", "val", "evaluation"),
    ("TRAIN", "VAL", "TEST"),
    ("Training", "Validation", "Testing"),
    ("train_set", "val_set", "test_set"),
    ("trainset", "valset", "testset"),
    ("train-images", "val-images", "test-images"),
    ("images_train", "images_val", "images_test"),
    ("train2017", "val2017", "test2017"),
    ("train data", "validation data", "test data"),
    ("birds_train", "birds_val", "birds_test"),
    ("train", "development", "holdout"),
    ("trn", "vld", "tst"),
    ("seen", "val", "unseen"),
]
CLASSES = {"train": ["ant", "bee", "cow"], "val": ["cat", "eel"], "test": ["dog", "fox"]}
SPLIT = {part: sorted(names) for part, names in CLASSES.items()}
SHARED = {part: ["ant", "bee", "cow"] for part in PARTS}
LAYOUTS = {
    "at the top": "{part}/{name}/{n}.png",
    "below a folder": "birds/{part}/{name}/{n}.png",
    "below two folders": "my/birds/{part}/{name}/{n}.png",
    "above a folder": "{part}/images/{name}/{n}.png",
    "below each class": "{name}/{part}/{n}.png",
}


def members_of(layout, words, classes=CLASSES):
    return [
        LAYOUTS[layout].format(part=words[PARTS.index(part)], name=name, n=n)
        for part, names in classes.items()
        for name in names
        for n in range(2)
    ]


def split_of(found):
    return {part: sorted(names) for part, names in found.splits["classes"].items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("words", SPELLINGS, ids="-".join)
def test_folders_that_name_parts_are_the_split_however_they_are_spelt_and_nested(words, layout):
    assert split_of(arranged(members_of(layout, words))) == SPLIT


@pytest.mark.parametrize("extra", ["annotations/1.png", "extra/gnu/1.png", "tset/gnu/1.png", "docs/figures/a/1.png"])
@pytest.mark.parametrize("words", SPELLINGS[:6], ids="-".join)
@pytest.mark.parametrize("above", ["", "birds/"])
def test_a_folder_beside_the_parts_does_not_undo_them_and_is_named(words, extra, above):
    found, omissions = arranged_and_left_out([above + member for member in [*members_of("at the top", words), extra]])
    assert split_of(found) == SPLIT
    assert [(one.kind, one.count, one.example) for one in omissions] == [("picture", 1, above + extra)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("words", SPELLINGS, ids="-".join)
def test_a_class_in_two_parts_is_refused_by_name(words, layout):
    shared = CLASSES | {"test": ["dog", "ant"]}
    with pytest.raises(DataError, match=r"class 'ant' is in (train|test) .* and in (train|test) .*parts=ignore"):
        arranged(members_of(layout, words, shared))


@pytest.mark.parametrize("other", ["Ant", "ANT", " ant", "ant "])
def test_a_class_in_two_parts_is_recognised_in_another_spelling(other):
    with pytest.raises(DataError, match=r"class '.*' is in test .* and in train"):
        arranged([*GIVEN, f"test/{other}/3.png"])


def test_classes_of_two_parts_can_be_put_together_on_request():
    found, _ = arranged_and_left_out(members_of("at the top", SPELLINGS[0], SHARED), parts="ignore")
    assert {name: len(pictures) for name, pictures in found.classes.items()} == {"ant": 6, "bee": 6, "cow": 6}
    assert [len(names) for names in found.splits["classes"].values()] == [1, 1, 1]


@pytest.mark.parametrize("lone", ["train", "Training", "test", "base", "meta-val"])
@pytest.mark.parametrize("beside", [[], ["animals/gnu/1.png"]])
def test_a_part_without_any_other_is_refused_by_name(lone, beside):
    members = [f"{lone}/{name}/1.png" for name in ("ant", "bee", "cow", "dog")] + beside
    with pytest.raises(DataError, match=rf"'{lone}' looks like the part (train|val|test) of a split"):
        arranged(members)
    assert len(arranged(members, parts="ignore").classes) == 4 + len(beside)


@pytest.mark.parametrize("missing", range(3))
def test_a_part_that_is_missing_is_named(missing):
    words = [word for place, word in enumerate(SPELLINGS[0]) if place != missing]
    members = [member for member in members_of("at the top", SPELLINGS[0]) if member.split("/")[0] in words]
    with pytest.raises(DataError, match=f"no classes for {PARTS[missing]}; expected train, val and test"):
        arranged(members)


@pytest.mark.parametrize("words", SPELLINGS[:6], ids="-".join)
def test_parts_that_hold_pictures_and_no_classes_are_refused(words):
    with pytest.raises(DataError, match="lies outside a class"):
        arranged([f"{word}/{n}.png" for word in words for n in range(3)])


@pytest.mark.parametrize("name", ["train", "test", "base", "novel"])
def test_one_class_may_be_called_like_a_part(name):
    assert sorted(arranged([f"{one}/1.png" for one in ("ant", "bee", name)]).classes) == sorted(["ant", "bee", name])


@pytest.mark.parametrize(
    "name", ["station", "trainer", "tester", "valley", "train station", "asset", "database", "bass"]
)
def test_other_words_name_no_part(name):
    assert part_named(name) is None


@pytest.mark.parametrize(
    "names", [("train_station", "test_tube"), ("base_camp", "novel_idea"), ("test1", "test2"), ("ant", "test")]
)
def test_names_that_share_a_word_with_a_part_are_no_split(names):
    assert len({*parts_of_names(names).values()}) < 2


def test_classes_named_by_hand_are_taken_from_training_alone():
    members = [member for member in members_of("at the top", SPELLINGS[0]) if not member.startswith("val")]
    assert split_of(arranged(members, val_classes=["bee"])) == {
        "train": ["ant", "cow"],
        "val": ["bee"],
        "test": SPLIT["test"],
    }
    with pytest.raises(DataError, match=r"dataset\.val_classes: 'dog' lies in test"):
        arranged(members, val_classes=["dog"])
    with pytest.raises(DataError, match=r"class 'fox' lies in test, and dataset\.test_classes does not name it"):
        arranged(members, val_classes=["bee"], test_classes=["dog"])


@pytest.mark.parametrize("suffix", ["txt", "json", "lst", "xlsx"])
@pytest.mark.parametrize("above", ["", "splits/"])
@pytest.mark.parametrize(
    "stems", [("train", "val", "test"), ("training", "dev", "testing"), ("birds_train", "birds_test"), ("split",)]
)
def test_files_that_look_like_a_split_and_are_not_read_are_refused_by_name(stems, above, suffix):
    members = [f"{name}/{n}.png" for name in "abcdef" for n in range(2)]
    files = {f"{above}{stem}.{suffix}": "a\n" for stem in stems}
    with pytest.raises(DataError, match=rf"{above}\w+\.{suffix}: looks like a split, which is read from folders"):
        arranged(members, files)
    assert len(arranged(members, files, parts="ignore").classes) == 6
    assert arranged(members, files, val_classes=["a"], test_classes=["b"]).splits["classes"]["val"] == ["a"]


def rows(words, column="split", picture="{name}{n}.jpg"):
    lines = [f"filename,label,{column}"]
    for part, names in CLASSES.items():
        lines += [
            f"{picture.format(name=name, n=n)},{name},{words[PARTS.index(part)]}" for name in names for n in range(2)
        ]
    return lines


PICTURES = [f"images/{name}{n}.jpg" for names in CLASSES.values() for name in names for n in range(2)]


@pytest.mark.parametrize("column", ["split", "Split", "part", "partition", "subset", "set", "phase", "anything"])
@pytest.mark.parametrize("words", [words for words in SPELLINGS if "birds" not in words[0]], ids="-".join)
def test_a_column_of_a_list_is_the_split_however_it_is_spelt(words, column):
    assert split_of(arranged(PICTURES, {"labels.csv": "\n".join(rows(words, column))})) == SPLIT


@pytest.mark.parametrize("cell", ["", " ", "tset", "?", "0", "train/val", "trainval", "none"])
@pytest.mark.parametrize("line", [1, 7, -1])
@pytest.mark.parametrize("words", SPELLINGS[:3], ids="-".join)
def test_a_cell_that_names_no_part_is_refused_with_its_line(words, line, cell):
    lines = rows(words)
    lines[line] = ",".join([*lines[line].split(",")[:2], cell])
    number = line % len(lines) + 1
    with pytest.raises(DataError, match=rf"^labels\.csv:{number}: split is '.*', expected one of train, val and test"):
        arranged(PICTURES, {"labels.csv": "\n".join(lines)})
    assert len(arranged(PICTURES, {"labels.csv": "\n".join(lines)}, parts="ignore").classes) == 7


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("pattern", ["{}.csv", "{}_labels.csv", "labels_{}.csv", "lists/{}.csv", "birds_{}.csv"])
@pytest.mark.parametrize("words", SPELLINGS[:10], ids="-".join)
def test_a_list_for_each_part_is_the_split(words, pattern, suffix):
    texts = {}
    for part, names in CLASSES.items():
        name = pattern.format(words[PARTS.index(part)]).replace("csv", suffix)
        body = [("filename", "label"), *((f"{label}{n}.jpg", label) for label in names for n in range(2))]
        texts[name] = "\n".join(("\t" if suffix == "tsv" else ",").join(row) for row in body)
    assert split_of(arranged(PICTURES, texts)) == SPLIT


def test_a_list_of_all_beside_the_lists_of_the_parts_does_not_undo_them():
    texts = {f"{part}.csv": "filename,label\n" + "".join(f"{n}{i}.jpg,{n}\n" for n in names for i in range(2))
             for part, names in CLASSES.items()}  # fmt: skip
    everything = "filename,label\n" + "".join(text.partition("\n")[2] for text in texts.values())
    assert split_of(arranged(PICTURES, texts | {"labels.csv": everything})) == SPLIT
    some = "filename,label\n" + texts["train.csv"].partition("\n")[2]
    with pytest.raises(DataError, match=r"is in no part, but .* is in test"):
        arranged(PICTURES, {"labels.csv": some, "val.csv": texts["val.csv"], "test.csv": texts["test.csv"]})


def test_folders_of_parts_count_for_pictures_that_a_list_names():
    members = [f"images/{part}/{name}{n}.jpg" for part, names in CLASSES.items() for name in names for n in range(2)]
    body = "".join(f"{m.removeprefix('images/')},{m.split('/')[-1][:-5]}\n" for m in members)
    assert split_of(arranged(members, {"labels.csv": "filename,label\n" + body})) == SPLIT


@pytest.mark.parametrize("head", ["class,split", "label;part", "category\tsubset"])
def test_a_list_of_classes_gives_class_folders_their_parts(head):
    sep = next(sign for sign in ",;\t" if sign in head)
    members = [f"{name}/{n}.png" for names in CLASSES.values() for name in names for n in range(2)]
    body = [f"{name}{sep}{part}" for part, names in CLASSES.items() for name in names]
    assert split_of(arranged(members, {"splits.csv": "\n".join([head, *body])})) == SPLIT
    with pytest.raises(DataError, match="is in no part, but"):
        arranged(members, {"splits.csv": "\n".join([head, *body[:-1]])})


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"splits.csv": "id,fold_name\n1,a\n"},
            r"splits\.csv: looks like a split, but its columns are 'id', 'fold_name'",
        ),
        ({"train.csv": "n01\nn02\n", "val.csv": "n03\n", "test.csv": "n04\n"}, r"(train|val|test)\.csv: looks like"),
        ({"x.csv": "who,usage\na,Training\nb,Testing\n"}, r"x\.csv: looks like a split, but its columns are"),
        (
            {"x.csv": "file,label,is_train\na/1.png,a,1\nb/1.png,b,0\n"},
            r"x\.csv: .*column 'is_train' looks like a split",
        ),
    ],
)
def test_a_list_that_looks_like_a_split_and_is_not_understood_is_refused(lists, message):
    with pytest.raises(DataError, match=message):
        arranged([f"{name}/{n}.png" for name in "abcdef" for n in (1, 2)], lists)


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("train-0", "valid-0", "test-0")])
def test_tables_that_name_parts_are_the_split(names):
    members = [f"data/{names[PARTS.index(p)]}.parquet/{n}/{i:06}" for p in PARTS for n in CLASSES[p] for i in range(2)]
    assert split_of(arranged(members)) == SPLIT
    with pytest.raises(DataError, match=r"class 'ant' is in test .* and in train"):
        arranged([*members, f"data/{names[2]}.parquet/ant/000009"])


def test_random_trees_never_put_a_class_of_the_users_test_into_training():
    generator = np.random.default_rng(0)
    used = 0
    for _ in range(400):
        words = SPELLINGS[generator.integers(len(SPELLINGS))]
        layout = list(LAYOUTS)[generator.integers(len(LAYOUTS))]
        case = [str.lower, str.upper, str.title, str][generator.integers(4)]
        members = [m for m in members_of(layout, [case(word) for word in words]) if generator.random() < 0.9]
        members += [f"extra{n}/1.png" for n in range(generator.integers(3))]
        try:
            split = arranged(members).splits["classes"]
        except DataError:
            continue
        used += 1
        assert not {name.rpartition("/")[2] for name in split["train"]} & {*CLASSES["test"], *CLASSES["val"]}
    assert used > 200
