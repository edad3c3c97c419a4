import io
import pickle

import numpy as np
import pytest

from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.sources import open_source
from tests.lookalikes import in_folder, parquet, picture

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


def held(tmp_path, members):
    with open_source(in_folder(tmp_path / "it", members)) as source:
        return {member: source.picture(member) for member in source.members}


def test_the_rows_of_a_pickle_are_members_below_it_by_class_and_number(tmp_path):
    found = held(tmp_path, {"a/x.pkl": pickle.dumps({"image_data": IMAGES, "class_dict": {"cat": [2, 0], "dog": [3]}})})
    assert list(found) == ["a/x.pkl/cat/000000", "a/x.pkl/cat/000002", "a/x.pkl/dog/000003"]
    assert np.array_equal(found["a/x.pkl/cat/000002"], IMAGES[2])


@pytest.mark.parametrize("key", ["data", b"data"])
def test_keys_may_be_text_or_bytes(key, tmp_path):
    labels = "labels" if isinstance(key, str) else b"labels"
    found = held(tmp_path, {"x.pickle": pickle.dumps({key: IMAGES, labels: [1, 0, 1, 1]})})
    assert sorted(found) == [f"x.pickle/{label:03}/{n:06}" for label, n in ((0, 1), (1, 0), (1, 2), (1, 3))]


def test_rows_of_3072_are_three_planes(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    rows = image.transpose(2, 0, 1).reshape(1, -1)
    found = held(tmp_path, {"x.pkl": pickle.dumps({"data": rows, "labels": [0]})})
    assert np.array_equal(found["x.pkl/000/000000"], image)


@pytest.mark.parametrize(
    "value", [[1, 2], {"other": 1}, {"class_dict": {}}, "text", {"data_only": IMAGES}, None, {"data": IMAGES}]
)
def test_a_pickle_of_something_else_holds_no_pictures(value, tmp_path):
    assert held(tmp_path, {"x.pkl": pickle.dumps(value)}) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"image_data": IMAGES, "class_dict": {"cat": [4]}}, "its labels do not fit its 4 pictures"),
        ({"image_data": IMAGES, "class_dict": {"cat": [-1]}}, "its labels do not fit"),
        ({"image_data": IMAGES, "class_dict": {"cat": [0, 0]}}, "its labels do not fit"),
        ({"image_data": IMAGES.astype(float), "class_dict": {"cat": [0]}}, "its pictures are no uint8 array"),
        ({"image_data": [1, 2], "class_dict": {"cat": [0]}}, "its pictures are no uint8 array"),
        ({"data": IMAGES[0], "labels": [0]}, r"its pictures have shape \(5, 6, 3\)"),
        ({"data": IMAGES, "labels": [0] * 5}, "its labels do not fit"),
        ({"data": IMAGES, "labels": ["x"] * 4}, "are damaged"),
        ({"image_data": IMAGES, "class_dict": [1]}, "are damaged"),
    ],
)
def test_pictures_and_labels_that_do_not_fit_are_an_error(value, message, tmp_path):
    with pytest.raises(DataError, match=rf"x\.pkl: .*{message}"):
        held(tmp_path, {"x.pkl": pickle.dumps(value)})


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04" + bytes(60)])
def test_a_damaged_npz_is_an_error(content, tmp_path):
    with pytest.raises(DataError, match=r"x\.npz: is no readable npz"):
        held(tmp_path, {"x.npz": content})


def test_an_npz_with_a_pickle_inside_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"x\.npz: is no readable npz"):
        held(tmp_path, {"x.npz": buffer.getvalue()})


@pytest.mark.parametrize("as_struct", [True, False])
@pytest.mark.parametrize("names", [["cat", "big/dog"], None])
def test_the_rows_of_a_table_are_members_too(names, as_struct, tmp_path):
    rows = [(picture(str(n)), n % 2) for n in range(6)]
    found = held(tmp_path, {"data/train-0.parquet": parquet(rows, names, as_struct)})
    labels = ["cat", "big-dog"] if names else ["000", "001"]
    assert found == {f"data/train-0.parquet/{labels[label]}/{n:06}": content for n, (content, label) in enumerate(rows)}


def test_a_table_in_an_archive_is_read_too(tmp_path):
    from tests.lookalikes import in_zip

    path = in_zip(tmp_path / "it", {"x.parquet": parquet([(picture("a"), 0)], None)})
    with open_source(path) as source:
        assert list(source.members) == ["x.parquet/000/000000"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_table_is_an_error(content, tmp_path):
    with pytest.raises(DataError, match=r"x\.parquet: is no readable table of pictures"):
        held(tmp_path, {"x.parquet": content})


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'metalearn-cli\[parquet\]'"):
        held(tmp_path, {"x.parquet": b""})


def test_nothing_is_left_in_the_scratch_folder(tmp_path):
    path = in_folder(tmp_path / "it", {"x.pkl": pickle.dumps({"data": IMAGES, "labels": [0] * 4})})
    with open_source(path, scratch=tmp_path / "scratch") as source:
        assert len(source.members) == 4
        assert list((tmp_path / "scratch").iterdir()) == []


def test_a_label_without_a_name_is_an_error_and_not_the_last_class(tmp_path):
    with pytest.raises(DataError, match=r"x\.parquet: .*label -1 has no name"):
        held(tmp_path, {"x.parquet": parquet([(picture("a"), 0), (picture("b"), -1)], ["cat", "dog"])})


@pytest.mark.parametrize("pictures", [[10**12, 1], [None], [[1, 2]], [np.zeros((2, 2, 3))]])
def test_a_list_of_what_are_no_pictures_is_an_error(pictures, tmp_path):
    members = {"a_images_png.pkl": pictures, "a_labels.pkl": {"labels": [0] * len(pictures)}}
    with pytest.raises(DataError, match=r"a_images_png\.pkl: a picture in it is no array and no bytes"):
        held(tmp_path, {name: pickle.dumps(value) for name, value in members.items()})


def test_an_npz_that_is_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("metalearn_cli.storage.inputs.holders._ALWAYS_FINE", 1 << 20)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, data=np.zeros((4000, 32, 32, 3), np.uint8), labels=np.zeros(4000, np.int64))
    with pytest.raises(DataError, match=r"x\.npz: unpacks to 11 MB or more"):
        held(tmp_path, {"x.npz": buffer.getvalue()})


def test_a_class_whose_name_cannot_be_printed_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"has a name that cannot be printed"):
        held(tmp_path, {"x.pkl": pickle.dumps({"image_data": IMAGES, "class_dict": {"\x1b[2J": [0]}})})
