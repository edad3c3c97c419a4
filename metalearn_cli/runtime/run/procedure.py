"""The complete training procedure, from an experiment to its checkpoints: what the command `train` runs."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from metalearn_cli.experiment import Experiment, to_yaml
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.machine import distributed, processes, ranks
from metalearn_cli.runtime.machine.distributed import Group
from metalearn_cli.runtime.machine.execution import record_for, running
from metalearn_cli.runtime.run import settings_without_effect
from metalearn_cli.runtime.run.assembly import device_named
from metalearn_cli.runtime.run.calibration_of_runs import calibrate_best
from metalearn_cli.runtime.run.model_card import write_card
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.run.reports import Report
from metalearn_cli.runtime.run.session import Session, open_session, start
from metalearn_cli.runtime.run.sink_feed import show_episode, tell_result
from metalearn_cli.runtime.run.state import State
from metalearn_cli.runtime.run.training import Watch, loop
from metalearn_cli.storage.runs import run_folder, sinks

_log = logging.getLogger("metalearn_cli")


def train(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    watch: Watch | None = None,
) -> Iterator[Report]:
    """Trains an experiment into a run folder and yields a Report after every validation.

    The command `metalearn train` calls this function and prints the reports. It writes config.yaml, metrics.jsonl, the
    checkpoints last.pt and best.pt and a model card to `folder` (by default runs/NAME). Checkpoints are written before
    each yield, so you can leave the loop at any report and continue later with `resume=True`. The function is a
    generator: it does nothing before you ask for the first report. Warnings go to the logger "metalearn_cli", or to
    `watch.say`.

    >>> from metalearn_cli import load_experiment, train
    >>> experiment = load_experiment("quickstart", "outer.iterations=4", "eval.every=2", "eval.val_episodes=8")
    >>> for report in train(experiment, "runs/first"):
    ...     print(report.iteration, len(report.val), 0 <= report.val[-1].score <= 1)
    2 4 True
    4 4 True
    >>> longer = load_experiment("quickstart", "outer.iterations=6", "outer.schedule=constant", "eval.val_episodes=8")
    >>> next(train(longer, "runs/second")).iteration
    6

    With `execution.processes` above 1 it starts further processes; a Python process can do this for only one run.

    Raises ConfigError or DataError if the experiment cannot be trained, RunError if the folder holds a run and `resume`
    is false, and DivergedError at the first step that is not finite.
    """
    path = Path("runs") / experiment.name if folder is None else Path(folder)
    watch, place = watch or Watch(say=_log.warning), distributed.own_device(device_named(device))
    others = partial(_arguments, experiment, path, device, resume)
    with processes.beside(experiment.execution.processes, others, place, watch.signalled) as end_others:
        watch.before_the_end(end_others)
        with distributed.process_group(place, watch.signalled, watch.say) as group:
            yield from _in_group(experiment, path, resume, place, group=group, watch=watch)


def _arguments(experiment: Experiment, path: Path, device: str, resume: bool, shared: Path) -> Sequence[str]:
    """The command line of the other processes of a run. They read the experiment from a file in the folder `shared`."""
    config = shared / "experiment.yaml"
    config.write_text(to_yaml(experiment))
    given = ["train", str(config), "--run-dir", str(path), "--device", device, "--quiet"]
    return [*given, "--resume"] if resume else given


def _in_group(
    experiment: Experiment, path: Path, resume: bool, place: torch.device, *, group: Group, watch: Watch
) -> Iterator[Report]:
    say = watch.say if group.leads else _unheard
    openers = sinks.sink_openers(experiment.sinks)  # a sink that does not exist is an error before the data are read
    with group.leader_first():  # it prepares a generated dataset, and the others find it
        data = open_data(experiment, None, watch.stages, device=place)
    resume |= ranks.restarted()
    with run_folder.open_run(path, resume) if group.leads else nullcontext(run_folder.RunFolder(path)) as folder:
        session = open_session(experiment, folder, data, place, group=group, progress=watch.stages, say=say)
        state = start(session, resume, say)
        if group.leads:
            folder.keep_config(to_yaml(experiment))
            settings_without_effect.tell(session, say)
        watch.begin(session, state)
        run = sinks.Run(folder.path, experiment.name, sinks.settings_of(experiment)) if group.leads else None
        with sinks.open_sinks(openers, run, say) as receivers:
            yield from _reports(session, state, watch._replace(sinks=receivers, say=say))
        if group.leads:
            write_card(session, say, _calibrated(session, state, watch))


def _calibrated(session: Session, state: State, watch: Watch) -> Sequence[Calibration]:
    """The Calibrations of the best checkpoint of a finished run; [] if the run is not finished or its time is over."""
    if state.reported < session.experiment.outer.iterations or watch.stop():
        return []
    begun = time.monotonic()
    try:
        with watch.within_time():
            found = calibrate_best(session, partial(watch.at_the_end, "calibrating"))
    except KeyboardInterrupt:
        if not watch.stop():
            raise
        return []
    watch.calibrated(found, time.monotonic() - begun)
    return found


def _reports(session: Session, state: State, watch: Watch) -> Iterator[Report]:
    """The reports of the loop. Sinks get a picture of an episode before the first report, and the result at the end."""
    execution, last = session.experiment.execution, None
    show_episode(session, state.iteration, watch.sinks)
    record = record_for(session.device, execution)
    with running(state.plan, watch.say, record, execution.precision) as runner:
        for report in loop(session, runner, state, watch):
            yield report
            last = report
    if last is not None:
        tell_result(state, last, watch.sinks)


def _unheard(_line: str) -> None:
    """Drop a message: only the leading process prints it, and the others would repeat it."""
