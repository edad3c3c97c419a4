"""Opens the session of a run (learner, data, plan), starts or resumes its state, and writes its checkpoints."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from metalearn_cli.core.meta import Learner
from metalearn_cli.datasets import trains_on_val
from metalearn_cli.errors import ConfigError, RunError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.pixels import CPU
from metalearn_cli.runtime.data.sampling import Sampler
from metalearn_cli.runtime.machine.compiled import Compiling
from metalearn_cli.runtime.machine.distributed import ALONE, Group
from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.machine.numerics import differences, ground
from metalearn_cli.runtime.run.assembly import (
    evaluation_spec,
    evaluation_statistics,
    learner_for,
    plan_of,
    training_spec,
)
from metalearn_cli.runtime.run.closed_form_fit import first_meta
from metalearn_cli.runtime.run.outer_step import leaves
from metalearn_cli.runtime.run.protocol import Protocol, evaluation_protocol, training_protocol
from metalearn_cli.runtime.run.reports import Report, row
from metalearn_cli.runtime.run.state import State, checkpoint_of, fresh, restored
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.runs.checkpoints import Checkpoint, save
from metalearn_cli.storage.runs.recovery import newest
from metalearn_cli.storage.runs.run_folder import RunFolder


class Session(NamedTuple):
    """The fixed parts of a run; nothing here changes while it runs.

    `validator`: the learner with the statistics of validations; `learner` has those of training. `trained`: the
    protocol of the training loss; `measured`: that of validations.
    """

    experiment: Experiment
    data: Data
    learner: Learner
    validator: Learner
    plan: Plan
    device: torch.device
    folder: RunFolder
    group: Group
    trained: Protocol
    measured: Protocol


def open_session(
    experiment: Experiment,
    folder: RunFolder,
    data: Data,
    device: torch.device,
    group: Group = ALONE,
    progress: Progress = lambda *_moved: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Session:
    """The session of a run of the experiment; `say` gets remarks on the learner and on data that are left out.

    `progress` hears it if kernels are compiled, which takes some seconds.

    Raises ConfigError or DataError if tasks cannot be drawn, or not be shared out to the processes of the group.
    """
    _require_shares(experiment, group)
    group.require_same("data", data.sha256)
    spec, interface = training_spec(experiment), data.interface
    # These samplers are made only for their errors, so that a mistake is known before hours of training.
    data.sampler("train", spec, experiment.seed)
    data.sampler("val", evaluation_spec(experiment), experiment.eval.seed)
    for line in _remarks(experiment, data):
        say(line)
    compiling = Compiling(progress, say) if device.type == "cpu" else None
    validator = learner_for(experiment, interface, evaluation_statistics(experiment), compiling)
    training_sampler(experiment, data, validator)  # for its errors alone, too
    measured = evaluation_protocol(experiment, interface, validator, "val", experiment.eval.val_episodes)
    _require_ways(experiment, validator)
    learner = learner_for(experiment, interface, experiment.task.statistics)
    for line in learner.traits.remarks:
        say(line)
    return Session(
        experiment, data, learner, validator,
        plan=plan_of(experiment, interface, device, group.size, learner.traits.compiled),
        device=device,
        folder=folder,
        group=group,
        trained=training_protocol(experiment, interface, learner),
        measured=measured,
    )  # fmt: skip


def _remarks(experiment: Experiment, data: Data) -> Iterator[str]:
    """Lines on groups that tasks leave out, and on a validation of classes that are trained on."""
    left_out = data.left_out("train", training_spec(experiment)), data.left_out("val", evaluation_spec(experiment))
    yield from filter(None, left_out)
    if trains_on_val(experiment.dataset):
        yield (
            "dataset.trainval: validation is on classes that are trained on, so its accuracy says nothing about new "
            "classes; `metalearn eval` tests on those"
        )


def _require_shares(experiment: Experiment, group: Group) -> None:
    tasks = experiment.outer.meta_batch_size
    if tasks < group.size:
        raise ConfigError(
            f"outer.meta_batch_size: found {tasks}, expected a task or more for each of {group.size} processes"
        )


def _require_ways(experiment: Experiment, validator: Learner) -> None:
    if validator.traits.ways not in (None, evaluation_spec(experiment).ways):
        raise ConfigError(
            f"eval.ways: found {experiment.eval.ways}, but {experiment.algorithm.name} is tied to the "
            f"{experiment.task.ways} classes of task.ways"
        )


def session_for(
    experiment: Experiment,
    path: Path,
    *,
    data_dir: Path | None = None,
    device: torch.device = CPU,
    progress: Progress = lambda *_moved: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Session:
    """The session of a run into `path` by this process alone, with its data opened; no file is written there."""
    data = open_data(experiment, data_dir, progress, device=device)
    return open_session(experiment, RunFolder(path), data, device, progress=progress, say=say)


def training_sampler(experiment: Experiment, data: Data, learner: Learner) -> Sampler:
    """The sampler of training tasks. For a learner that trains without tasks (only the baselines) its targets are
    numbers of training classes.

    Raises ConfigError or DataError if such tasks cannot be drawn from the data.
    """
    spec = training_spec(experiment)
    tasks = data.sampler("train", spec, experiment.seed)
    if learner.traits.classes is None:
        return tasks
    if data.numbered is None:
        raise ConfigError(f"algorithm.name: {experiment.algorithm.name} trains on one dataset, not on a mixture")
    return data.numbered(spec, experiment.seed, learner.traits.classes)


def start(session: Session, resume: bool, say: Callable[[str], None] = lambda _line: None) -> State:
    """The state to train from: a new one, or with `resume` that of the run's newest whole checkpoint, if it has one.

    `say` gets a line if a checkpoint is damaged, or if this machine may round sums differently than the one before.

    Raises ConfigError or CheckpointError if the checkpoint does not fit the session, RunError if the disk is full.
    """
    folder, experiment, group = session.folder, session.experiment, session.group
    with group.leader_first():  # it may rename a damaged last.pt, and the others must see the result
        found = newest(folder, say) if resume else None
    if found is None:
        meta = first_meta(experiment, session.learner, session.data, session.device)
        state = fresh(experiment, meta, session.plan)
    else:
        path, checkpoint = found
        fixed = experiment, session.data, session.learner, session.device, session.plan
        state = restored(checkpoint, path, *fixed)
        if changed := differences(checkpoint.header["ground"], _ground(session, state)):
            say(f"the last bits may differ from those of a run that never stopped ({changed})")
    group.require_same("checkpoints", state.iteration)
    if group.leads:
        folder.forget_after(state.iteration)
        folder.keep_only([checkpoint.iteration for checkpoint in state.kept])
        checkpoint_bytes = 3 * sum(value.nbytes for value in leaves(state.meta).values())  # Adam has two more of each
        folder.require_room(checkpoint_bytes, experiment.checkpoint.keep_best)
    return state


def keep_last(session: Session, state: State) -> None:
    """Write the state to last.pt, whose old content becomes previous.pt. Only the leading process writes."""
    if session.group.leads:
        with _told(session.folder):
            save(session.folder.last, _checkpoint(session, state), predecessor=session.folder.previous)


def keep_report(session: Session, report: Report, state: State) -> None:
    """Write the report to metrics.jsonl and the state to last.pt; also to best.pt if it is the best so far, and to
    best-ITERATION.pt if it is among `state.kept`. Only the leading process writes.

    Files of checkpoints that are no longer kept are deleted last, so that last.pt never names a file that is missing.
    """
    folder, kept = session.folder, [checkpoint.iteration for checkpoint in state.kept]
    if session.group.leads:
        with _told(folder):
            folder.append(row(report))
            if report.best:
                save(folder.best, _checkpoint(session, state))
            if state.iteration in kept:
                save(folder.kept(state.iteration), _checkpoint(session, state))
    keep_last(session, state)
    if session.group.leads:
        with _told(folder):
            folder.keep_only(kept)


@contextmanager
def _told(folder: RunFolder) -> Iterator[None]:
    """Inside the block, the message of a RunError also names the checkpoint from which the run can continue."""
    try:
        yield
    except RunError as error:
        kept = f"; {folder.last} is whole, go on from it with --resume" if folder.last.exists() else ""
        raise RunError(f"{error}{kept}") from error


def _checkpoint(session: Session, state: State) -> Checkpoint:
    return checkpoint_of(session.experiment, session.data, state, _ground(session, state))


def _ground(session: Session, state: State) -> dict[str, str | int]:
    return ground(state.plan, session.device, session.group.size, session.learner.traits.compiled)
