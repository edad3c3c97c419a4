import threading

import pytest
import torch

from metalearn_cli.core.meta import Scores
from metalearn_cli.errors import RunError
from metalearn_cli.runtime.machine import distributed
from metalearn_cli.runtime.machine.distributed import ALONE, Group, own_device, process_group


def test_processes_share_all_tasks_and_each_once():
    numbers = range(7)
    shares = [Group(rank, 3).share(numbers) for rank in range(3)]
    assert sorted(number for share in shares for number in share) == list(numbers)
    assert [len(share) for share in shares] == [3, 2, 2]


def test_one_process_alone_adds_and_gathers_nothing():
    value, scores = torch.rand(3), Scores(torch.rand(4, 2), torch.rand(4, 2))
    assert ALONE.summed([value])[0] is value
    assert all(torch.equal(*pair) for pair in zip(ALONE.gathered(scores, 4), scores, strict=True))
    assert ALONE.any(True, value.device)
    assert not ALONE.any(False, value.device)
    assert ALONE.collected([3, 1]) == [1, 3]
    ALONE.require_same("data", "x")
    with ALONE.leader_first():
        pass


def test_under_torchrun_each_process_has_a_gpu_of_its_own(monkeypatch):
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "3")):
        monkeypatch.setenv(name, value)
    assert own_device(torch.device("cuda")) == torch.device("cuda", 3)
    assert own_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert own_device(torch.device("cpu")) == torch.device("cpu")


def test_a_process_that_is_gone_is_said_by_the_others(monkeypatch):
    def broken(_tensor):
        raise RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:7123")

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(RunError, match=r"process 1: another process of this run has ended .Connection closed by peer"):
        Group(1, 2).summed([torch.ones(2)])


def test_that_others_are_waited_for_is_said_and_the_wait_ends_as_soon_as_it_should(monkeypatch):
    came, said = threading.Event(), []
    monkeypatch.setattr(distributed, "_connect", lambda _rank, _device: came.wait(60))
    monkeypatch.setattr(distributed, "_SECONDS_UNTIL_TOLD", 0.1)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyboardInterrupt), process_group(torch.device("cpu"), lambda: bool(said), said.append):
        pytest.fail("the block was entered")
    assert said == ["process 1 of 2 (WORLD_SIZE) waits for the others at here:29500"]
    came.set()
