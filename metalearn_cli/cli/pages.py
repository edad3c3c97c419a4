"""HTML pages of runs and of measurements: what runtime found, in the words that report writes."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import tables
from metalearn_cli.errors import ConfigError
from metalearn_cli.storage.atomic import write_file
from metalearn_cli.storage.delivery import deliver

if TYPE_CHECKING:
    from metalearn_cli.cli.stopping import Stopper
    from metalearn_cli.report.sections import Looked
    from metalearn_cli.report.testing import Measured
    from metalearn_cli.runtime.episodes import Subject
    from metalearn_cli.runtime.session import Session
    from metalearn_cli.runtime.testing import Tested
    from metalearn_cli.storage.downloads import Progress

_FITS = 4


def write_training_page(
    session: "Session", title: str, command: str, quiet: bool, stopper: "Stopper"
) -> Path | None:  # fmt: skip
    """The run folder has a report.html, whose path this is; None where there is none.

    The best checkpoint answers some validation episodes again, to be looked at, unless a signal has come, or comes in
    the meantime: the curves alone take no time. What goes wrong is a warning: a page is no reason for a finished run to
    fail.
    """
    try:
        with stopper.abandonable():
            return _written(session, title, command, quiet, look=stopper.signal is None)
    except KeyboardInterrupt:
        return _written(session, title, command, quiet, look=False)


def _written(session: "Session", title: str, command: str, quiet: bool, look: bool) -> Path | None:
    from metalearn_cli.report import charts

    path = session.folder.path / "report.html"
    try:
        charts.require_matplotlib("report.html")
        with tables.bar(quiet) as progress:
            content = _training_page(session, title, command, tables.Stages(progress) if look else None)
        write_file(path, content)
    except ConfigError as error:
        if not quiet:
            tables.console(stderr=True).print(f"no {error}")
        return None
    except Exception as error:
        tables.warn(f"no report.html was written: {error}")
        return None
    return path


def _training_page(session: "Session", title: str, command: str, look: "Progress | None") -> bytes:
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.report import training
    from metalearn_cli.report.sections import ACCURACY, SQUARED_ERROR, Origin

    kind = ACCURACY if session.data.interface.tells_classes_apart else SQUARED_ERROR
    experiment, rows = session.experiment, session.folder.rows()
    looked: Looked | None = None
    scores: list[float] = []
    known: tuple[int, list[dict[str, float]]] = (0, [])
    if look is not None and session.folder.best.exists():
        best = _best(session)
        known = _on_training_tasks(session, best)
        looked, scores = _looked(best, experiment.eval.val_episodes, "validation", look)
    outer, last = experiment.outer, rows[-1] if rows else None
    facts = [("last report", f"iteration {last['iteration'] if last else 0:,} of {outer.iterations:,}")]
    facts += [("meta-batch", f"{outer.meta_batch_size} tasks"), ("seed", str(experiment.seed))]
    facts += [("steps left out", str(last["skipped"]))] if last and last["skipped"] else []
    pictures = f", SHA-256 {session.data.sha256[:16]}" if session.data.interface.preprocessing else ""
    facts += [("data", f"{experiment.dataset.name}{pictures}")]
    run = training.Run(experiment.name, title, kind, rows, experiment.eval.val_episodes, facts, looked, scores, known)
    settings = [("", to_yaml(experiment))]
    return training.training_page(run, Origin(settings, environment(str(session.device)), command))


def write_testing_page(
    path: Path, checkpoints: Sequence[Path], results: "Sequence[Tested]", compared: Sequence[Mapping[str, float]],
    note: str | None, quiet: bool,
) -> None:  # fmt: skip
    """`path` is the page of what was measured: of one checkpoint closely, or of several side by side."""
    from metalearn_cli.report import testing
    from metalearn_cli.report.sections import ACCURACY, SQUARED_ERROR, Origin

    kind = ACCURACY if results[0].accuracy else SQUARED_ERROR
    measured = [_measured(checkpoint, one) for checkpoint, one in zip(checkpoints, results, strict=True)]
    names = list(map(tables.named, checkpoints, results)) if len(results) > 1 else [""]
    settings = [(name, one.settings) for name, one in zip(names, results, strict=True)]
    device = str(next(iter(results[0].subject.meta.params.values())).device)
    came_from = Origin(settings, environment(device), command())
    if len(results) == 1:
        with tables.bar(quiet) as progress:
            looked, _ = _looked(results[0].subject, results[0].episodes, results[0].part, tables.Stages(progress))
        content = testing.testing_page(measured[0], kind, looked, came_from)
    else:
        differences = [testing.Difference(one["difference"], one["ci95"], int(one["episodes"])) for one in compared]
        content = testing.comparison_page(measured, kind, differences, [note] if note else [], came_from)
    deliver(path, content)


def _measured(checkpoint: Path, one: "Tested") -> "Measured":
    from metalearn_cli.report.testing import Measured

    title = tables.title(one).replace("\n", "; ")
    steps = [step._asdict() for step in one.steps]
    lost = f", {one.lost} of them with answers that are not finite" if one.lost else ""
    extent = f"{one.episodes} {one.part} episodes{lost}"
    name, files = tables.named(checkpoint, one), [str(path) for path in one.members]
    return Measured(name, title, extent, steps, one.scores.tolist(), one.fingerprint, files)


def _best(session: "Session") -> "Subject":
    """The best checkpoint and the episodes that it was validated on."""
    from metalearn_cli.runtime import assembly, episodes
    from metalearn_cli.runtime.state import meta_of
    from metalearn_cli.storage import checkpoints

    experiment, data, learner = session.experiment, session.data, session.validator
    spec, seed = assembly.evaluation_spec(experiment), experiment.eval.seed
    meta = meta_of(checkpoints.load(session.folder.best), session.folder.best, learner, session.device)
    steps = assembly.evaluation_steps(experiment, learner)
    sampler, names = data.sampler("val", spec, seed), data.names("val", spec, seed)
    return episodes.Subject(learner, meta, steps, session.plan, sampler, names, data.interface.preprocessing)


def _on_training_tasks(session: "Session", best: "Subject") -> tuple[int, list[dict[str, float]]]:
    """How the best checkpoint adapts to so many tasks like those of the validation, from the training part.

    None where that part cannot give such tasks.
    """
    from metalearn_cli.errors import DataError
    from metalearn_cli.runtime import assembly, episodes, evaluation
    from metalearn_cli.runtime.execution import running

    experiment, count = session.experiment, min(session.experiment.eval.val_episodes, episodes.MOST)
    try:
        tasks = session.data.sampler("train", assembly.evaluation_spec(experiment), experiment.eval.seed)
    except (ConfigError, DataError):
        return 0, []
    with running(best.plan) as runner:
        scores = evaluation.evaluate(best.learner, runner, best.meta, tasks, best.steps, count)
    return count, [step._asdict() for step in evaluation.summary(scores)]


def _looked(subject: "Subject", episodes: int, part: str, progress: "Progress") -> "tuple[Looked, list[float]]":
    """What there is to see in the first of so many episodes, and the scores of those that were looked at."""
    from metalearn_cli.report.pictures import Episode
    from metalearn_cli.report.sections import Fitted, Looked
    from metalearn_cli.runtime import episodes as seen

    if subject.seen is None:
        few = range(min(_FITS, episodes))
        query = subject.sampler(0, [0]).query
        one_number = query.inputs.shape[2:] == query.targets.shape[2:] == (1,)
        fits = [Fitted(*fit) for fit in seen.fits(subject, few)] if one_number else []
        return Looked(f"the first {len(few)} of {episodes} {part} episodes", fits=fits), []
    few = range(min(seen.MOST, episodes))
    extent = f"in all {episodes}" if len(few) == episodes else f"in the first {len(few)} of {episodes}"
    progress("report", 0, len(few))
    found = seen.answered(subject, len(few), lambda done: progress("report", done, len(few)))
    shown = []
    for number in found.telling():
        names, accuracy = found.names[number], found.accuracies[number]
        answers = found.answers[number].reshape(len(names), -1)
        title = f"Episode {number}: {100 * accuracy:.1f} % right"
        shown.append(Episode(title, names, *seen.shown(subject, number), answers))
    return Looked(f"{extent} {part} episodes", found.classes(), found.confusions(), shown), found.accuracies


def environment(device: str) -> list[tuple[str, str]]:
    """What the numbers were made with."""
    from metalearn_cli.runtime.machine import describe

    found: dict[str, Any] = describe()
    rows = [(name, version) for name, version in found["versions"].items() if version]
    rows += [("platform", found["platform"]), ("device", device)]
    rows += [("cpu", f"{found['cpu']['name']}, {found['cpu']['capability']}, {found['cpu']['cores']} cores")]
    rows += [("cuda device", each["name"]) for each in found["cuda"]["devices"]]
    return rows


def command() -> str:
    """The command that is running, as a line for a shell."""
    return shlex.join(["metalearn", *sys.argv[1:]])
