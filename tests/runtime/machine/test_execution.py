from importlib import import_module

import pytest
import torch

from metalearn_cli.core.meta import Meta, Problem, Scores, scores_per_step
from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.core.tasks import keyed
from metalearn_cli.errors import DeviceError
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.layers.cpu.kernels import torch_in_their_place
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.machine.execution import Plan, plan_for, record_for, running
from metalearn_cli.testing import problems
from metalearn_cli.testing.learners import require_tasks_at_once_equal_one_at_a_time

CPU = torch.device("cpu")
PICTURES = set(names_in("backbones")) - {"mlp"}
CLASSIFIERS = {
    "nearest",
    "protonet",
    "prototypes",
    "metaqda",
    "proto_maml",
    "unicorn_maml",
    "r2d2",
    "baseline",
    "baseline_plus_plus",
}
WITH_A_BODY = {"boil", "protonet", "proto_maml", "unicorn_maml"}
"""These refuse a network without parameters before its head (tests/algorithms/test_linear_networks.py)."""
SERIES = {"conv4_1d": (2, 16)}
OPTIONS = {
    "conv4_1d": [{"channels": 4}, {"channels": 32, "norm": "group"}],
    "conv4": [{"channels": 4}, {"channels": 4, "pool": True}, {"channels": 32, "norm": "group"}],
    "resnet12": [{"channels": [2, 3, 3, 4]}],
    "mlp": [{"hidden": [6, 5]}],
    "linear": [{}, {"features": 7}],
    "custom": [{"call": "tests.modules:Residual", "arguments": {"norm": norm}} for norm in ("batch", "group")],
    "layers": [{"layers": [{"conv2d": {"channels": 4, "kernel": 3, "stride": 2}}, "bn", "relu", "flatten", "linear"]}],
}
POOLED = {"channels": 4, "pool": True}


def often(algorithm, options):
    """Every network with MAML, and every algorithm with one network; the other pairs are slow tests."""
    return algorithm == "maml" or options in (POOLED, OPTIONS["layers"][0])


CASES = [
    pytest.param(algorithm, name, options, marks=() if often(algorithm, options) else pytest.mark.slow)
    for algorithm in names_in("algorithms")
    for name in names_in("backbones")
    for options in OPTIONS.get(name, [{}])
    if not (algorithm in CLASSIFIERS and name not in PICTURES) and not (name == "identity" and algorithm in WITH_A_BODY)
]


def learner_and_tasks(algorithm, backbone, options, count=5, statistics="transductive", one_by_one=False):
    room = import_module(f"metalearn_cli.backbones.{backbone}")
    pictures = backbone in PICTURES
    shape, outputs = (SERIES.get(backbone, (1, 16, 16)), problems.WAYS) if pictures else ((1,), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(room.build(room.Config(**options), shape, outputs), one_by_one)
    module = import_module(f"metalearn_cli.algorithms.{algorithm}")
    objective = classification if pictures else regression
    learner = module.build(
        module.Config(), Problem(network, objective, statistics, problems.WAYS if pictures else None)
    )
    tasks = problems.picture_tasks(count, shape=shape) if pictures else problems.value_tasks(count)
    return learner, problems.double(learner.init()), tasks


def require_equal_roads(*about, keys=None, plans, **options):
    """Many tasks in one call learn what each learns by itself, task by task in plain modules."""
    learner, meta, tasks = learner_and_tasks(*about, **options)
    alone, _, _ = learner_and_tasks(*about, **options, one_by_one=True)
    require_tasks_at_once_equal_one_at_a_time(learner, alone, meta, keyed(tasks, keys), plans)


@pytest.mark.parametrize(("algorithm", "backbone", "options"), CASES)
def test_meta_gradient_of_tasks_at_once_equals_one_task_at_a_time(algorithm, backbone, options):
    plans = (Plan("vmap", 2, 1), Plan("vmap", 64, 1), Plan("threads", 1, 2), Plan("threads", 2, 3))
    require_equal_roads(algorithm, backbone, options, plans=plans)


@pytest.mark.parametrize(("algorithm", "backbone", "options"), CASES)
def test_with_support_statistics_tasks_at_once_equal_one_at_a_time(algorithm, backbone, options):
    require_equal_roads(algorithm, backbone, options, plans=(Plan("threads", 2, 2),), statistics="support")


@pytest.mark.parametrize(
    "algorithm",
    [name if name == "maml" else pytest.param(name, marks=pytest.mark.slow) for name in names_in("algorithms")],
)
def test_with_drop_block_tasks_at_once_equal_one_at_a_time(algorithm):
    options = {"channels": [2, 3, 3, 4], "drop_rate": 0.2}
    require_equal_roads(algorithm, "resnet12", options, keys=torch.arange(5), plans=(Plan("threads", 2, 2),))


@pytest.mark.parametrize("plan", [Plan("vmap", 3, 1), Plan("threads", 2, 2)])
def test_scores_of_each_task_come_in_the_order_of_the_tasks(plan):
    learner, meta, tasks = learner_and_tasks("maml", "conv4", {"channels": 4})

    def one(meta, task):
        return scores_per_step(learner, 2, meta, task)

    with running(Plan("loop", 1, 1)) as runner:
        expected = runner.each(one, meta, tasks)
    with running(plan) as runner:
        found = runner.each(one, meta, tasks)
    assert found.loss.shape == (5, 3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_the_number_of_threads_does_not_change_a_bit():
    learner, meta, tasks = learner_and_tasks("maml", "conv4", {"channels": 4})
    gradients = []
    for threads in (1, 3):
        with running(Plan("threads", 2, threads)) as runner:
            gradients.append(problems.flat(runner.total(learner.meta_gradient, meta, tasks)[0]))
    assert torch.equal(*gradients)


def test_auto_is_threads_on_a_cpu_and_vmap_on_an_accelerator():
    assert plan_for(CPU, Execution(), 30 * 784, 32).mode == "threads"
    assert plan_for(torch.device("cuda"), Execution(), 30 * 784, 32).mode == "vmap"
    assert plan_for(torch.device("cuda"), Execution(mode="threads"), 30 * 784, 32).mode == "vmap"
    assert plan_for(CPU, Execution(threads=2), 80 * 84 * 84 * 3, 4) == Plan("vmap", 1, 2)
    assert plan_for(CPU, Execution(threads=2, mode="threads"), 80 * 84 * 84 * 3, 4) == Plan("threads", 1, 2)
    assert plan_for(CPU, Execution(threads=2), 80 * 84 * 84 * 3, 4, compiled=True) == Plan("threads", 1, 2)
    assert plan_for(CPU, Execution(threads=2), 80 * 84 * 84 * 3, 1, compiled=True) == Plan("vmap", 1, 2, compiled=True)


def test_the_smaller_the_tasks_the_more_go_in_one_chunk():
    sizes = (20, 30 * 784, 80 * 784, 50 * 84 * 84 * 3)
    assert [plan_for(CPU, Execution(threads=2), size, 32).chunk for size in sizes] == [64, 16, 16, 1]


def test_no_thread_goes_without_tasks_unless_they_are_tiny():
    assert plan_for(CPU, Execution(threads=8), 30 * 784, 32).chunk == 4
    assert plan_for(CPU, Execution(threads=8), 20, 32).chunk == 64


def test_what_is_set_is_what_is_planned():
    assert plan_for(CPU, Execution(mode="loop", chunk=3, threads=5), 20, 4) == Plan("loop", 3, 5)


@pytest.fixture
def two_threads_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_smaller_chunk_leaves_the_threads_of_torch_as_they_are():
    before = torch.get_num_threads()
    with running(Plan("vmap", 2, before + 1, compiled=True)) as runner:
        runner.total(Hungry(1, MemoryError()), Meta({"w": torch.ones(())}, {}), problems.value_tasks(4))
        assert runner.plan.chunk == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_kernels_have_the_threads_of_few_tasks_and_torch_one():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    with running(Plan("vmap", 1, 2, compiled=True)):
        seen.append(torch.get_num_threads())
        with torch_in_their_place():  # a convolution that no kernel computes
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())
    seen.append(torch.get_num_threads())
    with torch_in_their_place():
        seen.append(torch.get_num_threads())
    torch.set_num_threads(before)
    assert seen == [1, 2, 1, 3, 3]


@pytest.mark.usefixtures("two_threads_of_torch")
def test_torch_keeps_to_one_thread_beside_threads_of_ours_and_no_longer():
    with running(Plan("vmap", 2, 2)):
        assert torch.get_num_threads() == 2
    with running(Plan("threads", 1, 2)) as runner:
        assert torch.get_num_threads() == 1
        with pytest.raises(DeviceError):
            runner.total(Hungry(0, MemoryError()), Meta({"w": torch.ones(())}, {}), problems.value_tasks(4))
        assert runner.plan.mode == "vmap"
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


class Hungry:
    """Counts the scores of tasks, and runs out of memory with more than `most` at once."""

    def __init__(self, most, error):
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, meta, tasks):
        size = len(tasks.query.inputs)
        self.sizes.append(size)
        if size > self.most:
            raise self.error
        return meta, Scores(tasks.query.inputs.flatten(1).sum(1), tasks.query.inputs.flatten(1).sum(1))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("mode", ["vmap", "threads"])
def test_out_of_memory_lowers_the_chunk_says_so_and_goes_on(error, mode):
    meta, tasks, said = Meta({"w": torch.ones(())}, {}), problems.value_tasks(8), []
    hungry = Hungry(2, error)
    with running(Plan(mode, 64, 2), said.append) as runner:
        _, scores = runner.total(hungry, meta, tasks)
        assert runner.plan.chunk == 2
        assert torch.equal(scores.loss, tasks.query.inputs.flatten(1).sum(1))
        hungry.sizes.clear()
        runner.total(hungry, meta, tasks)
    assert hungry.sizes == [2, 2, 2, 2]
    assert [line.split(" (")[0] for line in said] == [
        "out of memory; from now on 4 tasks at once",
        "out of memory; from now on 2 tasks at once",
    ]


def test_one_task_that_does_not_fit_is_an_error_with_a_way_out():
    meta, tasks = Meta({"w": torch.ones(())}, {}), problems.value_tasks(4)
    with running(Plan("threads", 4, 2)) as runner, pytest.raises(DeviceError, match=r"gradient=mixed"):
        runner.total(Hungry(0, MemoryError()), meta, tasks)


def test_other_errors_of_a_task_pass_as_they_are():
    meta, tasks = Meta({"w": torch.ones(())}, {}), problems.value_tasks(4)
    with running(Plan("vmap", 4, 2)) as runner, pytest.raises(RuntimeError, match="flawed"):
        runner.total(Hungry(0, RuntimeError("flawed")), meta, tasks)


def test_only_a_gpu_records_and_only_if_it_may():
    assert record_for(CPU, Execution()) is None
    assert record_for(torch.device("cuda"), Execution()) is not None
    assert record_for(torch.device("cuda"), Execution(cuda_graph=False)) is None
