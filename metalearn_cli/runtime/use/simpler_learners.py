"""Compares a run with simpler learners on the same tasks; each answer is independent of the other queries.

Legend: E episodes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from metalearn_cli.core.calibration import half_width
from metalearn_cli.core.ensemble import Ensemble
from metalearn_cli.core.meta import Answering, Meta, device_of
from metalearn_cli.core.objectives import classification
from metalearn_cli.datasets import Part
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.runtime.data.interface import Data, Interface
from metalearn_cli.runtime.data.sampling import Sampler, TaskSpec
from metalearn_cli.runtime.data.stored_features import beside_pixels
from metalearn_cli.runtime.machine.execution import Runner, running
from metalearn_cli.runtime.run.assembly import evaluation_spec, evaluation_steps, learner_for
from metalearn_cli.runtime.run.calibration_of_runs import Judge, calibrations, kept_promises
from metalearn_cli.runtime.run.closed_form_fit import first_meta
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.run.promises import Promise
from metalearn_cli.runtime.run.protocol import Protocol
from metalearn_cli.runtime.run.session import Session
from metalearn_cli.runtime.run.stored_tensors import meta_of, on
from metalearn_cli.runtime.use.ensemble_members import EnsembleMember
from metalearn_cli.runtime.use.episode_answers import Subject
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.runs.checkpoints import read_checkpoint

SHOTS = (1, 5)
PIXELS, PLAIN, WHITENED, OWN = "nearest pixels", "features, nothing learned", "features, whitened", "this run"
_NOTHING_LEARNED = "algorithm={name: prototypes, shrinkages: []}"
_FROM_THE_CLASSES = "algorithm={name: prototypes}"


class Contender(NamedTuple):
    """A learner in a comparison: its name for tables, its meta-parameters, and its number of inner steps.

    `sampler(size)` draws the tasks of a size as this learner reads them: pixels, or features.
    """

    name: str
    learner: Answering
    meta: Meta
    steps: int
    sampler: Callable[[TaskSpec], Sampler]


class Worth(NamedTuple):
    """The accuracy of a contender and its 95 % half-width over tasks.

    `difference`: the accuracy of the last contender minus this one on the same tasks, with its own half-width.
    """

    name: str
    accuracy: float
    ci95: float
    difference: float
    difference_ci95: float


class Compared(NamedTuple):
    """A comparison on `episodes` tasks of one size, drawn from a part."""

    part: Part
    ways: int
    shots: int
    episodes: int
    rows: Sequence[Worth]


def nearest_pixels(experiment: Experiment, data: Data, part: Part, device: torch.device) -> Contender:
    """The contender that answers with the class whose mean picture is nearest in pixels, also for runs on features."""
    names = ["algorithm.name=nearest", "backbone.name=identity"]
    plain = with_overrides(experiment, [*names, "task.running_statistics=false", "eval.statistics=support"])
    interface, sampler, seen = data.interface, data.sampler, None if data.pictured is None else data.pictured.seen
    if data.pictured is not None and seen is not None:
        interface = Interface((seen.channels, seen.height, seen.width), interface.outputs, classification, seen)
        sampler = data.pictured.sampler
    learner = learner_for(plain, interface, "support")
    draws = partial(_drawn, sampler, part, experiment.eval.seed)
    return Contender(PIXELS, learner, on(learner.init(), device), 0, draws)


def _drawn(sampler: Callable[[Part, TaskSpec, int], Sampler], part: Part, seed: int, spec: TaskSpec) -> Sampler:
    return sampler(part, spec, seed)


def of_features(experiment: Experiment, data: Data, part: Part, device: torch.device) -> Iterator[Contender]:
    """Two contenders that answer with the nearest class mean of frozen features: as they are, and whitened by the
    training classes.

    There are none if the run reads pixels and no features are stored beside them; one that equals the run is left out.
    """
    featured = data if data.interface.view is not None else beside_pixels(experiment, device)
    if featured is None:
        return
    own = experiment.algorithm.name == "prototypes" and experiment.backbone.name == "identity"
    for name, algorithm in ((PLAIN, _NOTHING_LEARNED), (WHITENED, _FROM_THE_CLASSES)):
        if own and name == WHITENED and data.interface.view is not None:
            continue  # it is the run itself
        plain = ["backbone={name: identity}", algorithm, "task.running_statistics=false", "eval.statistics=support"]
        asked = with_overrides(experiment, plain)
        learner = learner_for(asked, featured.interface, "support")
        learned = on(learner.init(), device) if name == PLAIN else first_meta(asked, learner, featured, device)
        yield Contender(name, learner, learned, 0, partial(_drawn, featured.sampler, part, experiment.eval.seed))


def compared(
    contenders: Sequence[Contender], runner: Runner, spec: TaskSpec, part: Part, episodes: int,
    progress: Progress = lambda *_moved: None,
) -> Iterator[Compared]:  # fmt: skip
    """Compare the contenders on the same tasks of a part, with 1 and with 5 shots if the part has enough pictures."""
    for place, shots in enumerate(SHOTS):
        size = spec._replace(shots=shots)
        try:
            samplers = [contender.sampler(size) for contender in contenders]
        except (ConfigError, DataError):
            continue
        scores = []
        for number, (rival, sampler) in enumerate(zip(contenders, samplers, strict=True), place * len(contenders)):
            progress(f"comparing {rival.name}", number, len(SHOTS) * len(contenders))
            result = scores_of(rival.learner, runner, rival.meta, sampler, rival.steps, episodes=episodes)
            scores.append(result.score[:, -1].double())
        # Differences task by task: their interval is much narrower than those of the two accuracies.
        more = [scores[-1] - own for own in scores]
        rows = [
            Worth(rival.name, float(own.mean()), half_width(own), float(gain.mean()), half_width(gain))
            for rival, own, gain in zip(contenders, scores, more, strict=True)
        ]
        yield Compared(part, size.ways, shots, episodes, rows)


def compares(experiment: Experiment) -> bool:
    """Whether a run is compared with simpler learners: only on your own pictures (dataset `folder`)."""
    return experiment.dataset.name == "folder"


def against_others(
    experiment: Experiment, data: Data, own: Contender, runner: Runner, part: Part, episodes: int,
    progress: Progress = lambda *_moved: None,
) -> list[Compared]:  # fmt: skip
    """Compare a run with nearest pixels and with frozen features, on the same tasks of a part."""
    device = device_of(own.meta)
    others = [nearest_pixels(experiment, data, part, device), *of_features(experiment, data, part, device)]
    return list(
        compared([*others, own], runner, evaluation_spec(experiment), part, episodes=episodes, progress=progress)
    )


def of_best(session: Session, progress: Progress = lambda *_moved: None) -> list[Compared]:
    """Compare the best checkpoint of a run on validation tasks.

    [] without a best checkpoint, for other datasets, and if training had the classes of validation.
    """
    experiment, data, best = session.experiment, session.data, session.folder.best
    if not compares(experiment) or not best.exists() or session.measured.trained_on:
        return []
    learner = learner_for(experiment, data.interface, "support")
    meta, episodes = meta_of(read_checkpoint(best), best, learner, session.device), experiment.eval.val_episodes
    draws = partial(_drawn, data.sampler, "val", experiment.eval.seed)
    own = Contender(OWN, learner, meta, evaluation_steps(experiment, learner), draws)
    with running(session.plan, precision=experiment.execution.precision) as runner:
        return against_others(experiment, data, own, runner, "val", episodes=episodes, progress=progress)


def answered_alone(
    opened: Sequence[EnsembleMember], subject: Subject, data: Data, protocol: Protocol,
    progress: Progress = lambda *_moved: None,
) -> tuple[list[Promise], list[Compared]]:  # fmt: skip
    """The measured promises, and the comparison with simpler learners.

    Both use support statistics, with which `finetune` answers each query by itself, also if `eval.statistics` differs.
    """
    first, part = opened[0], protocol.part
    experiment = first.asked
    alone = [learner_for(member.asked, member.interface, "support") for member in opened]
    learner = Ensemble(tuple(alone)) if isinstance(subject.learner, Ensemble) else alone[0]
    few = min(protocol.episodes or 0, experiment.eval.val_episodes)
    with running(subject.plan, precision=experiment.execution.precision) as runner:
        judge = Judge(learner, subject.meta, protocol.inner_steps, runner)
        kept = first.header.calibration if len(opened) == 1 else []
        fitting = [calibration for calibration in kept if calibration.inner_steps == judge.steps]
        known = fitting or calibrations(experiment, data, judge)
        promises = list(kept_promises(known, data, part, judge, experiment.eval.seed, episodes=few))
        if not compares(experiment):
            return promises, []
        own = Contender(
            OWN, learner, subject.meta, judge.steps, partial(_drawn, data.sampler, part, experiment.eval.seed)
        )
        return promises, against_others(experiment, data, own, runner, part, episodes=few, progress=progress)
