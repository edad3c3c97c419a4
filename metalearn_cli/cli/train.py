"""`metalearn train`: an experiment from its file to checkpoints."""

import os
import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from metalearn_cli.cli import pages, tables
from metalearn_cli.cli.live import Live
from metalearn_cli.cli.options import Config, Device, Json, Overrides, Quiet, Verbose, seconds_in
from metalearn_cli.cli.rows import Course
from metalearn_cli.cli.stopping import Stopper
from metalearn_cli.version import own_version

if TYPE_CHECKING:
    from torch import device

    from metalearn_cli.experiment import Experiment
    from metalearn_cli.runtime.distributed import Group
    from metalearn_cli.runtime.reports import Report
    from metalearn_cli.runtime.session import Session
    from metalearn_cli.runtime.state import State
    from metalearn_cli.storage.sinks import Sink

EPILOG = (
    "CONFIG is a path or the name of a config that ships with metalearn: quickstart, sinusoid, omniglot/5way1shot, "
    "... `metalearn train list` prints all names; `metalearn train NAME --dry-run > mine.yaml` copies one."
)


def train(
    config: Config,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run goes; default runs/<name>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    max_time: Annotated[str | None, typer.Option(metavar="TIME", help="Stop cleanly after 90s, 55m, 2h.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the experiment, prove the gradient, stop.")] = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Meta-train a learner.

    Validation picks the best checkpoint; the test split is never touched.
    """
    from metalearn_cli import experiment as experiments

    quiet = quiet or os.environ.get("RANK", "0") != "0"
    if config == "list" and not Path(config).exists():
        if json:
            tables.print_json({"configs": list(experiments.shipped())})
        else:
            print("\n".join(experiments.shipped()))  # noqa: T201
        return
    started, seconds = time.monotonic(), seconds_in(max_time)
    if not quiet and (Path(config).exists() or config in experiments.shipped()):
        tables.console(stderr=True).print(f"metalearn {own_version()}: train {config}")
    with tables.loading(quiet):
        experiment = experiments.load(config, overrides or [])
        from metalearn_cli.runtime import training  # noqa: F401  (torch comes with it, if it has not come before)
    again = [config, *(part for one in overrides or [] for part in ("--set", one))]
    again += ["--run-dir", str(run_dir)] if run_dir else []
    for_others = ["train", *again, "--device", device, "--quiet", *(["--resume"] if resume else [])]
    call = Call(shlex.join(again), for_others, json, quiet, verbose, started)
    if dry_run:
        _dry_run(experiment, device, call)
        return
    folder = run_dir or Path("runs") / experiment.name
    _run(experiment, folder, resume, device, Stopper(seconds), call)


class Call(NamedTuple):
    """How the command was called, as far as what it prints depends on it; `for_others`, what other processes run."""

    again: str
    for_others: list[str]
    json: bool
    quiet: bool
    verbose: bool
    started: float


def _run(experiment: "Experiment", path: Path, resume: bool, device: str, stopper: Stopper, call: Call) -> None:
    from metalearn_cli.runtime import assembly, distributed, processes

    place = distributed.own_device(assembly.device_named(device))
    with processes.beside(experiment.execution.processes, call.for_others, place), distributed.joined(place) as group:
        if not group.leads:
            call = call._replace(json=False, quiet=True)
        _run_in(group, place, experiment, path, resume, stopper, call)


def _run_in(
    group: "Group", place: "device", experiment: "Experiment", path: Path, resume: bool, stopper: Stopper, call: Call
) -> None:
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime import card, distributed, opening, watching
    from metalearn_cli.runtime import session as sessions
    from metalearn_cli.storage import preparation, runs, sinks

    openers = sinks.found(experiment.sinks)
    with group.leader_first(), tables.bar(call.quiet) as progress:
        data = opening.open_data(experiment, preparation.data_folder(None), tables.Stages(progress), device=place)
    resume |= distributed.restarted()
    with runs.opened(path, resume) if group.leads else nullcontext(runs.RunFolder(path)) as folder:
        session = sessions.open_session(experiment, folder, data, place, group)
        state = sessions.start(session, resume, tables.warn if group.leads else lambda _line: None)
        came_from = state.iteration or None
        if group.leads:
            folder.keep_config(to_yaml(experiment))
        if not call.quiet:
            lines = [_title(experiment, session.learner.second_order, place, group.size)]
            lines += [_extent(experiment, state.iteration, path)]
            lines += [f"{session.plan}, data {data.sha256[:16]}"] if call.verbose else []
            tables.console(stderr=True).print("\n".join(lines))
        run = sinks.Run(folder.path, experiment.name, sinks.settings_of(experiment)) if group.leads else None
        with sinks.opened(openers, run, tables.warn) as receivers:
            watching.show_episode(session, state.iteration, receivers)
            reports = _reports(session, state, receivers, stopper, call.quiet)
            watching.tell_result(state, reports, receivers)
    if group.leads:
        card.write_card(session, tables.warn)
        title = _title(experiment, session.learner.second_order, place, group.size).replace("\n", "; ")
        page = pages.write_training_page(session, title, f"metalearn train {call.again}", call.quiet, stopper)
        _finish(session, reports, state, came_from, page, stopper, call)


def _reports(session: "Session", state: "State", sinks: "list[Sink]", stopper: Stopper, quiet: bool) -> "list[Report]":
    """Train to the end or to a stop, printing a row for each report."""
    from metalearn_cli.cli import summary
    from metalearn_cli.runtime import assembly, execution, training

    experiment, accuracy = session.experiment, session.data.interface.tells_classes_apart
    steps, episodes = assembly.evaluation_steps(experiment, session.validator), experiment.eval.val_episodes
    course = Course(state.iteration, experiment.outer.iterations, steps, episodes, accuracy)
    before = [row.steps[-1].score for row in summary.validations(session)]
    reports: list[Report] = []

    def interrupted() -> str:
        return "" if stopper.signal is None else "stopping"

    with tables.bar(quiet, interrupted) as progress:

        def say(line: str) -> None:
            if session.group.leads:
                tables.warn(line, progress)

        live = Live(progress, course, experiment.eval.every, experiment.outer.meta_batch_size, before)
        watch = training.Watch(sinks, stopper, live.tick, say, stopper.abandonable)
        record = execution.record_for(session.device, experiment.execution)
        with execution.running(state.plan, say, record, experiment.execution.precision) as runner:
            for report in training.train(session, runner, state, watch):
                live.report(report)
                reports.append(report)
    return reports


def _finish(
    session: "Session", reports: "list[Report]", state: "State", came_from: int | None, page: Path | None,
    stopper: Stopper, call: Call,
) -> None:  # fmt: skip
    from metalearn_cli.cli import summary

    last = reports[-1] if reports else None
    outcome = summary.Outcome(session, state.iteration, last, time.monotonic() - call.started, page)
    try:
        if call.json:
            tables.print_json(summary.fields(outcome) | {"resumed_from": came_from})
        else:
            summary.show(outcome)
        quiet = call.quiet and stopper.signal is None
        if state.reported < session.experiment.outer.iterations:
            tables.hint(f"metalearn train {call.again} --resume", quiet)
        else:
            tables.hint(f"metalearn eval --checkpoint {shlex.quote(str(outcome.checkpoint))}", quiet)
    finally:  # also where nobody reads the result any more
        if stopper.signal is not None:
            raise typer.Exit(128 + stopper.signal)


def _dry_run(experiment: "Experiment", device: str, call: Call) -> None:
    """Everything but the training: the resolved experiment on stdout, what it would do on stderr."""
    from metalearn_cli.cli import summary
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime import assembly, forecast, opening, proof
    from metalearn_cli.runtime.session import open_session
    from metalearn_cli.storage import preparation, runs, sinks

    sinks.found(experiment.sinks)
    if not call.json:
        print(to_yaml(experiment), end="")  # noqa: T201
    place = assembly.device_named(device)
    with tables.bar(call.quiet) as progress:
        stages = tables.Stages(progress)
        data = opening.open_data(experiment, preparation.data_folder(None), stages, device=place)
        session = open_session(experiment, runs.RunFolder(Path("runs") / experiment.name), data, place)
        stages("timing a few iterations", 0, 1)
        expected = forecast.forecast(session)  # before the proof, whose memory is not the run's
        stages("proving the meta-gradient", 0, 1)
        proved = proof.prove(experiment, data.interface, place)
    second_order, outer = session.learner.second_order, experiment.outer
    parameters = sum(value.numel() for value in session.learner.init().params.values())
    if call.json:
        tables.print_json({
            "experiment": experiment.model_dump(mode="json"), "device": str(place), "parameters": parameters,
            "tasks": outer.iterations * outer.meta_batch_size, "data_sha256": data.sha256,
            "second_order": second_order,
            "proof": {"task_parallel_error": proved.parallel, "finite_difference_error": proved.order},
            "forecast": summary.forecast_fields(expected),
        })  # fmt: skip
        return
    if call.quiet:
        return
    exact = (
        f"{tables.order(second_order).removeprefix(', ') or 'exact'}, finite differences agree to {proved.order:.0e}"
    )
    found = f"first order, {proved.order:.0%} off the true one" if second_order is False else exact
    lines = [
        _title(experiment, second_order, place),
        f"parameters     {parameters:,}",
        f"tasks          {outer.iterations * outer.meta_batch_size:,} in {outer.iterations:,} meta-batches",
        f"data           {data.sha256[:16]}",
        f"task-parallel  equals one task at a time to {proved.parallel:.0e} (float64)",
        f"meta-gradient  {found} (float64)",
        *summary.forecast_lines(expected),
    ]
    tables.console(stderr=True).print("\n".join(lines))
    tables.hint(f"metalearn train {call.again}", quiet=False)


def _extent(experiment: "Experiment", iteration: int, path: Path) -> str:
    outer = experiment.outer
    begin = f", from iteration {iteration:,}" if iteration else ""
    return f"{outer.iterations:,} iterations of {outer.meta_batch_size} tasks{begin}, into {path}"


def _title(experiment: "Experiment", second_order: bool | None, device: object, processes: int = 1) -> str:
    task = experiment.task
    size = f"{task.ways}-way {task.shots}-shot" if task.ways > 1 else f"{task.shots}-shot"
    return (
        f"{experiment.algorithm.name}{tables.order(second_order)}; {experiment.backbone.name} on {device}"
        f"{f' in {processes} processes' if processes > 1 else ''}\n"
        f"{experiment.dataset.name}, {size}, {task.queries} queries, {task.statistics} statistics"
    )
