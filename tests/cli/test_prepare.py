import json
import pickle
import shlex
import signal
import struct
import subprocess
import sys
import time
import zipfile

import pytest

from metalearn_cli.experiment import read_experiment as load_experiment
from tests.commands import ROOT, environment
from tests.lookalikes import cache_pickles, images_and_lists, in_folder, picture

PETS = {
    f"{part}/{part}{c}/{n}.jpg": picture(f"{part}{c}{n}", 40)
    for part in ("train", "val", "test")
    for c in range(2)
    for n in range(4)
}
ACCEPT = ("--set", "dataset.accept_terms=true")
PARTIAL = ("--set", "dataset.allow_partial=true")


@pytest.fixture
def own(tmp_path):
    """The arguments that keep everything in the test's own data folder."""
    return ("--data-dir", tmp_path / "data")


def test_json_is_one_object_with_the_promised_fields(cli, own, tmp_path):
    source = in_folder(tmp_path / "pets", PETS)
    outcome = cli("prepare", "folder", "--source", source, "--set", "dataset.image_size=20", *own, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    promised = (
        "schema dataset path splits image_shape bytes sha256 sample partial damaged left_out remarks seconds features"
    )
    assert set(outcome.fields) == set(promised.split())
    assert outcome.fields["splits"]["train"] == {"classes": 2, "images": 8}
    assert outcome.fields["image_shape"] == [20, 20, 3]


def test_terms_are_printed_and_asked_for_once(cli, own, tmp_path):
    source = in_folder(tmp_path / "mini", images_and_lists())
    arguments = ("prepare", "miniimagenet", "--source", source, *PARTIAL, *own)
    refused = cli(*arguments)
    assert refused.code == 2
    assert "non-commercial research" in refused.err
    assert refused.err.splitlines()[-1].endswith("must be accepted once: --set dataset.accept_terms=true")
    accepted = cli(*arguments, *ACCEPT)
    assert accepted.code == 0, accepted.err
    assert "sample ravi" in accepted.out
    assert "partial: 6 of 100 classes" in accepted.out
    again = cli(*arguments, "--force")
    assert again.code == 0
    assert "Terms of use" not in again.err


def test_a_hostile_pickle_ends_in_one_line_and_leaves_nothing(cli, own, tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    members = {**cache_pickles(), "mini-imagenet-cache-test.pkl": pickle.dumps({"image_data": Evil()})}
    source = in_folder(tmp_path / "mini", members)
    outcome = cli("prepare", "miniimagenet", "--source", source, *ACCEPT, *own)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "asks for posix.system" in outcome.err
    assert not (tmp_path / "ran").exists()
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["accepted-terms.json"]


def test_a_zip_that_unpacks_to_ten_gigabytes_ends_in_one_line(cli, own, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"a/{number}.png", bytes(1 << 20))
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = -1
    while (place := content.find(b"PK\x01\x02", place + 1)) >= 0:
        content[place + 24 : place + 28] = struct.pack("<I", 0xF0000000)  # the size it claims to have, unpacked
    (tmp_path / "bomb.zip").write_bytes(content)
    outcome = cli("prepare", "folder", "--source", tmp_path / "bomb.zip", *own)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "bomb.zip: unpacks to 11,520 MB or more, far more than pictures or numbers would" in outcome.err
    assert list((tmp_path / "data").iterdir()) == []


def test_list_shows_every_dataset_within_80_columns(cli, own, tmp_path):
    cli("prepare", "folder", "--source", in_folder(tmp_path / "pets", PETS), "--set", "dataset.title=pets", *own)
    shown = cli("prepare", "--list", *own)
    assert shown.code == 0
    assert max(len(line) for line in shown.out.splitlines()[1:]) <= 80
    listed = cli("prepare", "--list", "--json", *own).fields["datasets"]
    assert {"folder pets", "miniimagenet", "omniglot", "glyphs"} <= {row["name"] for row in listed}
    assert next(row for row in listed if row["name"] == "folder pets")["pictures"] == 24


def test_verify_finds_what_was_changed(cli, own, tmp_path):
    cli("prepare", "glyphs", "--set", "dataset.classes=12", *own)
    asked = ("prepare", "glyphs", "--set", "dataset.classes=12", "--verify", *own)
    assert "verified" in cli(*asked).out
    path = tmp_path / "data" / "glyphs-v1-12x20-seed0" / "images.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    outcome = cli(*asked)
    assert outcome.code == 2
    assert "is not as it was written" in outcome.err


def test_damaged_pictures_are_left_out_on_request_and_counted(cli, own, tmp_path):
    source = in_folder(tmp_path / "pets", {**PETS, "train/train0/bad.jpg": b"no picture"})
    refused = cli("prepare", "folder", "--source", source, *own)
    assert refused.code == 2
    assert "--set dataset.skip_damaged=true: train/train0/bad.jpg" in refused.err
    outcome = cli("prepare", "folder", "--source", source, "--set", "dataset.skip_damaged=true", *own)
    assert "left out: 1 x damaged picture (train/train0/bad.jpg: is no" in outcome.err


def test_the_next_command_can_be_typed(cli, own, tmp_path):
    pets = in_folder(tmp_path / "pets", PETS)
    drawn = cli("prepare", "glyphs", "--set", "dataset.classes=24", *own)
    found = cli("prepare", "folder", "--source", pets, "--set", "dataset.title=pets", *own)
    experiments = []
    for outcome in (drawn, found):
        there, *command, config = (words := shlex.split(outcome.err.removeprefix("next: ")))[:4]
        assert there == f"METALEARN_DATA={tmp_path / 'data'}"
        assert command == ["metalearn", "train"]
        assert set(words[4::2]) == {"--set"}
        experiments.append(load_experiment(config, words[5::2]))
    assert experiments[0].dataset.classes == 24
    own = experiments[1]
    assert (own.name, own.dataset.name, own.dataset.title) == ("pets", "folder", "pets")
    assert own.task.ways == 2, "no part of it has more classes"


def test_killed_at_any_moment_it_leaves_no_dataset_or_a_whole_one(run_cli, tmp_path):
    members = {f"c{c}/{n}.jpg": picture(f"{c}/{n}", 32) for c in range(40) for n in range(60)}
    source = in_folder(tmp_path / "many", members)
    whole = run_cli("prepare", "folder", "--source", source, "--data-dir", tmp_path / "whole", "--json").fields
    command = [
        sys.executable,
        "-m",
        "metalearn_cli",
        "prepare",
        "folder",
        "--source",
        source,
        "--data-dir",
        tmp_path / "data",
    ]
    moments = ((signal.SIGKILL, 0.6), (signal.SIGTERM, 0.8), (signal.SIGINT, 1.0), (signal.SIGKILL, 1.2))
    for kill, seconds in moments:
        process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(kill)
        process.wait()
        stores = [path.name for path in (tmp_path / "data").glob("[!.]*")] if (tmp_path / "data").exists() else []
        assert stores in ([], ["folder-pictures-84x84x3"])
    finished = run_cli(*command[3:], "--json")
    assert finished.fields["sha256"] == whole["sha256"]
    assert json.loads((tmp_path / "data" / "folder-pictures-84x84x3" / "manifest.json").read_text())["classes"]


def test_two_at_once_end_in_one_dataset(tmp_path):
    source = in_folder(tmp_path / "pets", PETS)
    command = [
        sys.executable,
        "-m",
        "metalearn_cli",
        "prepare",
        "folder",
        "--source",
        source,
        "--data-dir",
        tmp_path / "data",
    ]
    both = [subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment(tmp_path), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL) for _ in range(2)]  # fmt: skip
    assert [process.wait() for process in both] == [0, 0]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["folder-pictures-84x84x3"]
