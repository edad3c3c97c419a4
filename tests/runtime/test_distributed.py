import torch

from metalearn_cli.core.meta import Scores
from metalearn_cli.runtime.distributed import ALONE, Group, own_device, processes_here


def test_processes_share_all_tasks_and_each_once():
    numbers = range(7)
    shares = [Group(rank, 3).share(numbers) for rank in range(3)]
    assert sorted(number for share in shares for number in share) == list(numbers)
    assert [len(share) for share in shares] == [3, 2, 2]


def test_one_process_alone_adds_and_gathers_nothing():
    value, scores = torch.rand(3), Scores(torch.rand(4, 2), torch.rand(4, 2))
    assert ALONE.summed([value])[0] is value
    assert all(torch.equal(*pair) for pair in zip(ALONE.gathered(scores, 4), scores, strict=True))
    ALONE.require_same("data", "x")
    with ALONE.leader_first():
        pass


def test_under_torchrun_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda")) == torch.device("cuda", 3)
    assert own_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert own_device(torch.device("cpu")) == torch.device("cpu")


def test_the_processes_of_a_machine_share_its_cores(monkeypatch):
    assert processes_here() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert processes_here() == 2
