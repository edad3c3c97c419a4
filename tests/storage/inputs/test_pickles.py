import collections
import datetime
import io
import os
import pickle
import struct

import numpy as np
import pytest

from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.pickles import unpickled
from tests.faults._hostile import hostile_pickles

ARRAYS = {
    "images": np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "text": np.array(["one", "two"]),
    "empty": np.empty((0, 5), np.int64),
    "a slice": np.arange(20, dtype=np.int16)[::3],
}
PLAIN = {"a": [1, 2.5, None, True, "text", b"bytes"], "b": {"c": {}}, 3: [[], [[1]]]}


class Runs:
    """Unpickled by the book, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def read(content: bytes):
    return unpickled(io.BytesIO(content), "it.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were(name, protocol):
    found = read(pickle.dumps({"x": ARRAYS[name]}, protocol))["x"]
    assert found.dtype == ARRAYS[name].dtype
    assert np.array_equal(found, ARRAYS[name])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back_as_they_were(protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (collections.OrderedDict([("b", 1), ("a", [2])]), {"b": 1, "a": [2]}),
        (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
        (collections.defaultdict(int), {}),
        (collections.defaultdict(None, {1: 2}), {1: 2}),
        (range(3), [0, 1, 2]),
        (range(10, 4, -3), [10, 7]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"b", "a"}, ["a", "b"]),
        ({1, "a"}, [1, "a"]),
        (frozenset({2, 1}), [1, 2]),
        (set(), []),
        (collections.OrderedDict(a=range(2), b=(1, {2})), {"a": [0, 1], "b": [1, [2]]}),
        (collections.defaultdict(set, {"a": {np.int64(2), np.int64(1)}}), {"a": [1, 2]}),
    ],
)
def test_pythons_own_collections_come_as_plain_ones(value, expected, protocol):
    found = read(pickle.dumps({"x": value}, protocol))["x"]
    assert found == expected
    assert type(found) in (dict, list)
    if isinstance(value, dict):
        assert [*found] == [*value]


@pytest.mark.parametrize("name", [b"__builtin__\nset", b"__builtin__\nfrozenset", b"ctypes\nset"])
def test_the_collections_of_python_2_are_read_and_others_of_their_name_are_not(name):
    found = read_or_error(b"c" + name + b"\n((lI1\naI2\natR.")
    assert found == [1, 2] if name.startswith(b"__builtin__") else "asks for ctypes.set" in str(found)


def test_a_range_of_python_2_is_read():
    assert read(b"c__builtin__\nxrange\n(I0\nI3\nI1\ntR.") == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\nrange\n(L1000000000000L\ntR.",
        b"(" + b"cbuiltins\nrange\n(I4000000\ntR" * 2 + b"t.",
        b"cbuiltins\nlist\n(cbuiltins\nrange\n(I3\ntRtR.",
        b"cbuiltins\ndict\n(tR.",
        b"ccollections\ndefaultdict\n(c_codecs\nencode\ntR.",
        b"ccollections\nOrderedDict\n(I3\ntR.",
        b"cbuiltins\nset\n(I3\ntR.",
    ],
)
def test_collections_that_no_file_of_pictures_has_are_one_clear_error(content):
    found = read_or_error(content)
    assert isinstance(found, DataError), found
    assert str(found).startswith("it.pkl: ")


def test_tuples_come_as_lists_and_object_arrays_as_lists():
    assert read(pickle.dumps((1, (2,)))) == [1, [2]]
    assert read(pickle.dumps(np.array(["a", b"b", None], dtype=object))) == ["a", b"b", None]


def test_numpy_numbers_come_as_plain_ones():
    found = read(pickle.dumps([np.float64(2.5), np.int64(-3), np.uint8(7)]))
    assert found == [2.5, -3, 7]
    assert [type(one) for one in found] == [float, int, int]


def test_strings_of_python_2_keep_every_byte():
    assert read(b"\x80\x02U\x03\x89PNq\x01.") == "\x89PN"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("true",), "system"),
        (eval, ("1",), "eval"),
        (getattr, ("x", "upper"), "getattr"),
        (np.load, ("x",), "load"),
        (np.memmap, ("x",), "memmap"),
        (datetime.date, (2020, 1, 1), "date"),
        (collections.deque, (), "deque"),
        (collections.Counter, (), "Counter"),
        (bytearray, (b"x",), "bytearray"),
    ],
)
def test_every_other_name_is_refused_by_name(function, arguments, name, protocol):
    with pytest.raises(DataError, match=rf"^it\.pkl: asks for \S*\.{name}, which .*; it was not run$"):
        read(pickle.dumps({"x": Runs(function, *arguments)}, protocol))


def test_a_refused_command_has_not_run(tmp_path):
    with pytest.raises(DataError):
        read(pickle.dumps(Runs(os.mkdir, str(tmp_path / "ran"))))
    assert list(tmp_path.iterdir()) == []


def test_numpys_own_names_can_build_nothing_but_arrays():
    for content in (b"cnumpy\nndarray\n(I9\ntR.", b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR."):
        assert not isinstance(read_or_error(content), np.ndarray | np.dtype)


def read_or_error(content):
    try:
        return read(content)
    except DataError as error:
        return error


@pytest.mark.parametrize("code", ["V8", "O16", "M8[ns]", "(2,)u1", "u1,u1", "i16", ""])
def test_other_types_of_array_are_refused(code):
    honest = pickle.dumps(np.zeros(2, np.uint8), 2)
    forged = honest.replace(b"X\x02\x00\x00\x00u1", b"X" + struct.pack("<I", len(code)) + code.encode())
    assert forged != honest
    with pytest.raises(DataError, match=r"it\.pkl: "):
        read(forged)


def test_an_array_that_claims_more_than_its_bytes_is_refused():
    honest = pickle.dumps(np.zeros((7, 5), np.uint8), 2)
    forged = honest.replace(b"K\x07K\x05\x86", b"K\x07K\xff\x86")
    assert forged != honest
    with pytest.raises(DataError, match=r"it\.pkl: is no readable pickle"):
        read(forged)


def test_other_encodings_are_refused():
    with pytest.raises(DataError, match="asks for the encoding 'zip'"):
        read(b"c_codecs\nencode\n(Vx\nVzip\ntR.")


def test_references_to_other_places_are_refused():
    with pytest.raises(DataError, match="refers to objects outside the file"):
        read(b"Psomewhere\n.")


def test_a_huge_memo_is_refused_before_it_is_allotted():
    with pytest.raises(DataError, match="numbers more values than it holds"):
        read(b"\x80\x02]r\xff\xff\xff\x7f.")


def test_a_list_that_holds_itself_is_one_clear_error():
    with pytest.raises(DataError, match=r"it\.pkl: is no readable pickle"):
        read(b"\x80\x02]q\x00h\x00a.")


def test_a_pickle_cut_anywhere_is_one_clear_error():
    content = pickle.dumps({"image_data": ARRAYS["images"], "class_dict": {"a": [0, 1]}}, 2)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"^it\.pkl: ") as caught:
            read(content[:length])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(300))
def test_a_pickle_with_flipped_bytes_is_read_or_refused_and_nothing_else(seed):
    generator = np.random.default_rng(seed)
    content = bytearray(pickle.dumps({"image_data": ARRAYS["images"], "class_dict": {"a": [0, 1]}}, int(seed % 6)))
    for place in generator.integers(0, len(content), 3):
        content[place] = generator.integers(256)
    found = read_or_error(bytes(content))
    assert not isinstance(found, DataError) or "\n" not in str(found)


def test_no_hostile_pickle_runs_anything_or_takes_all_time(tmp_path):
    for content in hostile_pickles(tmp_path / "ran"):
        found = read_or_error(content)
        assert not isinstance(found, DataError) or str(found).startswith("it.pkl: ")
    assert list(tmp_path.iterdir()) == []


def test_lists_that_hold_one_list_twice_again_and_again_are_read_at_once():
    inner = innermost = []
    for _level in range(60):
        inner = [inner, inner]
    found = read(pickle.dumps(inner, 2))
    for _level in range(60):
        assert found[0] is found[1]
        found = found[0]
    assert found == innermost


def test_keys_whose_hash_would_take_for_ever_are_refused():
    key = ()
    for _level in range(60):
        key = (key, key)
    content = pickle.dumps([key], 2)[:-2] + b"K\x01\x86}q\xf0h\x00K\x01s."
    with pytest.raises(DataError, match="holds tuples of tuples of tuples"):
        read(content)


def test_a_tuple_that_many_values_share_is_no_harm():
    shared = (1, 2)
    assert read(pickle.dumps([(shared, number) for number in range(50)])) == [[[1, 2], number] for number in range(50)]
