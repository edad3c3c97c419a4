"""What the environment says of the processes of a run, also where it was left over, is empty or makes no sense."""

import os

import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.machine import ranks
from metalearn_cli.runtime.machine.ranks import Rank, own, processes_here, restarted

NAMES = [
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"),
    ranks.MEETING_POINT,
]
TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "0",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture
def set_to(monkeypatch):
    def set_to(variables: dict[str, str]) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


def test_torchrun_is_understood(set_to):
    set_to(TORCHRUN)
    assert own() == Rank(3, 4, 1, 2, 0, "")
    assert not ranks.leads()
    assert processes_here() == 2
    assert not restarted()
    set_to(TORCHRUN | {"RANK": "0", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert ranks.leads()
    assert restarted()


@pytest.mark.parametrize(
    "left_over",
    [
        {},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": " "},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "RANK": ""},
        {"RANK": "3"},
        {"RANK": "strange"},
        {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"},
        {"TORCHELASTIC_RESTART_COUNT": "2"},
        {ranks.MEETING_POINT: ""},
        {"MASTER_PORT": "strange"},
    ],
)
def test_a_process_by_itself_takes_no_notice_of_what_was_left_over(set_to, left_over):
    set_to(left_over)
    assert own() is None
    assert ranks.leads()
    assert processes_here() == 1
    assert not restarted()


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["two", "-1", "1.5", "0x2", "٣", "²", "9" * 5000, "1 2", "nan"])
def test_what_is_no_number_is_named(set_to, name, value):
    set_to(TORCHRUN | {name: value})
    with pytest.raises(ConfigError, match=f"environment: {name} is .*expected a whole number") as caught:
        own()
    assert len(str(caught.value)) < 200
    assert processes_here() == 1  # commands that are one process take no notice


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"RANK": ""}, "WORLD_SIZE=4 is set, but RANK is not"),
        ({"RANK": "4"}, "RANK=4 is set, but WORLD_SIZE is 4"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK=1 is set, but WORLD_SIZE is 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 is set, but WORLD_SIZE is 0"),
        ({ranks.MEETING_POINT: "/gone/store"}, "its folder is gone"),
        ({ranks.MEETING_POINT: "/gone/store", "WORLD_SIZE": "", "RANK": ""}, "WORLD_SIZE is not"),
    ],
)
def test_what_does_not_go_together_is_said_with_the_cure(set_to, changed, found):
    set_to(TORCHRUN | changed)
    with pytest.raises(ConfigError, match=f"{found}.*unset it"):
        own()


def test_torchrun_of_one_process_is_a_rank_that_may_be_restarted(set_to):
    set_to({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "1"})
    assert restarted()


def test_no_other_module_reads_these_variables():
    from tests.test_architecture import FILES

    readers = {
        file.name
        for file in FILES
        if any(f'environ.get("{name}"' in (text := file.read_text()) or f'environ["{name}"' in text for name in NAMES)
    }
    assert readers <= {"ranks.py", "distributed.py", "__main__.py"}, os.linesep.join(readers)
