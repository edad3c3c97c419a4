import io
import os
import re
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metalearn_cli.datasets import folder, glyphs, miniimagenet, omniglot
from metalearn_cli.errors import DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.storage.catalogue import catalogue
from metalearn_cli.storage.inputs import downloads, terms
from metalearn_cli.storage.prepared import decoding, writing
from metalearn_cli.storage.prepared.preparation import data_folder, open_or_explain, prepare

PETS = folder.Config(title="pets", image_size=8)
GLYPHS = glyphs.Config(classes=12, drawings=2)
COUNTS = {"train/ant": 2, "train/bee": 3, "val/cat": 2, "test/dog": 1}


def silent(_label, _done, _total):
    pass


def prepared(config, data_dir, source=None, force=False, progress=silent):
    module = {"folder": folder, "glyphs": glyphs, "omniglot": omniglot}[config.name]
    return prepare(config.name, module.build(config), data_dir, source, force, progress)


def paint(path: Path, colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, colour, colour)).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """Eight pictures of four classes, each of its own grey, in the order of the classes' names."""
    colour = 0
    for below, count in COUNTS.items():
        for number in range(count):
            paint(tmp_path / "pictures" / below / f"{number}.png", colour := colour + 10)
    return tmp_path / "pictures"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "data"


def test_each_class_gets_its_pictures_in_order(pictures, store):
    manifest, where = prepared(PETS, store, pictures)
    assert where == store / "folder-pets-8x8x3"
    start, greys = 0, {}
    for entry in manifest.classes:
        greys[entry.name] = np.load(where / "images.npy")[start : start + entry.count, 4, 4, 0].tolist()
        start += entry.count
    assert greys == {"ant": [10, 20], "bee": [30, 40, 50], "cat": [60, 70], "dog": [80]}


def test_progress_counts_every_picture(pictures, store):
    moved = []
    prepared(PETS, store, pictures, progress=lambda *one: moved.append(one))
    assert {label for label, _done, _total in moved} == {"decoding"}
    assert moved[-1] == ("decoding", 8, 8)


def test_more_classes_than_are_decoded_at_once_are_all_there(tmp_path, store, monkeypatch):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
    for number in range(11):
        paint(tmp_path / "many" / f"class{number:02}" / "a.png", number)
    manifest, where = prepared(PETS, store, tmp_path / "many")
    assert [entry.name for entry in manifest.classes] == [f"class{number:02}" for number in range(11)]
    assert np.load(where / "images.npy")[:, 0, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize("given", [True, False])
def test_a_second_time_nothing_is_decoded(pictures, store, monkeypatch, given):
    first = prepared(PETS, store, pictures)
    monkeypatch.setattr(decoding, "decode", lambda *_arguments: pytest.fail("decoded again"))
    assert prepared(PETS, store, pictures if given else None) == first


def test_a_second_time_nothing_is_drawn(store):
    first = prepared(GLYPHS, store)
    drawn = glyphs.build(GLYPHS)._replace(draw=lambda _index: pytest.fail("drawn again"))
    assert prepare("glyphs", drawn, store, None, False, silent) == first


def test_other_settings_are_refused_with_the_command_that_prepares_them(pictures, store):
    prepared(PETS, store, pictures)
    asked = PETS.model_copy(update={"fit": "squash", "split_seed": 3})
    message = (
        "dataset folder was prepared with other settings (dataset.fit: 'crop' there, 'squash' asked; "
        "dataset.split_seed: 0 there, 3 asked); type: metalearn prepare folder --source DIR "
        "--set dataset.title=pets --set dataset.image_size=8 --set dataset.fit=squash --set dataset.split_seed=3 "
        "--force"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        prepared(asked, store, pictures)
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        open_or_explain("folder", folder.build(asked), store, silent)


@pytest.mark.parametrize(
    "config",
    [
        PETS.model_copy(update={"val_fraction": 0.1, "channels": 1, "resize": "box"}),
        omniglot.Config(image_size=84, resize="nearest"),
    ],
)
def test_the_command_in_the_message_asks_for_the_same_pixels(config, store):
    build = {"folder": folder.build, "omniglot": omniglot.build}[config.name]
    with pytest.raises(DataError) as caught:
        open_or_explain(config.name, build(config), store, silent)
    words = shlex.split(str(caught.value).split("type: ")[1])
    assert words[:3] == ["metalearn", "prepare", config.name]
    overrides = [word for word in words if word.startswith("dataset.")]
    typed = build(dataset_settings(config.name, overrides))
    assert (typed.store, typed.settings) == (build(config).store, build(config).settings)


def test_another_source_is_refused_and_replaced_by_force(pictures, store):
    prepared(PETS, store, pictures)
    paint(pictures / "train" / "ant" / "more.png", 0)
    with pytest.raises(
        DataError, match=r"holds pictures of another source \(folder pictures \(8 files\)\); add --force"
    ):
        prepared(PETS, store, pictures)
    manifest, _where = prepared(PETS, store, pictures, force=True)
    assert sum(entry.count for entry in manifest.classes) == 9


def test_damaged_pictures_are_counted_and_the_first_ten_listed(pictures, store):
    for number in range(12):
        (pictures / "train" / "ant" / f"bad{number:02}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"^12 of 20 pictures cannot be read, mend or remove them") as caught:
        prepared(PETS, store, pictures)
    assert re.findall(r"bad(\d\d)", str(caught.value)) == [f"{number:02}" for number in range(10)]
    assert "\n" not in str(caught.value)


def test_nothing_is_prepared_from_damaged_pictures(pictures, store):
    (pictures / "test" / "dog" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 8 pictures .*test/dog/0\.png: is no picture that is read"):
        prepared(PETS, store, pictures)
    assert list(store.iterdir()) == []


def test_a_source_that_is_another_dataset_leaves_nothing(pictures, store):
    with pytest.raises(DataError, match="omniglot: found 4 characters, expected 1,623"):
        prepared(omniglot.Config(), store, pictures)
    assert list(store.iterdir()) == []


def test_a_missing_dataset_prints_the_command(store):
    with pytest.raises(DataError) as caught:
        open_or_explain("omniglot", omniglot.build(omniglot.Config()), store, silent)
    assert str(caught.value) == f"dataset omniglot is not prepared in {store}; type: metalearn prepare omniglot"


def test_a_dataset_without_downloads_asks_for_its_pictures(store):
    with pytest.raises(DataError, match=r"needs its pictures; type: metalearn prepare folder --source DIR --set"):
        prepared(PETS, store)


def test_a_generated_dataset_is_made_on_first_use(store):
    opened = open_or_explain("glyphs", glyphs.build(GLYPHS), store, silent)
    assert np.array_equal(
        opened.images, np.concatenate([glyphs.drawings(GLYPHS, index) for index in range(GLYPHS.classes)])
    )
    assert opened.manifest.source == "generated"


def test_official_files_are_fetched_into_one_folder_and_read_there(pictures, store, monkeypatch):
    fetched = []

    def fetch(download, where, progress):
        fetched.append((download.file, where))
        paint(where / "train" / "ant" / f"{download.file}.png", ord(download.file[7]))
        for colour, part in enumerate(("val/cat", "test/dog")):
            paint(where / part / "a.png", colour)
        progress(f"downloading {download.file}", 1, 2)

    monkeypatch.setattr(downloads, "fetch", fetch)
    moved = []
    dataset = folder.build(PETS)._replace(offers=omniglot.build(omniglot.Config()).offers)
    manifest, _where = prepare("folder", dataset, store, None, False, lambda *one: moved.append(one))
    below = store / "downloads" / "folder"
    assert fetched == [("images_background.zip", below), ("images_evaluation.zip", below)]
    assert {entry.name: entry.count for entry in manifest.classes} == {"ant": 2, "cat": 1, "dog": 1}
    assert moved[:2] == [("downloading images_background.zip", 1, 2), ("downloading images_evaluation.zip", 1, 2)]


def test_the_option_comes_before_the_variable_and_the_variable_before_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("METALEARN_DATA", str(tmp_path / "named"))
    assert data_folder(tmp_path / "option") == tmp_path / "option"
    assert data_folder(None) == tmp_path / "named"
    monkeypatch.delenv("METALEARN_DATA")
    assert data_folder(None) == tmp_path / "cache" / "metalearn"


def test_a_tilde_in_the_variable_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", "~/pictures")
    assert data_folder(None) == Path.home() / "pictures"


def test_damaged_pictures_can_be_left_out_and_are_recorded(pictures, store):
    (pictures / "train" / "bee" / "bad.png").write_bytes(b"no picture")
    manifest, _where = prepare("folder", folder.build(PETS), store, pictures, False, silent, skip_damaged=True)
    assert {entry.name: entry.count for entry in manifest.classes}["bee"] == 3
    assert manifest.damaged == ["train/bee/bad.png: is no picture that is read (text): only pictures are looked at"]


def test_a_picture_cut_at_every_tenth_byte_is_an_error_that_names_it(pictures, store):
    whole = photo(64)
    for length in range(0, len(whole) - 10, 10):
        (pictures / "train" / "bee" / f"cut{length:04}.jpg").write_bytes(whole[:length])
    damaged = len(range(0, len(whole) - 10, 10))
    with pytest.raises(DataError, match=rf"^{damaged} of {damaged + 8} pictures cannot be read"):
        prepared(PETS, store, pictures)
    assert list(store.iterdir()) == []


def photo(size):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def test_an_interrupted_conversion_decodes_only_what_is_left(pictures, store, monkeypatch):
    monkeypatch.setattr(writing, "_SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr(decoding, "_AT_ONCE", 1)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
    decode, decoded = decoding.decode, []

    def heard(source, preprocessing, name, cut_bottom):
        decoded.append(name)
        return decode(source, preprocessing, name, cut_bottom)

    def stop_at_the_last_class(_label, done, _total):
        if done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "decode", heard)
    with pytest.raises(KeyboardInterrupt):
        prepared(PETS, store, pictures, progress=stop_at_the_last_class)
    decoded.clear()
    manifest, _where = prepared(PETS, store, pictures)
    assert decoded == ["val/cat/0.png", "val/cat/1.png"]
    assert manifest == prepared(PETS, store.with_name("other"), pictures)[0]


def test_finished_parts_are_not_used_when_a_picture_has_changed(pictures, store, monkeypatch):
    monkeypatch.setattr(writing, "_SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr(decoding.Decoder, "work", lambda self, names: stopping(work(self, names)))
    with pytest.raises(KeyboardInterrupt):
        prepared(PETS, store, pictures)
    monkeypatch.setattr(decoding.Decoder, "work", work)
    paint(pictures / "train" / "ant" / "0.png", 99)
    os.utime(pictures / "train" / "ant" / "0.png", ns=(1, 1))
    _manifest, where = prepared(PETS, store, pictures)
    assert np.load(where / "images.npy")[:, 0, 0, 0].tolist() == [80, 99, 20, 30, 40, 50, 60, 70]


work = decoding.Decoder.work


def stopping(chunks):
    for chunk in chunks:
        if chunk.name == "cat":
            raise KeyboardInterrupt
        yield chunk


def test_while_another_process_prepares_it_this_one_waits_and_takes_the_result(pictures, store):
    heard, entered = [], threading.Event()

    def first():
        dataset = folder.build(PETS)
        prepare("folder", dataset._replace(arrange=slowly(dataset.arrange, entered)), store, pictures, False, silent)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    manifest, _where = prepared(PETS, store, progress=lambda label, *_numbers: heard.append(label))
    thread.join()
    assert heard
    assert re.fullmatch(r"waiting for process \d+ on \S+, which prepares it", heard[0])
    assert len(manifest.classes) == 4


def slowly(arrange, entered):
    def arranged(source):
        entered.set()
        time.sleep(0.5)
        return arrange(source)

    return arranged


def test_nothing_but_the_dataset_is_left_in_the_data_folder(pictures, store):
    prepared(PETS, store, pictures)
    assert [file.name for file in store.iterdir()] == ["folder-pets-8x8x3"]


def test_a_store_can_be_opened_where_nobody_may_write(pictures, store):
    first = prepared(PETS, store, pictures)
    store.chmod(0o555)
    try:
        assert prepared(PETS, store, pictures) == first
    finally:
        store.chmod(0o755)


def test_an_official_dataset_that_cannot_be_downloaded_says_what_to_do_by_hand(store, monkeypatch):
    def unavailable(*_arguments):
        raise downloads._UnavailableError("x.tar could not be downloaded (404)")

    monkeypatch.setattr(downloads, "fetch", unavailable)
    monkeypatch.setattr(downloads, "_files", lambda offer: omniglot.build(omniglot.Config()).offers[0])
    dataset = miniimagenet.build(miniimagenet.Config())
    with pytest.raises(DataError, match=r"404.*; fetch mini-imagenet-cache-.* and give the folder with --source"):
        prepare("miniimagenet", dataset, store, None, False, silent)


def test_the_catalogue_tells_what_is_there(pictures, store):
    prepared(PETS, store, pictures)
    prepared(GLYPHS, store)
    entries = {entry.name: entry for entry in catalogue(store)}
    assert entries["folder pets"] == (
        "folder pets",
        "prepared",
        4,
        8,
        128 + 8 * 192,
        "folder pictures (8 files)",
        "your own",
        "classes",
        "pictures",
    )
    assert (entries["glyphs"].state, entries["glyphs"].classes) == ("prepared", 12)
    assert (entries["miniimagenet"].state, entries["miniimagenet"].origin) == ("no", "download")
    assert entries["sinusoid"].state == "on use"
    assert "mixture" not in entries


def test_the_catalogue_tells_what_was_interrupted(pictures, store, monkeypatch):
    monkeypatch.setattr(decoding.Decoder, "work", lambda self, names: stopping(work(self, names)))
    with pytest.raises(KeyboardInterrupt):
        prepared(PETS.model_copy(update={"title": "pictures", "image_size": 84}), store, pictures)
    assert {entry.name: entry.state for entry in catalogue(store)}["folder"] == "interrupted"


def test_terms_are_accepted_once_and_word_for_word(tmp_path):
    assert not terms.accepted(tmp_path / "new", "be kind")
    terms.accept(tmp_path / "new", "be kind")
    terms.accept(tmp_path / "new", "share alike")
    assert terms.accepted(tmp_path / "new", "be kind")
    assert not terms.accepted(tmp_path / "new", "be kinder")


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]"])
def test_an_edited_list_of_terms_accepts_nothing(tmp_path, content):
    (tmp_path / "accepted-terms.json").write_text(content)
    assert not terms.accepted(tmp_path, "be kind")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_dataset_moved_away_by_a_process_that_was_killed_comes_back_unless_there_is_a_new_one(
    replaced, pictures, store
):
    manifest, where = prepared(PETS, store, pictures)
    if replaced:
        shutil.copytree(where, store / f".{where.name}.0123.old")
    else:
        where.rename(store / f".{where.name}.0123.old")
    again, _where = prepared(PETS, store, pictures, force=replaced)
    assert again.sha256 == manifest.sha256
    assert [path.name for path in store.iterdir()] == [where.name]
