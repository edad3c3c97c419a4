"""Pictures and labels as Python callers have them: taken as what they are, or refused in a sentence."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metalearn_cli.errors import DataError
from metalearn_cli.runtime.use.python_arguments import classes_in, labels_in, pictures_in


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def encoded() -> bytes:
    file = io.BytesIO()
    Image.fromarray(values(5, 5)).save(file, "PNG")
    return file.getvalue()


HEIGHTS = st.integers(1, 200)


@given(HEIGHTS, HEIGHTS, st.sampled_from([1, 3, 4]), st.sampled_from([1, 3]), st.booleans())
def test_values_of_a_single_picture_are_one_picture(height, width, depth, channels, as_tensor):
    for shape in ((height, width), (height, width, depth)):
        single = np.zeros(shape, np.uint8)
        [only] = pictures_in(torch.from_numpy(single) if as_tensor else single, channels)
        assert only.content.shape == shape


@given(st.integers(1, 9), HEIGHTS, HEIGHTS, st.sampled_from([1, 3, 4]), st.booleans())
def test_values_of_several_pictures_are_as_many(count, height, width, depth, as_tensor):
    several = np.zeros((count, height, width, depth), np.uint8)
    found = pictures_in(torch.from_numpy(several) if as_tensor else several, 3)
    assert [one.content.shape for one in found] == [(height, width, depth)] * count


@given(st.integers(1, 9), HEIGHTS, HEIGHTS.filter(lambda width: width not in (1, 3, 4)))
def test_three_axes_are_grey_pictures_of_a_grey_network(count, height, width):
    assert len(pictures_in(np.zeros((count, height, width), np.uint8), 1)) == count


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_channels_first_may_be_several_grey_pictures_so_a_network_of_colours_refuses_them(depth):
    with pytest.raises(DataError, match=r"may be . grey pictures or a single one \[C, H, W\]; give \[N, H, W, C\]"):
        pictures_in(values(depth, 84, 84), 3)


KINDS = {
    "PIL": lambda _: Image.fromarray(values(5, 5)),
    "content": lambda _: encoded(),
    "text": str,
    "path": lambda path: path,
    "grey values": lambda _: values(5, 6),
    "values": lambda _: values(5, 6, 3),
    "tensor": lambda _: torch.from_numpy(values(5, 6, 3)),
}


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "one.png").write_bytes(encoded())
    return tmp_path / "one.png"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", [list, tuple, iter, np.array])
def test_each_picture_of_a_list_is_one_whatever_holds_them(kind, holder, file):
    if holder is np.array and not kind.endswith("values"):
        pytest.skip("an array of anything else is none of pictures")
    assert len(pictures_in(holder([KINDS[kind](file), KINDS[kind](file)]), 1)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_picture_is_one(kind, file):
    assert len(pictures_in(KINDS[kind](file), 1)) == 1


def test_a_picture_of_a_list_is_called_by_its_number_or_file(file):
    assert [given.name for given in pictures_in([values(5, 5), file], 1)] == ["picture 0", str(file)]


REFUSED = {
    "floats": (values(4, 9, 9, 3) / 255, "type float64 .* expected uint8 .* in 0 to 1: (255 * pictures).round()"),
    "floating tensor": (torch.zeros(4, 3, 9, 9), "type float32 .* expected uint8"),
    "bfloat16": (torch.zeros(4, 9, 9, 3, dtype=torch.bfloat16), "type bfloat16"),
    "integers": (values(4, 9, 9, 3).astype(np.int64), "type int64 .* values 0 to 255"),
    "16 bits": (values(4, 9, 9).astype(np.uint16), "type uint16 .* values 0 to 255"),
    "truths": (values(9, 9) > 5, "type bool .* expected uint8"),
    "texts": (np.array(["a.png"]), "type <U5 .* expected uint8"),
    "objects": (np.array([None, 1]), "type object"),
    "channels second": (values(4, 3, 9, 9), "shape (4, 3, 9, 9); .* move them last, numpy.moveaxis(pictures, 1, -1)"),
    "two channels": (values(4, 9, 9, 2), "shape (4, 9, 9, 2); expected uint8 [N, H, W, C]"),
    "a number": (np.array(3, np.uint8), "shape ()"),
    "a row": (values(9), "shape (9,)"),
    "five axes": (values(1, 2, 9, 9, 3), "shape (1, 2, 9, 9, 3)"),
    "no pictures": (values(0, 9, 9, 3), "no pictures given"),
    "none in a list": ([], "no pictures given"),
    "no pixels": (values(0, 9), "picture 0: has shape (0, 9)"),
    "a batch in a list": ([values(1, 9, 9, 3)], "picture 0: has shape (1, 9, 9, 3), expected [H, W, C]"),
    "floats in a list": ([values(9, 9), values(9, 9) / 255], "picture 1 of type float64 .* expected uint8"),
    "numbers in a list": ([[1, 2], [3, 4]], "picture 0: found a value of type list"),
    "None in a list": ([None], "picture 0: found a value of type NoneType"),
    "None": (None, "found a value of type NoneType"),
    "an int": (3, "found a value of type int"),
    "a dict": ({"a": 1}, "found a value of type dict"),
    "a set": ({1}, "found a value of type set"),
    "a file that is not there": ("no/such.png", "no/such.png: there is no such file"),
    "a folder": (Path(__file__).parent, "is a folder, expected the file of a picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_in_a_sentence_that_says_what_was_found(name):
    images, words = REFUSED[name]
    with pytest.raises(DataError) as refused:
        pictures_in(images, 3)
    message = str(refused.value)
    assert "\n" not in message
    for part in words.split(" .* "):
        assert part in message


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", 7, 2.5, True], ["a", 7, 2.5, True]),
        (("a", "b"), ["a", "b"]),
        (np.array([12345671, 2]), [12345671, 2]),
        (np.array([0.1, 2.0]), [0.1, 2.0]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([np.int8(3), np.float64(0.5), np.bool_(True)], [3, 0.5, True]),
        (torch.arange(3), [0, 1, 2]),
        ([torch.tensor(3), torch.tensor(4)], [3, 4]),
        (iter("ab"), ["a", "b"]),
        ([2**63, 10**999], [2**63, 10**999]),
        ([Fraction(1, 2), None, ("a", 1)], [Fraction(1, 2), None, ("a", 1)]),
    ],
)
def test_labels_are_those_given_and_numbers_are_pythons_own(labels, expected):
    found = labels_in(labels)
    assert found == expected
    assert [type(label) for label in found] == [type(label) for label in expected]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("abab", "found a value of type str, expected a list"),
        (None, "found a value of type NoneType"),
        ({"a", "b"}, "found a value of type set"),
        ({"a": 1}, "found a value of type dict"),
        (np.eye(2), r"labels of shape \(2, 2\); expected one label for each example"),
        (np.array(3), r"labels of shape \(\)"),
        (torch.zeros(2, 1), r"labels of shape \(2, 1\)"),
        ([[1], [2]], r"a label is \[1\]"),
        ([float("nan")], "a label is nan"),
        (np.array([np.inf]), "a label is inf"),
        ([10**1000], "more than 1000 digits"),
        ([torch.zeros(2)], "a label is a tensor"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(labels, words):
    with pytest.raises(DataError, match=words):
        labels_in(labels)


def test_classes_come_in_the_order_of_their_first_label():
    assert classes_in(["b", "a", "b", 3]) == ["b", "a", 3]


@pytest.mark.parametrize("labels", [[1, True], [1, 1.0], [0, False]])
def test_labels_that_python_takes_for_one_are_refused(labels):
    with pytest.raises(DataError, match="are equal in Python"):
        classes_in(labels)


@pytest.mark.parametrize("labels", [[1, "1"], ["True", True], ["1.5", 1.5], [None, "None"]])
def test_labels_that_read_the_same_are_refused(labels):
    with pytest.raises(DataError, match="read the same"):
        classes_in(labels)
