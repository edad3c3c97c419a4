"""Lists of pictures: read as programs write them, or passed over by name; each picture once."""

import pytest

from metalearn_cli.errors import DataError
from tests.datasets.test_folder import arranged, arranged_and_left_out
from tests.datasets.test_splits import CLASSES, PICTURES, SPELLINGS, rows

NAMES = [name for names in CLASSES.values() for name in names]


def workbook(delimiter=",", encoding="utf-8", quote="", end="\n", first="", path="{}", suffix=".jpg"):
    """A list of the pictures as bytes, each written as `path` and `suffix` say."""
    lines = [delimiter.join(("filename", "label"))]
    names = [member.removeprefix("images/").removesuffix(".jpg") for member in PICTURES]
    lines += [f"{quote}{path.format(name)}{suffix}{quote}{delimiter}{name[:-1]}" for name in names]
    return (first + end.join(lines) + end).encode(encoding)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_as_programs_write_it(delimiter, encoding, quote, end):
    found = arranged(PICTURES, {"labels.csv": workbook(delimiter, encoding, quote, end)})
    assert {name: len(pictures) for name, pictures in found.classes.items()} == dict.fromkeys(NAMES, 2)


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("images/{}", ".jpg"),
        ("./images/{}", ".jpg"),
        ("images\\{}", ".jpg"),
        (".\\images\\{}", ".jpg"),
        ("/home/me/birds/images/{}", ".jpg"),
        ("C:\\data\\birds\\images\\{}", ".jpg"),
        ("birds/images/{}", ".jpg"),
        ("{}", ".JPG"),
        ("{}", ""),
        (" {}", ".jpg "),
        ("'{}", ".jpg'"),
    ],
)
@pytest.mark.parametrize("above", ["", "birds/"])
def test_a_list_finds_pictures_by_the_paths_of_other_disks(path, suffix, above):
    lists = {f"{above}labels.csv": workbook(path=path, suffix=suffix)}
    found = arranged([above + member for member in PICTURES], lists)
    assert sum(map(len, found.classes.values())) == len(PICTURES)


def test_the_line_by_which_excel_names_its_separator_is_read():
    assert len(arranged(PICTURES, {"labels.csv": workbook(";", first="sep=;\n")}).classes) == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ref;sort\na;b\n", r"labels\.csv: its columns are 'ref', 'sort'; expected a first line that names"),
        ("ant0.jpg,ant\nant1.jpg,ant\n", r"labels\.csv: its first line names a picture and no columns; expected"),
        ("filename\nant0.jpg\n", r"labels\.csv: its columns are 'filename'; expected"),
        ("", r"labels\.csv: is empty"),
        ("file,label,probability\nant0.jpg,ant,0.9\n", r"labels\.csv: its column 'probability' says"),
        ("file,label\n/tmp/q/nobody.jpg,ant\n", r"labels\.csv: none of its 1 lines names a picture: labels\.csv:2: "),
        (b"filename,label\nant0.jpg,b\xe9e\n", r"labels\.csv: is no UTF-8 text"),
    ],
)
def test_a_list_that_is_not_understood_is_named_with_what_was_expected(text, said):
    with pytest.raises(DataError, match=said):
        arranged(PICTURES, {"labels.csv": text})
    beside = [f"{name}/{n}.jpg" for name in ("ant", "bee", "cow") for n in range(2)]
    found, omissions = arranged_and_left_out(beside, {"labels.csv": text})
    assert sorted(found.classes) == ["ant", "bee", "cow"]
    assert [(one.kind, one.example) for one in omissions] == [("list", "labels.csv")]


def test_pictures_that_no_list_names_are_counted():
    _found, omissions = arranged_and_left_out([*PICTURES, "images/more.jpg"], {"labels.csv": workbook()})
    assert [(one.kind, one.why, one.example) for one in omissions] == [
        ("picture", "no list names it", "images/more.jpg")
    ]


def test_a_line_that_stands_twice_is_counted_and_a_picture_of_two_classes_is_refused():
    once = workbook().decode()
    found, omissions = arranged_and_left_out(PICTURES, {"labels.csv": once + "ant0.jpg,ant\n"})
    assert found == arranged(PICTURES, {"labels.csv": once})
    assert [(one.kind, one.example) for one in omissions] == [("line of a list", "labels.csv:16")]
    with pytest.raises(DataError, match=r"labels\.csv:16: 'images/ant0\.jpg' is 'bee', but 'ant' in labels\.csv:2"):
        arranged(PICTURES, {"labels.csv": once + "ant0.jpg,bee\n"})


def test_a_picture_in_two_parts_is_refused_with_both_lines():
    lines = [*rows(SPELLINGS[0]), "ant0.jpg,ant,test"]
    with pytest.raises(
        DataError, match=r"labels\.csv:16: 'images/ant0\.jpg' is in test, but in train in labels\.csv:2"
    ):
        arranged(PICTURES, {"labels.csv": "\n".join(lines)})


def test_a_list_that_contradicts_class_folders_is_refused():
    members = [f"{name}/{n}.jpg" for name in ("ant", "bee", "cow") for n in range(2)]
    body = "".join(f"{member},{member.split('/')[0]}\n" for member in members[:-1])
    with pytest.raises(DataError, match=r"labels\.csv:7: 'cow/1\.jpg' is 'ant', but lies in the folder of 'cow'"):
        arranged(members, {"labels.csv": f"file,label\n{body}cow/1.jpg,ant\n"})
