"""Makes the HTML page of a run, and the parts of all pages, from values of runtime/."""

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.cli import tables
from metalearn_cli.cli.promising import worth_tables
from metalearn_cli.cli.signs import clock
from metalearn_cli.errors import ConfigError
from metalearn_cli.nouns import POINT
from metalearn_cli.storage.files.atomic import write_file

if TYPE_CHECKING:
    from metalearn_cli.cli.stopping import Stopper
    from metalearn_cli.report.sections import Looked
    from metalearn_cli.report.web_page import Origin, WebPage
    from metalearn_cli.runtime.run.protocol import Protocol
    from metalearn_cli.runtime.run.session import Session
    from metalearn_cli.runtime.use.episode_answers import Subject
    from metalearn_cli.runtime.use.simpler_learners import Compared
    from metalearn_cli.storage.inputs.downloads import Progress

_FITS = 4  # fitted functions on a page
_CURVES_SECONDS = 4.0  # to draw a page with curves alone


class Made(NamedTuple):
    """The circumstances of a page: the command, its start (`time.monotonic`), whether it is `quiet`, and the folder for
    its figures, if any.
    """

    command: str
    began: float
    quiet: bool
    figures: Path | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.began


class CloseLook(NamedTuple):
    """The parts of a page on the best checkpoint besides its curves.

    `looked`: classes, confusions and episodes. `scores`: the scores of single episodes. `known`: the protocol and the
    results after each inner step on training tasks.
    """

    looked: "Looked | None" = None
    scores: Sequence[float] = ()
    known: "tuple[str, list[dict[str, float]]] | None" = None


def write_training_page(
    session: "Session", title: str, made: Made, stopper: "Stopper", worth: "Sequence[Compared]" = ()
) -> tuple[Path | None, list[str]]:  # fmt: skip
    """Write report.html into the run folder; return its path (None if it was not written) and the parts left out of it.

    The best checkpoint answers some validation episodes again, so that the page can show them. If the run was stopped,
    or is stopped meanwhile, the page has only the curves, which take seconds. An error is a warning here, because a
    finished run must not fail for its page.
    """
    # A run with --max-time must end in time; a signal has no such limit.
    if stopper.signal is None and stopper.left < _CURVES_SECONDS:
        return None, ["report.html"]
    from metalearn_cli.report import charts
    from metalearn_cli.report.web_page import as_html

    path = session.folder.path / "report.html"
    try:
        charts.require_matplotlib("report.html")
        there = session.folder.best.exists()
        seen = _seen(session, made.quiet, stopper) if there else None
        page = _training_page(session, title, made, seen or CloseLook(), worth)
        write_file(path, as_html(page))
    except ConfigError as error:
        if not made.quiet:
            tables.console(stderr=True).print(f"no {error}")
        return None, []
    except Exception as error:
        tables.warn(f"no report.html was written: {error}")
        return None, []
    return path, ["what report.html shows besides curves"] if there and seen is None else []


def _seen(session: "Session", quiet: bool, stopper: "Stopper") -> CloseLook | None:
    """The close look at the best checkpoint; None if the run was stopped before it was complete."""
    if not stopper():
        with suppress(KeyboardInterrupt), stopper.within_time(), tables.bar(quiet) as progress:
            best = _best(session)
            known = _on_training_tasks(session, best)
            return CloseLook(*looked_at(best, session.measured, tables.Stages(progress)), known)
    return None


def _training_page(
    session: "Session", title: str, made: Made, seen: CloseLook, worth: "Sequence[Compared]"
) -> "WebPage":  # fmt: skip
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.report import training
    from metalearn_cli.report.figures import write_figures
    from metalearn_cli.report.sections import ACCURACY, SQUARED_ERROR
    from metalearn_cli.report.web_page import charts_of

    kind = ACCURACY if session.measured.accuracy else SQUARED_ERROR
    experiment, rows = session.experiment, session.folder.rows()
    outer, last = experiment.outer, rows[-1] if rows else None
    facts = [("last report", f"iteration {last['iteration'] if last else 0:,} of {outer.iterations:,}")]
    facts += [("meta-batch", f"{outer.meta_batch_size} tasks"), ("seed", str(experiment.seed))]
    facts += [("steps left out", str(last["skipped"]))] if last and last["skipped"] else []
    digest = "" if session.data.interface.noun == POINT else f", SHA-256 {session.data.sha256[:16]}"
    facts += [("data", f"{experiment.dataset.name}{digest}")]
    run = training.TrainedRun(
        experiment.name, title, kind, rows, str(session.trained), measured=str(session.measured), facts=facts,
        **seen._asdict(), worth=worth_tables(worth),
    )  # fmt: skip
    page = training.training_page(run, origin([("", to_yaml(experiment))], str(session.device), made))
    if made.figures is not None:
        write_figures(made.figures, charts_of(page))
    return page


def _best(session: "Session") -> "Subject":
    """The best checkpoint and the episodes that it was validated on."""
    from metalearn_cli.runtime.data.interface import shown_as
    from metalearn_cli.runtime.run.stored_tensors import meta_of
    from metalearn_cli.runtime.use import episode_answers
    from metalearn_cli.storage.runs import checkpoints

    measured, data, learner = session.measured, session.data, session.validator
    drawn = measured.part, measured.spec, session.experiment.eval.seed
    meta = meta_of(checkpoints.read_checkpoint(session.folder.best), session.folder.best, learner, session.device)
    sampler, names = data.sampler(*drawn), data.names(*drawn)
    shown = shown_as(data, data.interface.preprocessing, *drawn)
    return episode_answers.Subject(
        learner, meta, measured.inner_steps, session.plan, sampler, names=names, table=data.interface.table, **shown
    )


def _on_training_tasks(session: "Session", best: "Subject") -> "tuple[str, list[dict[str, float]]] | None":
    """The protocol and the results of the best checkpoint on tasks of the training classes.

    The tasks have the size of validation tasks. None if the training part is too small for them.
    """
    from metalearn_cli.errors import DataError
    from metalearn_cli.runtime.machine.execution import running
    from metalearn_cli.runtime.run import evaluation
    from metalearn_cli.runtime.run.protocol import evaluation_protocol
    from metalearn_cli.runtime.use import episode_answers

    experiment, count = session.experiment, min(session.experiment.eval.val_episodes, episode_answers.MOST)
    protocol = evaluation_protocol(experiment, session.data.interface, session.validator, "train", count)
    try:
        tasks = session.data.sampler("train", protocol.spec, experiment.eval.seed)
    except (ConfigError, DataError):
        return None
    with running(best.plan) as runner:
        scores = evaluation.scores_of(best.learner, runner, best.meta, tasks, best.steps, episodes=count)
    return str(protocol), [step._asdict() for step in evaluation.summary(scores)]


def looked_at(subject: "Subject", measured: "Protocol", progress: "Progress") -> "tuple[Looked, list[float]]":
    """A close look at the first measured episodes, and the scores of these episodes ([] for a regression)."""
    from metalearn_cli.report.fitting import Fitted
    from metalearn_cli.report.pictures import Episode
    from metalearn_cli.report.sections import Looked
    from metalearn_cli.runtime.use import episode_answers as seen
    from metalearn_cli.runtime.use import regression_examples

    episodes, part = measured.episodes or 0, {"val": "validation"}.get(measured.part, measured.part)
    if subject.learner.objective.name == "mse":
        few = range(min(_FITS, episodes))
        query = subject.sampler(0, [0]).query
        one_number = query.inputs.shape[2:] == query.targets.shape[2:] == (1,)
        fits = [Fitted(*fit) for fit in regression_examples.fitted_functions(subject, few)] if one_number else []
        counts = [
            (count, step._asdict())
            for count, step in regression_examples.by_examples(subject, measured.shots, episodes)
        ]
        return Looked(f"the first {len(few)} of {episodes} {part} episodes", fits=fits, by_examples=counts), []
    few = range(min(seen.MOST, episodes))
    extent = f"in all {episodes}" if len(few) == episodes else f"in the first {len(few)} of {episodes}"
    progress("report", 0, len(few))
    found = seen.answered(subject, len(few), lambda done: progress("report", done, len(few)))
    shown = []
    for number in found.telling():
        names, accuracy = found.names[number], found.accuracies[number]
        answers = found.answers[number].reshape(len(names), -1)
        title = f"Episode {number}: {100 * accuracy:.1f} % right"
        if subject.seen is None:  # rows of a table: there is nothing to be looked at
            continue
        shown.append(Episode(title, names, *seen.episode_pictures(subject, number), answers))
    return Looked(f"{extent} {part} episodes", found.classes(), found.confusions(), shown), found.accuracies


def origin(settings: Sequence[tuple[str, str]], device: str, made: Made) -> "Origin":
    """The origin of a page: settings and command; its date, duration and peak memory; versions and devices."""
    import torch

    from metalearn_cli.report.web_page import Origin
    from metalearn_cli.runtime.machine.inventory import describe_machine
    from metalearn_cli.runtime.machine.memory import peak_bytes

    found: dict[str, Any] = describe_machine()
    rows = [("date", datetime.now().astimezone().isoformat(" ", "seconds"))]
    rows += [("duration", clock(made.seconds))]
    peak = peak_bytes(torch.device(device))
    rows += [] if peak is None else [("peak memory", f"{peak / 1e6:,.0f} MB")]
    rows += [(name, version) for name, version in found["versions"].items() if version]
    rows += [("platform", found["platform"]), ("device", device)]
    rows += [("cpu", f"{found['cpu']['name']}, {found['cpu']['capability']}, {found['cpu']['cores']} cores")]
    rows += [("cuda device", each["name"]) for each in found["cuda"]["devices"]]
    return Origin(settings, rows, made.command)


def command() -> str:
    """The running command as a line for a shell."""
    return shlex.join(["metalearn", *sys.argv[1:]])
