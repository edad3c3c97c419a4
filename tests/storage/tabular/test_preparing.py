import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from metalearn_cli.datasets.table import Config
from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular import stored, writing
from tests.tables import kinds, machines, people, prepared, written

FORCE = Config(title="m", task="machine", target=["force"])
KINDS = Config(title="k")


def rows_of(table):
    return table.rows.all_floats()


def test_rows_lie_task_after_task_standardised_by_the_training_part(tmp_path):
    columns = machines()
    table = prepared(FORCE, tmp_path / "data", written(tmp_path / "m.csv", columns))
    manifest, rows = table.manifest, rows_of(table)
    trained = np.isin(columns["machine"], manifest.parts["train"])
    plain = np.array([columns["speed"], columns["hours"], columns["force"]], float).T
    expected = (plain - plain[trained].mean(0)) / plain[trained].std(0)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-5)  # the file is sorted already
    assert manifest.groups == sorted(set(columns["machine"]))
    assert [sum(counts) for counts in manifest.counts] == [8] * 10


def test_the_order_of_rows_in_the_file_decides_nothing_but_their_order_in_a_task(tmp_path):
    columns = machines()
    order = np.random.default_rng(1).permutation(len(columns["machine"]))
    mixed = {name: [cells[place] for place in order] for name, cells in columns.items()}
    first = prepared(FORCE, tmp_path / "a", written(tmp_path / "m.csv", columns))
    other = prepared(FORCE, tmp_path / "b", written(tmp_path / "mixed.csv", mixed))
    assert first.manifest.parts == other.manifest.parts
    for task in range(10):
        one, two = (rows_of(table)[8 * task : 8 * task + 8] for table in (first, other))
        np.testing.assert_allclose(one[np.argsort(one[:, 0])], two[np.argsort(two[:, 0])], atol=1e-6)


def test_a_float32_file_of_numbers_far_from_zero_keeps_its_digits(tmp_path):
    columns = machines()
    columns["speed"] = [1.7e9 + number for number in range(80)]  # seconds since 1970
    table = prepared(FORCE, tmp_path / "data", written(tmp_path / "m.csv", columns))
    speeds = rows_of(table)[:, 0].astype(float) * table.manifest.encoding.std[0]
    np.testing.assert_allclose(np.diff(speeds), 1.0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".tsv", ".parquet", ".zip", "/"])
def test_every_form_of_file_gives_the_same_bytes(tmp_path, suffix):
    columns = machines()
    csv = written(tmp_path / "m.csv", columns)
    if suffix == ".parquet":
        source = tmp_path / "m.parquet"
        parquet.write_table(arrow.table(columns), source)
    elif suffix == ".zip":
        import zipfile

        source = tmp_path / "m.zip"
        with zipfile.ZipFile(source, "w") as archive:
            archive.write(csv, "inside/m.csv")
    elif suffix == "/":
        half = {name: cells[:24] for name, cells in columns.items()}
        rest = {name: cells[24:] for name, cells in columns.items()}
        written(tmp_path / "two" / "a.csv", half)
        source = written(tmp_path / "two" / "b.csv", rest).parent
    else:
        source = written(tmp_path / "m.tsv", columns)
    first, other = prepared(FORCE, tmp_path / "a", csv), prepared(FORCE, tmp_path / "b", source)
    assert first.manifest.sha256 == other.manifest.sha256
    assert first.manifest.parts == other.manifest.parts


def test_the_same_classes_in_every_task_lie_class_after_class_in_each(tmp_path):
    source = written(tmp_path / "p.csv", people())
    config = Config(title="p", task="person", label="activity")
    table = prepared(config, tmp_path / "data", source)
    assert table.manifest.encoding.classes == ["rest", "walk"]
    assert table.manifest.counts == [[8, 8]] * 8
    levels = rows_of(table)[:, 0].reshape(8, 2, 8)
    assert (levels[:, 0].max(1) < levels[:, 1].min(1)).all()  # who rests is below the person's own threshold


def test_words_become_inputs_of_their_own_and_an_unknown_one_another(tmp_path):
    columns = kinds(3, 4)
    columns["colour"] = ["red", "blue"] * 4 + ["green", "red"] * 2
    config = Config(title="k", categorical=["colour"], val=["k01"], test=["k02"])
    table = prepared(config, tmp_path / "data", written(tmp_path / "k.csv", columns))
    assert table.manifest.encoding.categorical == {"colour": ["blue", "red"]}  # green is no word of the training part
    colours = rows_of(table)[:, 2:]
    assert colours[:2].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert colours[8:10].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_a_missing_number_is_an_error_with_its_row_and_column_or_the_mean(tmp_path):
    columns = machines()
    columns["speed"][5] = ""
    source = written(tmp_path / "m.csv", columns)
    with pytest.raises(DataError, match=r"m\.csv:7: column 'speed' is empty; fill it, or --set dataset\.missing=mean"):
        prepared(FORCE, tmp_path / "data", source)
    assert not list((tmp_path / "data").glob("table*"))
    table = prepared(FORCE.model_copy(update={"missing": "mean"}), tmp_path / "data", source)
    assert rows_of(table)[5, 0] == 0.0


def test_a_column_that_says_the_parts_is_used(tmp_path):
    columns = kinds(4, 3)
    columns["split"] = ["train"] * 3 + ["Validation"] * 3 + ["test"] * 3 + ["train"] * 3
    table = prepared(KINDS, tmp_path / "data", written(tmp_path / "k.csv", columns))
    assert table.manifest.parts == {"train": ["k00", "k03"], "val": ["k01"], "test": ["k02"]}


def test_a_column_that_splits_a_class_is_refused_and_so_are_names_beside_it(tmp_path):
    columns = kinds(3, 4)
    columns["split"] = ["train"] * 4 + ["val"] * 4 + ["test"] * 3 + ["train"]
    source = written(tmp_path / "k.csv", columns)
    with pytest.raises(DataError, match=r"class 'k02' is in test \(.*k\.csv:10\) and in train \(.*k\.csv:13\)"):
        prepared(KINDS, tmp_path / "data", source)
    columns["split"][-1] = "test"
    with pytest.raises(DataError, match=r"dataset\.val: found names, but a column of the table says"):
        prepared(KINDS.model_copy(update={"val": ["k00"]}), tmp_path / "data", written(source, columns))
    columns["split"][3] = "some"
    with pytest.raises(DataError, match=r"k\.csv:5: column 'split': found 'some', expected train, val and test"):
        prepared(KINDS, tmp_path / "data", written(source, columns))


def test_classes_can_be_named_for_their_parts(tmp_path):
    source = written(tmp_path / "k.csv", kinds(4, 3))
    table = prepared(KINDS.model_copy(update={"val": ["k03"], "test": ["k00"]}), tmp_path / "data", source)
    assert table.manifest.parts == {"train": ["k01", "k02"], "val": ["k03"], "test": ["k00"]}
    with pytest.raises(DataError, match=r"dataset\.val: 'k3' is no class of the table; did you mean 'k03'\?"):
        prepared(Config(title="other", val=["k3"]), tmp_path / "data", source)


def test_another_source_needs_force_and_the_same_one_is_found(tmp_path):
    first, other = written(tmp_path / "a.csv", kinds()), written(tmp_path / "b.csv", kinds(seed=1))
    before = prepared(KINDS, tmp_path / "data", first)
    assert prepared(KINDS, tmp_path / "data", first).manifest == before.manifest
    with pytest.raises(DataError, match="holds rows of another source"):
        prepared(KINDS, tmp_path / "data", other)
    assert prepared(KINDS, tmp_path / "data", other, force=True).manifest.sha256 != before.manifest.sha256
    with pytest.raises(DataError, match=r"dataset\.missing: 'error' there, 'mean' asked"):
        prepared(KINDS.model_copy(update={"missing": "mean"}), tmp_path / "data", None)


def test_a_damaged_row_and_an_edited_manifest_are_found(tmp_path):
    prepared(KINDS, tmp_path / "data", written(tmp_path / "k.csv", kinds()))
    folder = tmp_path / "data" / "table-k"
    assert stored.verify_table(folder).groups == [f"k{number:02}" for number in range(10)]
    rows = bytearray((folder / "rows.npy").read_bytes())
    rows[-3] ^= 1
    (folder / "rows.npy").write_bytes(rows)
    with pytest.raises(DataError, match=r"rows\.npy: is not as it was written; prepare the dataset again with --force"):
        stored.verify_table(folder)
    manifest = (folder / "table.json").read_text()
    (folder / "table.json").write_text(manifest.replace('"k03"', '"k3"'))
    with pytest.raises(DataError, match="was edited"):
        stored.open_table(folder)
    (folder / "table.json").write_text(manifest[: len(manifest) // 2])
    with pytest.raises(DataError, match="damaged"):
        stored.open_table(folder)


def test_a_column_that_never_changes_is_remarked_on(tmp_path):
    columns = kinds()
    columns["x"] = [0.1] * 80
    table = prepared(KINDS, tmp_path / "data", written(tmp_path / "k.csv", columns))
    assert table.manifest.remarks == ["x: the same in all training rows, so nothing is learned from it"]
    np.testing.assert_allclose(rows_of(table)[:, 0], 0, atol=1e-12)


@pytest.mark.parametrize("where", ["_scatter", "sha256_of", "put_in_place"])
def test_an_interrupted_call_leaves_nothing_and_the_next_gives_the_same_bytes(tmp_path, monkeypatch, where):
    source = written(tmp_path / "k.csv", kinds())
    expected = prepared(KINDS, tmp_path / "whole", source).manifest

    def interrupted(*_given, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(KINDS, tmp_path / "data", source)
    assert list((tmp_path / "data").iterdir()) == []
    (tmp_path / "data" / ".table-k.unfinished").mkdir()  # as of a process that was killed
    (tmp_path / "data" / ".table-k.unfinished" / "rows.npy").write_bytes(b"half")
    assert prepared(KINDS, tmp_path / "data", source).manifest == expected
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["table-k"]


def test_a_table_that_is_replaced_stays_whole_until_the_new_one_is(tmp_path, monkeypatch):
    first = prepared(KINDS, tmp_path / "data", written(tmp_path / "a.csv", kinds())).manifest
    monkeypatch.setattr(writing, "sha256_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepared(KINDS, tmp_path / "data", written(tmp_path / "b.csv", kinds(seed=1)), force=True)
    assert stored.verify_table(tmp_path / "data" / "table-k") == first
