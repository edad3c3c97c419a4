"""The check of an algorithm."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from metalearn_cli.core.meta import Learner, Meta, Problem, Statistics
from metalearn_cli.core.objectives import classification
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.run.outer_step import leaves
from metalearn_cli.settings import Choice
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint, save
from metalearn_cli.testing import learners, problems
from metalearn_cli.testing.files import Named, checked_settings, module_at


class NotChecked(UserWarning):
    """A warning: something was not checked, because the traits of the file say that it does not hold."""


_FIRST_ORDER = (
    "the meta-gradient was not compared with finite differences, as its Traits say second_order=False; where that is "
    "a setting, check it with second_order=True too"
)


def check_algorithm(module: Named, **settings: Any) -> None:
    """Raise AssertionError with the reason if a module is not an algorithm as this package needs it.

    It checks on random 3-way tasks of pictures, in float64, with norms: tasks at once give the same as one at a time;
    the training loss is the evaluation loss; the meta-gradient is the derivative of this loss (if the traits say
    second_order=False it is not compared, and a warning, NotChecked, says so); with support statistics no query changes
    the answer to another; a checkpoint keeps the names, shapes and values of Meta.

    >>> check_algorithm("metalearn_cli.algorithms.protonet")  # nothing is printed: it is one
    """
    own = module_at(module)
    config = checked_settings(own, settings)
    tasks = problems.picture_tasks(5)
    # The learner with support statistics stands last, so it is the one that the checks after the loop take.
    for statistics in ("transductive", "support"):
        learner, alone = (_built(own, config, statistics, one_by_one) for one_by_one in (False, True))
        meta = problems.double(learner.init())
        learners.require_shapes(learner, meta, tasks)
        learners.require_tasks_at_once_equal_one_at_a_time(learner, alone, meta, tasks)
        if learner.traits.classes is None:  # the baselines train on all classes at once, and are measured on tasks
            learners.require_training_is_measured(learner, meta, tasks)
        if learner.traits.second_order is not False:
            learners.require_derivative(learner, meta, problems.picture_tasks(2))
    if learner.traits.second_order is False:
        warnings.warn(f"{own.__name__}: {_FIRST_ORDER}", NotChecked, stacklevel=2)
    learners.require_no_query_changes_another(learner, meta, tasks)
    if learner.traits.ways is None:
        tied = learners.is_tied_to_its_classes(learner, meta, tasks)
        assert not tied, "Traits.ways is None, any number of classes, but other numbers for them change the answers"
    _require_kept(meta)


def _built(module: ModuleType, config: Choice, statistics: Statistics, one_by_one: bool) -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(problems.smooth_module(), one_by_one=one_by_one)
        learner: Learner = module.build(config, Problem(network, classification, statistics, problems.WAYS))
    return learner


def _require_kept(meta: Meta) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "meta.pt"
        save(path, Checkpoint({"kind": "meta"}, leaves(meta)))
        kept = read_checkpoint(path).tensors
    for name, value in leaves(meta).items():
        assert torch.equal(kept[name], value), f"{name} does not come back from a checkpoint as it was"
