"""Whatever happens to the files of a prepared table, nobody learns from other rows than those that were written."""

import shutil
from random import Random

import pytest

from metalearn_cli.datasets.table import Config
from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular import stored
from tests.tables import machines, prepared, silent, written


def flipped(content, random):
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def cut(content, random):
    return content[: random.randrange(len(content))]


def longer(content, random):
    return content + random.randbytes(random.randrange(1, 9))


def zeroed(content, random):
    place = random.randrange(len(content))
    return content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]


def moved(content, random):
    """Two pieces of 64 bytes change places."""
    one, two = sorted(random.sample(range(0, len(content) - 64, 64), 2))
    piece, other = content[one : one + 64], content[two : two + 64]
    return content[:one] + other + content[one + 64 : two] + piece + content[two + 64 :]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    config = Config(title="m", task="machine", target=["force"])
    opened = prepared(config, place / "data", written(place / "m.csv", machines()))
    return place / "data" / "table-m", opened.manifest, opened.rows.all_floats().tobytes()


@pytest.mark.parametrize("damage", [flipped, cut, longer, zeroed, moved])
@pytest.mark.parametrize("name", ["rows.npy", "table.json"])
def test_a_damaged_file_is_one_line_or_gives_what_was_written(whole, tmp_path, damage, name):
    folder, manifest, rows = whole
    said = []
    for seed in range(25):
        copy = tmp_path / str(seed)
        shutil.copytree(folder, copy)
        content = (folder / name).read_bytes()
        (copy / name).write_bytes(damage(content, Random(seed)))
        if (copy / name).read_bytes() == content:
            continue
        try:
            opened = stored.open_checked_table(copy, silent)
            assert opened.manifest == manifest
            assert opened.rows.all_floats().tobytes() == rows
        except DataError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all(one.startswith(str(tmp_path)) and "\n" not in one for one in said)
