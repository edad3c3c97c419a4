import json

import numpy as np
import pytest

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import DataError
from metalearn_cli.storage.prepared import writing
from metalearn_cli.storage.prepared.dataset import open_prepared, verify
from metalearn_cli.storage.prepared.writing import Chunk, Contents, unfinished, write_dataset

NAMES = ["a", "b", "c", "d"]
SPLITS = {"one": {"train": ["a", "d"], "val": ["b"], "test": ["c"]}}
CONTENTS = Contents("pets", SPLITS, Preprocessing(channels=3, height=4, width=5, mean=(), std=()), {}, "here")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Every finished class goes into the journal at once."""
    monkeypatch.setattr(writing, "_SECONDS_BETWEEN_LINES", -1.0)


def drawn(name: str) -> np.ndarray:
    return np.random.default_rng([*name.encode()]).integers(0, 256, (len(NAMES) * 3, 4, 5, 3), dtype=np.uint8)


def chunks(names, asked=None):
    """Each class in chunks of five; `asked` hears which classes were wanted."""
    for name in names:
        if asked is not None:
            asked.append(name)
        for start in range(0, len(drawn(name)), 5):
            yield Chunk(name, drawn(name)[start : start + 5])


def stopping(before: str, stop=KeyboardInterrupt):
    """The chunks up to the second one of a class."""

    def work(names):
        for number, chunk in enumerate(chunks(names)):
            if chunk.name == before and number % 3 == 1:
                raise stop
            yield chunk

    return work


def interrupted(folder, before="c", key="key"):
    with pytest.raises(KeyboardInterrupt):
        write_dataset(folder, CONTENTS, NAMES, key, stopping(before))
    assert not folder.exists()


@pytest.fixture
def whole(tmp_path):
    """The manifest and the bytes of a conversion that was never interrupted."""
    manifest = write_dataset(tmp_path / "whole", CONTENTS, NAMES, "key", chunks)
    return manifest, (tmp_path / "whole" / "images.npy").read_bytes()


def test_an_interrupted_conversion_starts_again_from_its_finished_classes(tmp_path, whole):
    interrupted(tmp_path / "pets")
    asked = []
    manifest = write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", lambda names: chunks(names, asked))
    assert asked == ["c", "d"]
    assert (manifest, (tmp_path / "pets" / "images.npy").read_bytes()) == whole
    assert sorted(file.name for file in (tmp_path / "pets").iterdir()) == ["images.npy", "manifest.json"]


@pytest.mark.parametrize("before", ["a", "b", "d"])
def test_wherever_it_was_interrupted_the_bytes_are_the_same(tmp_path, whole, before):
    for _time in range(3):
        interrupted(tmp_path / "pets", before)
    manifest = write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", chunks)
    assert (manifest, (tmp_path / "pets" / "images.npy").read_bytes()) == whole


def test_other_work_does_not_use_what_is_unfinished(tmp_path, whole):
    interrupted(tmp_path / "pets", key="other pictures")
    asked = []
    manifest = write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", lambda names: chunks(names, asked))
    assert asked == NAMES
    assert manifest == whole[0]


@pytest.mark.parametrize("lost", range(1, 2000, 137))
def test_a_journal_cut_anywhere_loses_work_but_nothing_else(tmp_path, whole, lost):
    interrupted(tmp_path / "pets", "d")
    journal = unfinished(tmp_path / "pets") / "finished.jsonl"
    journal.write_bytes(journal.read_bytes()[:-lost])
    manifest = write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", chunks)
    assert (manifest, (tmp_path / "pets" / "images.npy").read_bytes()) == whole


@pytest.mark.parametrize("kept", [0, 100, 128, 129, 900, 1500])
def test_an_array_shorter_than_the_journal_says_loses_work_but_nothing_else(tmp_path, whole, kept):
    interrupted(tmp_path / "pets", "d")
    images = unfinished(tmp_path / "pets") / "images.npy"
    images.write_bytes(images.read_bytes()[:kept])
    manifest = write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", chunks)
    assert (manifest, (tmp_path / "pets" / "images.npy").read_bytes()) == whole


def test_what_is_in_the_journal_is_in_the_array(tmp_path):
    interrupted(tmp_path / "pets", "d")
    aside = unfinished(tmp_path / "pets")
    lines = (aside / "finished.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines[1:]] == ["a", "b", "c"]
    content = (aside / "images.npy").read_bytes()[128:]
    assert content.startswith(b"".join(drawn(name).tobytes() for name in "abc"))


@pytest.mark.parametrize("stop", [ValueError, DataError, OSError])
def test_a_failure_leaves_nothing(tmp_path, stop):
    with pytest.raises(Exception):  # noqa: B017
        write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", stopping("c", stop))
    assert list(tmp_path.iterdir()) == []


def test_replacing_that_is_interrupted_leaves_the_old_one(tmp_path):
    write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", chunks)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "pets", CONTENTS._replace(source="there"), NAMES, "other", stopping("c"))
    assert verify(tmp_path / "pets").source == "here"


def test_damaged_pictures_are_listed_in_the_manifest_also_after_an_interruption(tmp_path):
    def work(names):
        for chunk in chunks(names):
            yield chunk._replace(damaged=[f"{chunk.name}.png: is damaged"])

    def half(names):
        for chunk in work(names):
            if chunk.name == "c":
                raise KeyboardInterrupt
            yield chunk

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", half)
    write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", work)
    damaged = open_prepared(tmp_path / "pets").manifest.damaged
    assert damaged == [f"{name}.png: is damaged" for name in NAMES for _ in range(3)]


def test_a_class_whose_pictures_are_all_damaged_is_an_error_that_says_why(tmp_path):
    empty = Chunk("a", np.empty((0, 4, 5, 3), np.uint8), ["a/1.png: is damaged"])
    with pytest.raises(DataError, match=r"class 'a' has no pictures: a/1\.png: is damaged"):
        write_dataset(tmp_path / "pets", CONTENTS, NAMES, "key", lambda names: iter([empty, *chunks(["b", "c", "d"])]))
