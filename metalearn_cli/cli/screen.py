"""The screen of `train`, from the reading of the data to the last row."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from metalearn_cli.cli import banner, summary, tables
from metalearn_cli.cli.live import Live
from metalearn_cli.cli.rows import Course
from metalearn_cli.cli.stopping import Stopper
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.run.reports import Report
from metalearn_cli.runtime.run.session import Session
from metalearn_cli.runtime.run.state import State
from metalearn_cli.runtime.run.training import Watch


class Screen:
    """A bar while the data are read, then the banner, then rows above a moving line; `reports` are those so far.

    From the start of the run on: `session`, `state`, and `came_from`, the iteration at which it was resumed. After its
    end: `promised`, the calibrations of its best checkpoint, which took `calibrating_took` seconds.
    """

    session: Session
    state: State
    came_from: int | None

    def __init__(self, quiet: bool, verbose: bool, stopper: Stopper) -> None:
        self._quiet, self._verbose, self._stopper = quiet, verbose, stopper
        self._bars = ExitStack()
        self.reports: list[Report] = []
        self.promised: Sequence[Calibration] = ()
        self.calibrating_took = 0.0

    def __enter__(self) -> "Screen":
        self._progress = self._bars.enter_context(tables.bar(self._quiet))
        return self

    def __exit__(self, *_raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bars.close()

    def watch(self) -> Watch:
        """The callbacks that show a training on this screen, and that stop it."""
        stopper = self._stopper
        return Watch(
            stop=stopper,
            tick=lambda iteration: self._live.tick(iteration),
            say=lambda line: tables.warn(line, self._progress),
            abandonable=stopper.abandonable,
            fits=stopper.fits,
            within_time=stopper.within_time,
            stages=tables.Stages(self._progress),
            begin=self._begin,
            signalled=stopper.signalled,
            before_the_end=stopper.before_the_end,
            calibrated=self._calibrated,
            at_the_end=lambda *moved: self._live.at_the_end(*moved),
        )

    def report(self, report: Report) -> None:
        """Print the row of a report."""
        self._live.report(report)
        self.reports.append(report)

    def _begin(self, session: Session, state: State) -> None:
        self._bars.close()
        self.session, self.state, self.came_from = session, state, state.iteration or None
        if not self._quiet:
            lines = [*banner.banner_lines(session), banner.extent(session, state.iteration)]
            lines += [f"{session.plan}, data {session.data.sha256[:16]}"] if self._verbose else []
            tables.console(stderr=True).print("\n".join(lines))
        experiment = session.experiment
        course = Course(state.iteration, experiment.outer.iterations, session.measured)
        before = [row.steps[-1].score for row in summary.validations(session)]
        self._progress = self._bars.enter_context(tables.bar(self._quiet, self._interrupted))
        tasks = experiment.outer.meta_batch_size
        self._live = Live(self._progress, course, experiment.eval.validates, tasks, before)

    def _calibrated(self, promised: Sequence[Calibration], seconds: float) -> None:
        self.promised, self.calibrating_took = promised, seconds

    def _interrupted(self) -> str:
        return "" if self._stopper.signal is None else "stopping"
