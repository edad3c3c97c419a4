"""Arrays and parquet files that no honest program writes are one line, which says what was found and where."""

import io
import zipfile
from decimal import Decimal

import numpy as np
import pytest

from metalearn_cli.datasets.table import Config
from tests.faults._table_arrays import forged, npy
from tests.storage.tabular.test_reading import FORCE, refused, series
from tests.tables import machines, prepared, written

SIX = np.arange(12) % 6
X = np.random.default_rng(0).normal(size=(12, 3))
BEYOND = np.full(12, 0x110000, "<u4").view("<U1")  # the last character of Unicode is 0x10FFFF


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": X, "label": np.int64(3)}, "s.npz: array label has shape (), expected [12], one value for each of x"),
        ({"x": X, "task": SIX, "target": np.float64(3)}, "s.npz: array target has shape (), expected [12]"),
        ({"x": X, "label": np.where(SIX < 5, SIX, np.nan)}, "s.npz, row 5: column 'label' is empty, expected a name"),
        ({"x": X, "label": np.array([b"\xff"] * 12)}, "s.npz: array label holds text that cannot be read"),
        ({"x": X, "label": BEYOND}, "s.npz: array label holds text that cannot be read"),
        ({"x": X, "label": np.array(["a" * 1001, "b", "c"] * 4)}, "s.npz, row 0: column 'label': found 'aaaaaaaa"),
        ({"x": X, "lengths": np.int64(12), "label": [0]}, "s.npz: array lengths is int64 (), expected whole numbers"),
        (
            {"x": X, "lengths": np.array([2**63 - 1, 2**63 - 1, 14]), "label": [0, 1, 2]},
            "s.npz: array x has shape (12, 3), expected [18446744073709551628, channels], as lengths says",
        ),
        ({"x": np.zeros((3, 9, 8000)), "label": SIX[:3]}, "s.npz: array x has 72,000 inputs in a row, expected"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_names_or_lengths_are_told(tmp_path, arrays, told):
    path = series(tmp_path, **arrays)
    assert refused(tmp_path, path.read_bytes(), Config(title="s", length=None), "s.npz").startswith(told)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ("(12, 1099511627776)", "s.npz: array x has 1,099,511,627,776 inputs in a row, expected at most 65,536"),
        ("(12, 3000)", "s.npz: array x is cut short"),
        ("(-12, 3)", "s.npz: array x is float64 (-12, 3), expected numbers"),
        ("(12.0, 3)", "s.npz: array x cannot be read: its header is none that numpy writes"),
        ("__import__('os')", "s.npz: array x cannot be read: its header is none that numpy writes"),
        ("(" * 999 + ")" * 999, "s.npz: array x cannot be read: its header is none that numpy writes"),
    ],
    ids=range(6),
)
def test_a_forged_header_is_a_line_and_takes_no_memory(tmp_path, shape, told):
    arrays = {"x": forged("'<f8'", shape, bytes(288)), "label": npy(SIX)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    assert refused(tmp_path, buffer.getvalue(), Config(title="s"), "s.npz").startswith(told)


def columns_in_parquet(extra, name="more"):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    plain = {word: pa.array(cells) for word, cells in machines().items()}
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays([*plain.values(), extra(pa)], [*plain, name]), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (lambda pa: pa.array([2**62] * 80, pa.timestamp("ns")), "is timestamp[ns], expected text or numbers"),
        (lambda pa: pa.array([[1.0]] * 80), "is list<element: double>, expected text or numbers"),
        (lambda pa: pa.array([{"a": 1}] * 80), "is struct<a: int64>, expected text or numbers"),
        (lambda pa: pa.array([b"\xff"] * 80), "is binary, expected text or numbers"),
        (
            lambda pa: pa.array(["a" * 2000] * 80),
            f"found '{'a' * 40}...', 2,000 characters",
        ),
    ],
)
@pytest.mark.parametrize("role", ["inputs", "categorical", "task"])
def test_a_column_of_parquet_that_is_no_text_and_no_numbers_is_told_with_its_type(tmp_path, extra, told, role):
    config = {"title": "m", "task": "machine", "target": ["force"]}
    config |= {"inputs": {}, "categorical": {"categorical": ["more"]}, "task": {"task": "more"}}[role]
    message = refused(tmp_path, columns_in_parquet(extra), Config(**config), "m.parquet")
    assert message.startswith(f"m.parquet: column 'more'{':' if 'found' in told else ''} {told}")


@pytest.mark.parametrize(
    "extra",
    [
        lambda pa: pa.array([Decimal(number) / 4 for number in range(80)]),
        lambda pa: pa.array([0.25 * (number % 4) for number in range(80)]).dictionary_encode(),
        lambda pa: pa.array([f"{number}.5" for number in range(80)]),
        lambda pa: pa.array([f"{number % 5}.5" for number in range(80)], pa.large_string()).dictionary_encode(),
    ],
)
def test_decimals_dictionaries_and_numbers_as_text_are_read_as_the_same_numbers(tmp_path, extra):
    pa = pytest.importorskip("pyarrow")
    (tmp_path / "m.parquet").write_bytes(columns_in_parquet(extra))
    table = prepared(FORCE, tmp_path / "a", tmp_path / "m.parquet")
    values = [float(one) for one in extra(pa).to_pylist()]
    plain = prepared(FORCE, tmp_path / "b", written(tmp_path / "m.csv", machines() | {"more": values}))
    assert table.manifest.sha256 == plain.manifest.sha256


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "column 5 of 5 has no name"),
        ("\x1b[31m", "column '\\x1b[31m' has a name that cannot be printed"),
        ("a" * 1001, "has a name of 1,001 characters, at most 1,000"),
        ("force", "column 'force' is there twice"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_needs_a_name_of_its_own_that_can_be_printed(tmp_path, name, told, suffix):
    if suffix == "parquet":
        content = columns_in_parquet(lambda pa: pa.array([1.0] * 80), name)
    else:
        content = f"machine,speed,hours,force,{name}\nm,1,2,3,4\n".encode()
    assert told in refused(tmp_path, content, FORCE, f"m.{suffix}")


def test_a_small_parquet_file_that_would_unpack_to_a_disk_full_is_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows, path = 1 << 22, tmp_path / "bomb.parquet"
    table = pa.table({name: pa.repeat(pa.scalar(1.0), rows) for name in "abcdefgh"})
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _part in range(5):
            writer.write_table(table)
    assert path.stat().st_size < 1 << 20
    told = refused(tmp_path, path.read_bytes(), FORCE, "m.parquet")
    assert told == "m.parquet: unpacks to 20,971,520 rows of 8 columns, 1,280 MB, far more than tables of its size"
