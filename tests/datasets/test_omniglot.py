import numpy as np
import pytest
from pydantic import ValidationError

from metalearn_cli.datasets import PARTS, omniglot
from metalearn_cli.datasets.omniglot import Config, arrange, build
from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared.preparation import prepare

# Alphabets and how many characters each has, counted in the official archives.
BACKGROUND = {
    "Alphabet_of_the_Magi": 20, "Anglo-Saxon_Futhorc": 29, "Arcadian": 26, "Armenian": 41,
    "Asomtavruli_(Georgian)": 40, "Balinese": 24, "Bengali": 46, "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26, "Burmese_(Myanmar)": 34, "Cyrillic": 33, "Early_Aramaic": 22, "Futurama": 26, "Grantha": 43,
    "Greek": 24, "Gujarati": 48, "Hebrew": 22, "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52, "Japanese_(katakana)": 47, "Korean": 40, "Latin": 26, "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41, "N_Ko": 33, "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14, "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23, "Tagalog": 17, "Tifinagh": 55,
}  # fmt: skip
EVALUATION = {
    "Angelic": 20, "Atemayar_Qelisayer": 26, "Atlantean": 26, "Aurek-Besh": 26, "Avesta": 26, "Ge_ez": 26,
    "Glagolitic": 45, "Gurmukhi": 45, "Kannada": 41, "Keble": 26, "Malayalam": 47, "Manipuri": 40, "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45, "Oriya": 46, "Sylheti": 28, "Syriac_(Serto)": 23, "Tengwar": 25,
    "Tibetan": 42, "ULOG": 26,
}  # fmt: skip


def drawn(alphabets, above):
    return [
        f"{above}{alphabet}/character{number:02}/{number:04}_{drawing:02}.png"
        for alphabet, count in alphabets.items()
        for number in range(1, count + 1)
        for drawing in range(1, 21)
    ]


OFFICIAL = [*drawn(BACKGROUND, "images_background/"), *drawn(EVALUATION, "images_evaluation/")]
MERGED = drawn(BACKGROUND | EVALUATION, "omniglot/data/")


@pytest.fixture(scope="module")
def arrangement():
    return arrange(OFFICIAL)


def test_each_character_is_a_class_of_its_twenty_drawings(arrangement):
    assert len(arrangement.classes) == 1623
    assert arrangement.classes["Greek/character03"] == [
        f"images_background/Greek/character03/0003_{drawing:02}.png" for drawing in range(1, 21)
    ]


@pytest.mark.parametrize(
    ("split", "sizes"), [("vinyals", [1028, 172, 423]), ("official", [792, 172, 659]), ("maml1200", [1150, 50, 423])]
)
def test_a_split_has_the_sizes_of_its_paper(arrangement, split, sizes):
    assert [len(arrangement.splits[split][part]) for part in PARTS] == sizes


@pytest.mark.parametrize("split", ["vinyals", "official", "maml1200"])
def test_every_character_is_in_exactly_one_part(arrangement, split):
    names = [name for part in PARTS for name in arrangement.splits[split][part]]
    assert sorted(names) == sorted(arrangement.classes)


def test_the_official_test_part_is_the_evaluation_set(arrangement):
    tested = {name.split("/")[0] for name in arrangement.splits["official"]["test"]}
    assert tested == set(EVALUATION)


def test_the_official_split_keeps_alphabets_whole(arrangement):
    alphabets = [{name.split("/")[0] for name in arrangement.splits["official"][part]} for part in PARTS]
    assert sum(map(len, alphabets)) == len(BACKGROUND) + len(EVALUATION)


def test_official_and_vinyals_validate_on_the_same_characters(arrangement):
    assert sorted(arrangement.splits["official"]["val"]) == sorted(arrangement.splits["vinyals"]["val"])


def test_alphabets_that_are_merged_into_one_folder_give_the_same_classes_and_splits(arrangement):
    merged = arrange(MERGED)
    assert set(merged.classes) == set(arrangement.classes)
    assert {name: {part: set(names) for part, names in split.items()} for name, split in merged.splits.items()} == {
        name: {part: set(names) for part, names in split.items()} for name, split in arrangement.splits.items()
    }


def test_alphabets_at_the_top_are_found_too(arrangement):
    assert set(arrange(drawn(BACKGROUND | EVALUATION, "")).classes) == set(arrangement.classes)


def test_the_order_of_the_members_does_not_matter(arrangement):
    assert arrange(OFFICIAL[::-1]) == arrangement


def test_small_sets_and_strokes_beside_the_two_sets_are_passed_over(arrangement):
    small = drawn({"Greek": 24, "Latin": 26}, "images_background_small1/")
    strokes = [member.replace("images", "strokes").replace(".png", ".txt") for member in OFFICIAL[:100]]
    assert arrange([*small, *strokes, *OFFICIAL, "readme.png"]) == arrangement


@pytest.mark.parametrize("kept", [slice(0, 19_280), slice(19_280, None), slice(0, 0)])
def test_a_missing_set_is_refused_with_what_was_found(kept):
    found = len(OFFICIAL[kept]) // 20
    message = (
        rf"^omniglot: found {found:,} characters, expected 1,623 \(both images_background and images_evaluation\)$"
    )
    with pytest.raises(DataError, match=message):
        arrange(OFFICIAL[kept])


def test_a_character_that_lacks_a_drawing_is_named():
    with pytest.raises(DataError, match=r"of 20 drawings each, Alphabet_of_the_Magi/character01 has 19$"):
        arrange(OFFICIAL[1:])


def test_at_most_five_odd_characters_are_listed():
    with pytest.raises(DataError) as caught:
        arrange([member for member in OFFICIAL if not member.endswith("_20.png")])
    assert str(caught.value).count(" has 19") == 5


def test_characters_of_other_names_are_refused():
    with pytest.raises(DataError, match=r"^omniglot: .*/character\d\d is missing$"):
        arrange([member.replace("Greek", "Geek") for member in OFFICIAL])


@pytest.mark.parametrize("change", [{"resize": "nearest"}, {"image_size": 84}])
def test_what_changes_the_pixels_changes_the_store(change):
    assert build(Config(**change)).store != build(Config()).store


@pytest.mark.parametrize("change", [{"split": "official"}, {"rotations": "none"}, {"rotate_eval": True}])
def test_what_changes_only_the_tasks_shares_the_store_and_its_settings(change):
    assert build(Config(**change)).store == build(Config()).store
    assert build(Config(**change)).settings == build(Config()).settings


def test_validation_and_test_are_turned_only_when_asked():
    assert build(Config()).sampling.rotated == ("train",)
    assert build(Config(rotate_eval=True)).sampling.rotated == PARTS


def test_every_archive_has_a_second_address():
    downloads = build(Config()).offers[0]
    assert [download.file for download in downloads] == ["images_background.zip", "images_evaluation.zip"]
    assert all(len(set(download.urls)) == 2 for download in downloads)
    assert all(url.endswith("/" + download.file) for download in downloads for url in download.urls)


@pytest.mark.parametrize("key", [{"split": "lake"}, {"image_size": 106}, {"resize": "best"}, {"rotation": "none"}])
def test_settings_that_cannot_be_are_refused(key):
    with pytest.raises(ValidationError, match=next(iter(key))):
        Config(**key)


@pytest.fixture(scope="module")
def real(test_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("omniglot")
    return prepare("omniglot", build(Config()), folder, test_data / "omniglot", False, lambda *_moved: None)


def test_the_official_archives_give_1623_classes_of_20(real):
    manifest, _folder = real
    assert len(manifest.classes) == omniglot.CHARACTERS == 1623
    assert {entry.count for entry in manifest.classes} == {20}


def test_the_prepared_drawings_are_bright_ink_on_black_paper_in_the_known_amount(real):
    _manifest, folder = real
    images = np.load(folder / "images.npy")
    assert images.shape == (32_460, 28, 28, 1)
    assert images.mean() / 255 == pytest.approx(0.0805, abs=0.002)


def test_nearest_leaves_two_tones_and_bilinear_more(test_data):
    tones = {}
    with open_source(test_data / "omniglot") as source:
        chosen = [members[0] for members in arrange(source.members).classes.values()][::50]
        for resize in ("nearest", "bilinear"):
            preprocessing = build(Config(resize=resize)).preprocessing
            tones[resize] = np.unique([decode(source.content(member), preprocessing, member) for member in chosen])
    assert tones["nearest"].tolist() == [0, 255]
    assert len(tones["bilinear"]) > 10
