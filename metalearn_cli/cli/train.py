"""`metalearn train`: an experiment from its file to checkpoints."""

import shlex
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from metalearn_cli.cli import banner, pages, tables
from metalearn_cli.cli.live import Live
from metalearn_cli.cli.options import Config, Device, Figures, Json, Overrides, Quiet, Verbose, seconds_in
from metalearn_cli.cli.outputs import require_figures
from metalearn_cli.cli.presence import run_to_resume
from metalearn_cli.cli.rows import Course
from metalearn_cli.cli.stopping import Stopper
from metalearn_cli.runtime.machine import ranks
from metalearn_cli.version import own_version

if TYPE_CHECKING:
    from torch import device

    from metalearn_cli.cli.summary import Outcome
    from metalearn_cli.experiment import Experiment
    from metalearn_cli.runtime.machine.distributed import Group
    from metalearn_cli.runtime.run.reports import Report
    from metalearn_cli.runtime.run.session import Session
    from metalearn_cli.runtime.run.state import State
    from metalearn_cli.storage.runs.sinks import Sink

EPILOG = (
    "CONFIG is a path or the name of a config that ships with metalearn: quickstart, sinusoid, omniglot/5way1shot, "
    "...; with --resume the folder of a run will do. `metalearn train list` prints all names; `metalearn train NAME "
    "--dry-run > mine.yaml` copies one."
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
    figures: Figures = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Meta-train a learner.

    Validation picks the best checkpoint; the test split is never touched.
    """
    from metalearn_cli import experiment as experiments

    if config == "list" and not Path(config).exists():
        if json:
            tables.print_json({"configs": list(experiments.shipped())})
        else:
            print("\n".join(experiments.shipped()))  # noqa: T201
        return
    quiet = quiet or not ranks.leads()
    config, run_dir = run_to_resume(config, run_dir, resume)
    require_figures(figures)
    started, seconds = time.monotonic(), seconds_in(max_time)
    if not quiet and (Path(config).exists() or config in experiments.shipped()):
        tables.console(stderr=True).print(f"metalearn {own_version()}: train {config}")
    with tables.loading(quiet):
        experiment = experiments.load(config, overrides or [])
        from metalearn_cli.runtime.run import training  # noqa: F401  (torch comes with it, if it has not come before)
    again = [config, *(part for one in overrides or [] for part in ("--set", one))]
    again += ["--run-dir", str(run_dir)] if run_dir else []
    for_others = ["train", *again, "--device", device, "--quiet", *(["--resume"] if resume else [])]
    again += ["--figures", str(figures)] if figures else []
    call = Call(shlex.join(again), for_others, json, quiet, verbose, started, figures)
    if dry_run:
        from metalearn_cli.cli.dry_run import dry_run as tell

        tell(experiment, device, call.again, json, quiet)
        return
    folder = run_dir or Path("runs") / experiment.name
    _run(experiment, folder, resume, device, Stopper(seconds, started), call)


class Call(NamedTuple):
    """How the command was called, as far as what it prints depends on it; `for_others`, what other processes run."""

    again: str
    for_others: list[str]
    json: bool
    quiet: bool
    verbose: bool
    started: float
    figures: Path | None


def _run(experiment: "Experiment", path: Path, resume: bool, device: str, stopper: Stopper, call: Call) -> None:
    from metalearn_cli.runtime.machine import distributed, processes
    from metalearn_cli.runtime.run import assembly

    place = distributed.own_device(assembly.device_named(device))
    try:
        with processes.beside(experiment.execution.processes, call.for_others, place, stopper.signalled) as end_others:
            stopper.before_the_end(end_others)
            with distributed.joined(place, stopper.signalled, tables.warn) as group:
                own = call if group.leads else call._replace(json=False, quiet=True)
                _run_in(group, place, experiment, path, resume, stopper, own)
    except KeyboardInterrupt:
        raise typer.Exit(128 + (stopper.signal or signal.SIGINT)) from None


def _run_in(
    group: "Group", place: "device", experiment: "Experiment", path: Path, resume: bool, stopper: Stopper, call: Call
) -> None:
    from metalearn_cli.cli import summary
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime.data import opening
    from metalearn_cli.runtime.run import model_card, settings_without_effect, sink_feed, training
    from metalearn_cli.runtime.run import session as sessions
    from metalearn_cli.storage.runs import run_folder, sinks

    openers, say = sinks.found(experiment.sinks), tables.warn if group.leads else lambda _line: None
    with group.leader_first(), tables.bar(call.quiet) as progress:
        data = opening.open_data(experiment, None, tables.Stages(progress), device=place)
    resume |= ranks.restarted()
    with run_folder.opened(path, resume) if group.leads else nullcontext(run_folder.RunFolder(path)) as folder:
        session = sessions.open_session(experiment, folder, data, place, group, say)
        state = sessions.start(session, resume, say)
        came_from = state.iteration or None
        if group.leads:
            folder.keep_config(to_yaml(experiment))
            settings_without_effect.tell(session, tables.warn)
        if not call.quiet:
            lines = [*banner.lines(session), banner.extent(session, state.iteration)]
            lines += [f"{session.plan}, data {data.sha256[:16]}"] if call.verbose else []
            tables.console(stderr=True).print("\n".join(lines))
        run = sinks.Run(folder.path, experiment.name, sinks.settings_of(experiment)) if group.leads else None
        with sinks.opened(openers, run, tables.warn) as receivers:
            sink_feed.show_episode(session, state.iteration, receivers)
            reports = _reports(session, state, receivers, stopper, call.quiet)
            sink_feed.tell_result(state, reports, receivers)
    if group.leads:
        model_card.write_card(session, tables.warn)
        made = pages.Made(f"metalearn train {call.again}", call.started, call.quiet, call.figures)
        page, not_on_it = pages.write_training_page(session, banner.title(session), made, stopper)
        missing = [f"the validation of iteration {state.iteration}"] if training.report_is_due(session, state) else []
        drawn = call.figures if page is not None else None
        seconds, left_out = made.seconds, [*missing, *not_on_it]
        outcome = summary.Outcome(session, state.iteration, reports[-1:], seconds, page, drawn, left_out)
        _finish(outcome, came_from, state.reported, stopper, call)


def _reports(session: "Session", state: "State", sinks: "list[Sink]", stopper: Stopper, quiet: bool) -> "list[Report]":
    """Train to the end or to a stop, printing a row for each report."""
    from metalearn_cli.cli import summary
    from metalearn_cli.runtime.machine import execution
    from metalearn_cli.runtime.run import training

    experiment = session.experiment
    course = Course(state.iteration, experiment.outer.iterations, session.measured)
    before = [row.steps[-1].score for row in summary.validations(session)]
    reports: list[Report] = []

    def interrupted() -> str:
        return "" if stopper.signal is None else "stopping"

    with tables.bar(quiet, interrupted) as progress:

        def say(line: str) -> None:
            if session.group.leads:
                tables.warn(line, progress)

        live = Live(progress, course, experiment.eval.validates, experiment.outer.meta_batch_size, before)
        watch = training.Watch(sinks, stopper, live.tick, say, stopper.abandonable, stopper.fits, stopper.within_time)
        record = execution.record_for(session.device, experiment.execution)
        with execution.running(state.plan, say, record, experiment.execution.precision) as runner:
            for report in training.train(session, runner, state, watch):
                live.report(report)
                reports.append(report)
    return reports


def _finish(outcome: "Outcome", came_from: int | None, reported: int, stopper: Stopper, call: Call) -> None:
    from metalearn_cli.cli import summary

    try:
        if call.json:
            tables.print_json(summary.fields(outcome) | {"resumed_from": came_from})
        else:
            summary.show(outcome)
        quiet = call.quiet and stopper.signal is None
        if outcome.left_out and not call.quiet:
            why = "--max-time is over" if stopper.signal is None else "it was stopped"
            tables.console(stderr=True).print(f"left out, as {why}: {'; '.join(outcome.left_out)}; --resume makes it")
        if reported < outcome.session.experiment.outer.iterations:
            tables.hint(f"metalearn train {call.again} --resume", quiet)
        else:
            tables.hint(f"metalearn eval --checkpoint {shlex.quote(str(outcome.checkpoint))}", quiet)
    finally:  # also where nobody reads the result any more
        if stopper.signal is not None:
            raise typer.Exit(128 + stopper.signal)
