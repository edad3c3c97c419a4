"""Links, pipes and second names that a stranger left in a run or data folder, at every name that is written there."""

import json
import os
import stat
from pathlib import Path

import pytest

from metalearn_cli.storage.prepared.writing import _journalled

PRECIOUS = "the only copy\n"
FEW = ["--set", "outer.iterations=2", "--set", "eval.val_episodes=4", "--quiet"]
RUN_FILES = [
    *(".lock", "config.yaml", "metrics.jsonl", "report.html", "checkpoints/last.pt", "checkpoints/previous.pt"),
    *("checkpoints/best.pt", "checkpoints/.probe", "checkpoints/MODEL_CARD.md", "checkpoints/last.pt.damaged"),
]
RUN_FOLDERS = ["checkpoints", "hparams"]
STORE = "glyphs-v1-40x20-seed0"
DATA_FILES = [
    *(f".{STORE}.lock", f"{STORE}/manifest.json", f"{STORE}/images.npy", f"{STORE}/.checked"),
    *(f".{STORE}.unfinished/finished.jsonl", f".{STORE}.unfinished/images.npy"),
]
DATA_FOLDERS = [STORE, f".{STORE}.unfinished"]


@pytest.fixture
def precious(tmp_path) -> Path:
    path = tmp_path / "elsewhere" / "precious"
    path.parent.mkdir()
    path.write_text(PRECIOUS)
    return path


def plant(kind: str, place: Path, precious: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            place.symlink_to(precious)
        case "dangling link":
            place.symlink_to(precious.with_name("not there yet"))
        case "hard link":
            place.hardlink_to(precious)
        case "pipe":
            os.mkfifo(place)


def require_unharmed(outcome, precious: Path) -> None:
    assert precious.read_text() == PRECIOUS
    assert [file.name for file in precious.parent.iterdir()] == ["precious"]
    assert outcome.code in (0, 2), outcome.err
    assert "Traceback" not in outcome.err
    if outcome.code == 2:
        assert len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 1, outcome.err


def every_kind(names, soon):
    """The names with each kind of thing to plant there; what is not a link, and not at a name `soon`, is slow."""
    for kind in ("link", "dangling link", "hard link", "pipe"):
        for name in names:
            quick = kind == "link" or name.endswith(soon)
            yield pytest.param(kind, name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "name"), list(every_kind(RUN_FILES, (".lock", "metrics.jsonl"))))
def test_nothing_in_a_run_folder_is_written_through_what_was_planted_there(
    cli, tiny_config, tmp_path, precious, kind, name
):
    plant(kind, tmp_path / "run" / name, precious)
    outcome = cli("train", tiny_config, *FEW, "--run-dir", "run", "--resume")
    require_unharmed(outcome, precious)
    if name == ".lock":
        assert outcome.code == 2
    if outcome.code == 0:
        assert stat.S_ISREG((tmp_path / "run/checkpoints/last.pt").lstat().st_mode)


@pytest.mark.parametrize("name", RUN_FOLDERS)
def test_no_folder_of_a_run_leads_elsewhere(cli, tiny_config, tmp_path, precious, name):
    plant("link", tmp_path / "run" / name, precious.parent)
    outcome = cli("train", tiny_config, *FEW, "--run-dir", "run", "--resume")
    require_unharmed(outcome, precious)
    assert outcome.code == 2
    assert "symbolic link" in outcome.err


def test_the_files_that_were_planted_are_all_that_a_run_writes(tiny_run):
    written = {file.relative_to(tiny_run).as_posix() for file in tiny_run.rglob("*") if file.is_file()}
    events = {name for name in written if "tfevents" in name}
    assert written - events <= set(RUN_FILES)
    assert {Path(name).parent.as_posix() for name in events} == {".", "hparams"}
    assert all(len(name.rpartition(".")[2]) == 32 for name in events)  # no link can have been planted at such a name


def test_a_run_folder_may_itself_be_a_link(cli, tiny_config, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "large disk")
    assert cli("train", tiny_config, *FEW, "--run-dir", "run").code == 0
    assert (tmp_path / "large disk/checkpoints/last.pt").exists()


@pytest.mark.parametrize(("kind", "name"), list(every_kind(DATA_FILES, (".lock", "finished.jsonl"))))
def test_nothing_in_a_data_folder_is_written_through_what_was_planted_there(cli, tmp_path, precious, kind, name):
    plant(kind, tmp_path / "data" / name, precious)
    force = ["--force"] if name.startswith(STORE) else []
    outcome = cli("prepare", "glyphs", "--set", "dataset.classes=40", "--data-dir", "data", *force)
    require_unharmed(outcome, precious)
    if not name.endswith(".lock"):
        assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", DATA_FOLDERS)
def test_no_folder_of_a_dataset_leads_elsewhere(cli, tmp_path, precious, name):
    plant("link", tmp_path / "data" / name, precious.parent)
    outcome = cli("prepare", "glyphs", "--set", "dataset.classes=40", "--data-dir", "data", "--force")
    require_unharmed(outcome, precious)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [STORE]


def test_the_work_of_an_interrupted_call_is_not_taken_up_through_a_link(tmp_path, precious):
    aside = tmp_path / "unfinished"
    aside.mkdir()
    (aside / "finished.jsonl").write_text(json.dumps("key") + "\n")
    (aside / "images.npy").symlink_to(precious)
    assert _journalled(aside / "finished.jsonl", aside / "images.npy", "key", []) is None
    (aside / "images.npy").unlink()
    (aside / "images.npy").write_bytes(bytes(128))
    assert _journalled(aside / "finished.jsonl", aside / "images.npy", "key", []) == []
