"""Calibrates a learner on validation tasks, and measures its calibration on other tasks."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Answering, Meta, device_of
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.datasets import Part, trains_on_val
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import Runner, running
from metalearn_cli.runtime.run.assembly import evaluation_spec, evaluation_steps, learner_for
from metalearn_cli.runtime.run.checkpoint_headers import training_header
from metalearn_cli.runtime.run.evaluation import drawn_together, on_device
from metalearn_cli.runtime.run.promises import Calibration, Observed, Promise, TaskSize, calibrated, measured_promise
from metalearn_cli.runtime.run.session import Session
from metalearn_cli.runtime.run.stored_tensors import meta_of
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint, save

Tick = Callable[[int, int], None]
"""A function that receives the number of episodes done and the number of all episodes."""


class Judge(NamedTuple):
    """A learner that answers each query independently (support statistics), with its Meta, inner steps and runner."""

    learner: Answering
    meta: Meta
    steps: int
    runner: Runner


def sizes(experiment: Experiment, data: Data) -> list[TaskSpec]:
    """The task sizes of `eval.calibrate_shots` (1, 5 and task.shots by default) that the validation part allows.

    If many shots leave too few pictures of a class, a size has five queries or one in place of `eval.queries`.
    """
    spec = evaluation_spec(experiment)
    asked = experiment.eval.calibrate_shots
    shots = sorted({1, 5, spec.shots} if asked is None else set(asked))
    return [size for number in shots if (size := _possible(data, spec._replace(shots=number), experiment)) is not None]


def _possible(data: Data, spec: TaskSpec, experiment: Experiment) -> TaskSpec | None:
    # The samplers say whether a size is possible; dict.fromkeys leaves out what comes twice.
    for queries in dict.fromkeys((spec.queries, min(spec.queries, 5), 1)):
        try:
            data.sampler("val", spec._replace(queries=queries), experiment.eval.seed)
        except (ConfigError, DataError):
            continue
        return spec._replace(queries=queries)
    return None


def calibrations(
    experiment: Experiment, data: Data, judge: Judge, tick: Tick = lambda _done, _all: None
) -> list[Calibration]:
    """A Calibration for each of the `sizes`, from `eval.val_episodes` validation tasks.

    [] for a regression, and if training had the classes of validation.
    """
    if not data.interface.tells_classes_apart or trains_on_val(experiment.dataset):
        return []
    found, count = [], experiment.eval.val_episodes
    every = sizes(experiment, data)
    for number, spec in enumerate(every):

        def told(done: int, before: int = number * count) -> None:
            tick(before + done, count * len(every))

        observed = observe(judge, data, "val", spec, experiment.eval.seed, episodes=count, tick=told)
        # A table whose tasks all have the same classes draws none of them: `classes` is empty.
        found.append(calibrated(observed, TaskSize(*spec, judge.steps, len(data.classes("val")) or spec.ways)))
    return found


def kept_promises(
    known: Sequence[Calibration], data: Data, part: Part, judge: Judge, seed: int, episodes: int
) -> Iterator[Promise]:
    """The measurement of each Calibration in `episodes` tasks of a part; sizes that need a larger part are left out."""
    for calibration in known:
        spec = TaskSpec(calibration.ways, calibration.shots, calibration.queries)
        try:
            yield measured_promise(calibration, observe(judge, data, part, spec, seed, episodes=episodes))
        except (ConfigError, DataError):
            continue


def observe(
    judge: Judge, data: Data, part: Part, spec: TaskSpec, seed: int, episodes: int,
    tick: Callable[[int], None] = lambda _done: None,
) -> Observed:  # fmt: skip
    """The outputs of a learner in tasks 0, 1, ... of a part, for their queries and for pictures of other classes."""
    sampler, others = data.sampler(part, spec, seed), data.strangers(part, spec, seed)
    device = device_of(judge.meta)
    parts, targets, queries = [], [], spec.ways * spec.queries

    def outputs(meta: Meta, tasks: Task) -> Tensor:
        with torch.no_grad():
            return judge.learner.answers(meta, tasks.support, tasks.query.inputs, [judge.steps])[0]

    for numbers in drawn_together(range(episodes), judge.runner):
        tasks = sampler(0, numbers)
        asked = [tasks.query.inputs] + ([] if others is None else [others(0, numbers).support.inputs])
        # Strangers are asked with the queries, so that a task is learned once.
        both = Examples(torch.cat(asked, 1), tasks.query.targets, spec.ways)
        found = judge.runner.chunks(outputs, judge.meta, on_device(Task(tasks.support, both), device))
        parts.append(torch.cat(found).cpu())
        targets.append(tasks.query.targets.cpu())
        tick(numbers[-1] + 1)
    rows = torch.cat(parts)
    rows = rows.where(rows.isfinite().all(-1, keepdim=True), 0.0)  # equal outputs: such a learner prefers no class
    strangers = None if others is None else rows[:, queries:]
    return Observed(rows[:, :queries], torch.cat(targets), strangers, _groups(data, part, spec, seed, tasks=episodes))


def _groups(data: Data, part: Part, spec: TaskSpec, seed: int, *, tasks: int) -> Tensor:
    """The classes [E, W] of tasks 0, 1, ... of a part, or the groups of their rows, numbered as they first appear."""
    numbers, names = dict[str, int](), (data.groups or data.names)(part, spec, seed)
    return torch.tensor([[numbers.setdefault(name, len(numbers)) for name in names(0, task)] for task in range(tasks)])


def calibrate_best(session: Session, tick: Tick = lambda _done, _all: None) -> list[Calibration]:
    """Calibrate the best checkpoint of a run, write the Calibrations into it, and return them.

    If the checkpoint has Calibrations already, it stays as it is. The list is empty if the run has no best checkpoint,
    or no size can be calibrated.
    """
    path, experiment = session.folder.best, session.experiment
    if not path.exists():
        return []
    checkpoint = read_checkpoint(path)
    if known := training_header(checkpoint, path).calibration:
        return known
    # Support statistics, because `finetune` answers each picture by itself; validations may have been transductive.
    learner = learner_for(experiment, session.data.interface, "support")
    meta, steps = meta_of(checkpoint, path, learner, session.device), evaluation_steps(experiment, learner)
    with running(session.plan, precision=experiment.execution.precision) as runner:
        found = calibrations(experiment, session.data, Judge(learner, meta, steps, runner), tick)
    if found:
        header = {**checkpoint.header, "calibration": [one.model_dump(mode="json") for one in found]}
        save(path, Checkpoint(header, checkpoint.tensors))
    return found
