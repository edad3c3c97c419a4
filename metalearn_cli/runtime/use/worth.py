"""What training was worth: several learners on the same tasks, none of whose answers sees another query.

Legend: E episodes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from metalearn_cli.core.ensemble import Ensemble
from metalearn_cli.core.meta import Answering, Meta
from metalearn_cli.datasets import Part
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import Experiment, with_overrides
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import Runner, running
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.assembly import evaluation_spec, learner_for
from metalearn_cli.runtime.run.calibration_of_runs import Judge, calibrations, kept_promises
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.run.promises import Promise
from metalearn_cli.runtime.run.protocol import Protocol
from metalearn_cli.runtime.use.ensemble_members import EnsembleMember
from metalearn_cli.runtime.use.episode_answers import Subject

SHOTS = (1, 5)


class Contender(NamedTuple):
    """A learner by the name that a person reads, with what it has learned and the inner steps that it takes."""

    name: str
    learner: Answering
    meta: Meta
    steps: int


class Worth(NamedTuple):
    """The accuracy of a contender with the half-width of its 95 % interval over tasks, and how much more the last one
    has on the same tasks, with the interval of that difference.
    """

    name: str
    accuracy: float
    ci95: float
    difference: float
    difference_ci95: float


class Compared(NamedTuple):
    """Contenders on E tasks of one size."""

    ways: int
    shots: int
    episodes: int
    rows: Sequence[Worth]


def nearest_pixels(experiment: Experiment, data: Data, device: torch.device) -> Contender:
    """The class whose mean picture is nearest: what nothing learned is worth."""
    names = ["algorithm.name=nearest", "backbone.name=identity"]
    plain = with_overrides(experiment, [*names, "task.running_statistics=false", "eval.statistics=support"])
    learner = learner_for(plain, data.interface, "support")
    meta = Meta(*({name: value.to(device) for name, value in part.items()} for part in learner.init()))
    return Contender("nearest pixels", learner, meta, 0)


def compared(
    contenders: Sequence[Contender], runner: Runner, experiment: Experiment, data: Data, part: Part, episodes: int
) -> Iterator[Compared]:
    """The contenders on the same tasks of a part with 1 and with 5 shots, as far as there are such tasks."""
    for shots in SHOTS:
        spec: TaskSpec = evaluation_spec(experiment)._replace(shots=shots)
        try:
            sampler = data.sampler(part, spec, experiment.eval.seed)
        except (ConfigError, DataError):
            continue
        scores = [
            scores_of(one.learner, runner, one.meta, sampler, one.steps, episodes=episodes).score[:, -1].double()
            for one in contenders
        ]
        rows = [
            Worth(one.name, float(own.mean()), _ci95(own), float((scores[-1] - own).mean()), _ci95(scores[-1] - own))
            for one, own in zip(contenders, scores, strict=True)
        ]
        yield Compared(spec.ways, shots, episodes, rows)


def _ci95(each: torch.Tensor) -> float:
    return float(1.96 * each.std() / math.sqrt(len(each))) if len(each) > 1 else math.inf


def answered_alone(
    opened: Sequence[EnsembleMember], subject: Subject, data: Data, protocol: Protocol, *, place: torch.device
) -> tuple[list[Promise], list[Compared]]:
    """The promises kept, and the comparison with simpler learners, by a learner that answers each query by itself.

    That is how `finetune` answers, whatever statistics the accuracy is measured with.
    """
    first, part = opened[0], protocol.part
    alone = [assembly.learner_for(one.asked, one.interface, "support") for one in opened]
    learner = Ensemble(tuple(alone)) if isinstance(subject.learner, Ensemble) else alone[0]
    few = min(protocol.episodes or 0, first.asked.eval.val_episodes)
    with running(subject.plan, precision=first.asked.execution.precision) as runner:
        judge = Judge(learner, subject.meta, protocol.inner_steps, runner)
        kept = first.header.calibration if len(opened) == 1 else []
        known = [one for one in kept if one.inner_steps == judge.steps] or calibrations(first.asked, data, judge)
        promises = list(kept_promises(known, data, part, judge, first.asked.eval.seed, episodes=few))
        if first.asked.dataset.name != "folder":
            return promises, []
        contenders = [
            nearest_pixels(first.asked, data, place), Contender("this run", learner, subject.meta, judge.steps)
        ]  # fmt: skip
        return promises, list(compared(contenders, runner, first.asked, data, part=part, episodes=few))
