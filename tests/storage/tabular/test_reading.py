"""Every mistake in a table is one line that says where it is and what would be right."""

import io

import numpy as np
import pytest

from metalearn_cli.datasets.table import Config
from metalearn_cli.errors import DataError
from tests.tables import machines, prepared, written

FORCE = Config(title="m", task="machine", target=["force"])
HEAD = "machine,speed,force\n"
ROWS = "".join(f"m{task},{row},{row * task}\n" for task in range(5) for row in range(3))


def refused(tmp_path, content, config=FORCE, name="m.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        prepared(config, tmp_path / "data", path)
    assert "\n" not in str(error.value)
    assert not [one for one in (tmp_path / "data").iterdir() if not one.name.endswith(".lock")]
    return str(error.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "m.csv: is empty"),
        ("\n\n", "m.csv: is empty"),
        (HEAD, "m.csv: has no rows below the names of its columns"),
        ("1,2,3\n4,5,6\n", "m.csv:1: the first row is numbers, expected the names of the columns"),
        (",machine,speed,force\n0,m,1,2\n", "m.csv:1: column 1 of 4 has no name; pandas writes one for its index"),
        ("machine,speed,speed,force\n", "m.csv:1: column 'speed' is there twice"),
        (HEAD + "m,1\n", "m.csv:2: has 2 cells, expected 3"),
        (HEAD + ROWS + "m,red,2\n", "m.csv:17: column 'speed': found 'red', expected a number; name the column in"),
        (HEAD + "m,1_000,2\n", "m.csv:2: column 'speed': found '1_000', expected a number"),
        (HEAD + 'm,"1,5",2\n', "m.csv:2: column 'speed': found '1,5', expected a number; decimals need a point"),
        (HEAD + "m,inf,2\n", "m.csv:2: column 'speed': found 'inf', expected a finite number"),
        (HEAD + ROWS + "m1,NaN(1),2\n", "m.csv:17: column 'speed': found 'NaN(1)', expected a number"),
        (HEAD + ROWS + "m1,1e200,2\n", "m.csv:17: column 'speed' is beyond 1e+100"),
        (HEAD + ROWS + "m1,1,1e200\n", "m.csv:17: column 'force' is beyond 1e+100"),
        (HEAD + ROWS + "m1,1\r,2\n", "m.csv:17: is no table: holds a carriage return with no line feed after it"),
        (HEAD + "\rm1,1,2\n" + ROWS, "m.csv:2: is no table: holds a carriage return with no line feed after it"),
        (HEAD + "m,=1+1,2\n", "m.csv:2: column 'speed': found '=1+1', expected a number"),
        (HEAD + "m,1,\n", "m.csv:2: column 'force': found no finite number, and a target needs one"),
        (HEAD + ",1,2\n", "m.csv:2: column 'machine' is empty, expected a name"),
        (HEAD + 'm,"1,2\n', "m.csv:2: is no table: a quoted cell does not end"),
        (
            HEAD + 'm,"' + "1" * 200_000,
            "m.csv:2: is no table: has a cell of more than 131,072 characters; does a quoted",
        ),
        (HEAD.encode() + b"m\xe9,1,2\n", "m.csv:2: byte 0xe9 at 2 is not UTF-8; save the file as csv in UTF-8"),
        (HEAD.encode("utf-16"), "m.csv: is UTF-16, expected UTF-8"),
        (HEAD + "m,\0,2\n", "m.csv:2: holds a NUL byte"),
        (HEAD + "m\x07,1,2\n", "m.csv:2: column 'machine': found 'm\\x07', expected printable text"),
        (HEAD + "m," + "1" * (5 << 20) + ",2\n", "m.csv:2: has a line of more than 4 MB"),
        (",".join(f"c{n}" for n in range(100_000)) + "\n", "m.csv: has no column 'machine' (dataset.task)"),
        ("machines,speed,force\n", "m.csv: has no column 'machine' (dataset.task); did you mean 'machines'?"),
        (HEAD + "m,1,2\n", "m.csv: has 1 task; 3 or more are needed"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(tmp_path, content, told):
    assert refused(tmp_path, content).startswith(told)


def test_a_number_that_float32_cannot_hold_is_named_by_its_column(tmp_path):
    config = FORCE.model_copy(update={"standardise": "none"})
    told = refused(tmp_path, HEAD + ROWS + "m1,1,1e60\n", config)
    assert told.startswith("column 'force': has a value that is too large for float32 beside the others; scale it, or")


def test_more_inputs_than_a_network_takes_are_refused(tmp_path):
    names = ",".join(["machine", "force", *(f"c{number}" for number in range(100_000))])
    told = refused(tmp_path, f"{names}\nm{',1' * 100_001}\n")
    assert told == "m.csv: has 100,000 inputs, expected at most 65,536"


@pytest.mark.parametrize("name", ["m.xlsx", "m.txt", "m.npy"])
def test_other_files_are_refused_by_their_suffix(tmp_path, name):
    assert "is no table, expected csv, tsv, parquet, npz or npy" in refused(tmp_path, b"PK", name=name)


@pytest.mark.parametrize("name", ["m.parquet", "m.npz", "m.zip"])
def test_a_damaged_file_is_a_line(tmp_path, name):
    assert "damaged" in refused(tmp_path, b"PAR1" + bytes(100), name=name)


def test_a_byte_order_mark_semicolons_and_the_lines_of_windows_are_read(tmp_path):
    plain = written(tmp_path / "m.csv", columns := machines())
    content = b"\xef\xbb\xbf" + plain.read_bytes().replace(b",", b";")
    assert b"\r\n" in content
    other = tmp_path / "other.csv"
    other.write_bytes(content)
    first, second = prepared(FORCE, tmp_path / "a", plain), prepared(FORCE, tmp_path / "b", other)
    assert first.manifest.sha256 == second.manifest.sha256
    assert len(columns["machine"]) == second.manifest.rows


def test_files_with_other_columns_are_refused_by_name(tmp_path):
    written(tmp_path / "in" / "a.csv", machines())
    columns = machines()
    columns["extra"] = columns["hours"]
    written(tmp_path / "in" / "b.csv", columns)
    with pytest.raises(DataError, match=r"a\.csv: has no column 'extra', which .*b\.csv has"):
        prepared(FORCE, tmp_path / "data", tmp_path / "in")


def series(tmp_path, **arrays):
    path = tmp_path / "s.npz"
    np.savez(path, **arrays)
    return path


def test_series_keep_their_shape_and_are_standardised_by_channel(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal([[1.0], [50.0]], [[2.0], [9.0]], (30, 2, 7))
    source = series(tmp_path, x=x, label=np.arange(30) % 6)
    table = prepared(Config(title="s"), tmp_path / "data", source)
    assert table.manifest.encoding.series == [2, 7]
    rows = table.rows.all_floats().reshape(30, 2, 7)
    trained = np.concatenate([rows[5 * place : 5 * place + 5] for place, name in enumerate(table.manifest.groups)
                              if name in table.manifest.parts["train"]])  # fmt: skip
    np.testing.assert_allclose(trained.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(trained.std((0, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("fit", ["resample", "pad"])
def test_series_of_many_lengths_come_to_one(tmp_path, fit):
    lengths = np.array([3, 5, 9, 4, 7, 6])
    x = np.concatenate([np.linspace(0, length - 1, length)[:, None] for length in lengths])
    source = series(tmp_path, x=x, lengths=lengths, label=[0, 0, 1, 1, 2, 2])
    config = Config(title="s", length=5, fit=fit, standardise="none")
    table = prepared(config, tmp_path / "data", source)
    rows = table.rows.all_floats()
    assert table.manifest.encoding.series == [1, 5]
    assert rows[1].tolist() == [0, 1, 2, 3, 4]
    assert rows[0].tolist() == ([0, 0.5, 1, 1.5, 2] if fit == "resample" else [0, 1, 2, 1, 1])
    with pytest.raises(DataError, match=r"its series have 3 to 9 steps; give dataset\.length"):
        prepared(Config(title="t"), tmp_path / "data", source)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.zeros((4, 2))}, "has no array x"),
        ({"x": np.zeros((4, 2)), "label": np.zeros(3)}, r"array label has shape \(3,\), expected \[4\]"),
        ({"x": np.array([["a", "b"]] * 4), "label": np.zeros(4)}, "array x is <U1"),
        ({"x": np.full((4, 2), np.nan), "label": np.zeros(4)}, "row 0: array x is empty"),
        ({"x": np.full((4, 2), np.inf), "label": np.zeros(4)}, "row 0: array x is infinite"),
        ({"x": np.zeros((4, 2)), "lengths": np.array([1, 2]), "label": np.zeros(2)}, r"expected \[3, channels\]"),
        ({"x": np.zeros((4, 2)), "label": np.array([None] * 4)}, "array label holds Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, told):
    with pytest.raises(DataError, match=told):
        prepared(Config(title="s"), tmp_path / "data", series(tmp_path, **arrays))


def test_arrays_side_by_side_are_read_like_those_in_one_file(tmp_path):
    x, label = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 4
    (tmp_path / "in").mkdir()
    for name, values in (("x", x), ("label", label)):
        np.save(tmp_path / "in" / f"{name}.npy", values)
    first = prepared(Config(title="a"), tmp_path / "data", tmp_path / "in")
    other = prepared(Config(title="b"), tmp_path / "data", series(tmp_path, x=x, label=label))
    assert first.manifest.sha256 == other.manifest.sha256


def test_a_stream_of_an_array_that_is_cut_is_a_line(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((40, 3)))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.npy").write_bytes(buffer.getvalue()[:-20])
    np.save(tmp_path / "in" / "label.npy", np.arange(40) % 4)
    with pytest.raises(DataError, match="array x is cut short"):
        prepared(Config(title="s"), tmp_path / "data", tmp_path / "in")


@pytest.mark.parametrize("quoted", ["", "m04", 'm"04"', "m,04"])
def test_rows_are_the_same_read_by_pyarrow_and_by_python(tmp_path, monkeypatch, quoted):
    from metalearn_cli.storage.tabular import text

    source = written(tmp_path / "m.csv", machines())
    if quoted:  # with quotes inside, only Python reads from here on
        lines = source.read_text().splitlines()
        lines[40] = '"' + quoted.replace('"', '""') + '",' + lines[40].split(",", 1)[1]
        source.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(text, "VALUES_AT_ONCE", 64)
    by_pyarrow = prepared(FORCE, tmp_path / "a", source)
    taken = []
    monkeypatch.setattr(text, "_plain", lambda *given: taken.append(given))
    by_python = prepared(FORCE, tmp_path / "b", source)
    assert taken
    assert by_pyarrow.manifest.sha256 == by_python.manifest.sha256


def test_the_line_of_a_mistake_is_right_after_blank_lines_and_quoted_rows(tmp_path):
    content = HEAD + ROWS + "\n\n" + 'm9,"1\n",2\n' + "m9,red,3\n"
    assert refused(tmp_path, content).startswith("m.csv:21: column 'speed': found 'red'")


def test_an_array_in_the_order_of_fortran_is_the_same_array(tmp_path):
    x, label = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 4
    first = prepared(Config(title="a"), tmp_path / "data", series(tmp_path, x=x, label=label))
    other = prepared(Config(title="b"), tmp_path / "data", series(tmp_path, x=np.asfortranarray(x), label=label))
    assert first.manifest.sha256 == other.manifest.sha256
