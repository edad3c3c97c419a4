"""Measures a checkpoint or an ensemble on episodes of a part that training never drew from."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.ensemble import Ensemble, together
from metalearn_cli.core.meta import Learner, Scores
from metalearn_cli.datasets import Part
from metalearn_cli.errors import ConfigError, DivergedError
from metalearn_cli.experiment import Experiment, to_yaml
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.interface import Data, shown_as
from metalearn_cli.runtime.data.sampling import episodes_fingerprint
from metalearn_cli.runtime.machine.execution import plan_for, running
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, Step, lost, narrow, scores_of, summary
from metalearn_cli.runtime.run.promises import Promise
from metalearn_cli.runtime.run.protocol import Protocol, evaluation_protocol
from metalearn_cli.runtime.run.stored_tensors import meta_of
from metalearn_cli.runtime.run.unseen import require_unseen
from metalearn_cli.runtime.use.ensemble_members import EnsembleMember, members
from metalearn_cli.runtime.use.episode_answers import Subject
from metalearn_cli.runtime.use.regression_examples import FamilyResult, by_family, explained_shares, medians
from metalearn_cli.runtime.use.simpler_learners import Compared, answered_alone
from metalearn_cli.storage.inputs.downloads import Progress

_log = logging.getLogger("metalearn_cli")
_MEASURED: dict[str, Part] = {"test": "test", "val": "val"}


class Result(NamedTuple):
    """A measurement of a checkpoint or an ensemble.

    `protocol`: the conditions. `steps`: the results after each inner step. `scores`: the last step's score of each
    episode [episodes].
    `fingerprint`: equal for the same episodes. `stream`: equal if the episodes of the shorter measurement are the first
    ones of the longer. `recipe`: equal for trainings that differ only in their `seed`.
    `settings`: the experiment of the measurement. `subject`: the learner and its tasks, for a closer look.
    `members`: the checkpoints of an ensemble; empty for a single checkpoint.
    `lost`: the number of episodes without a finite loss after the last step.
    `promises`: how well the promises hold, for each size of tasks that it was calibrated for.
    `worth`: the accuracy beside that of learners that learned less (only your own pictures, dataset `folder`).
    `explained`: the median R2 after each inner step (only regression).
    `families`: the result of each family of functions (only the dataset `functions`).

    >>> result = evaluate("runs/cats/checkpoints/best.pt", episodes=4)
    >>> result.algorithm, result.scores.shape
    ('maml', torch.Size([4]))
    """

    algorithm: str
    second_order: bool | None
    protocol: Protocol
    fingerprint: str
    stream: str
    steps: list[Step]
    scores: Tensor
    seed: int
    recipe: str
    settings: str
    subject: Subject
    members: list[Path]
    lost: int
    promises: list[Promise]
    worth: list[Compared]
    explained: Sequence[float] = ()
    families: Sequence[FamilyResult] = ()

    @property
    def label(self) -> str:
        """The words "ensemble of 5 checkpoints", which every score of an ensemble needs; "" for a single checkpoint."""
        count = len(self.members)
        return f"ensemble of {count} checkpoint{'' if count == 1 else 's'}" if count else ""

    @property
    def accuracy(self) -> bool:
        """Whether the score is an accuracy; if not, it is a squared error."""
        return self.protocol.accuracy

    @property
    def averaged(self) -> str:
        """The numbers that an ensemble averages: "logits", or "outputs" for regression."""
        return "logits" if self.accuracy else "outputs"

    @property
    def episodes(self) -> int:
        """The number of episodes."""
        return len(self.scores)


def evaluate(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str = "test",
    episodes: int | None = None,
    until_ci: float | None = None,
    device: str = "auto",
    progress: Progress = lambda *_moved: None,
    say: Callable[[str], None] = _log.warning,
) -> Result:
    """The scores of a checkpoint, or of the ensemble of those in a folder, on episodes 0, 1, ... of a part.

    The command `metalearn eval` calls it for each checkpoint; episode i is the same for all. There are `episodes` of
    them (by default eval.episodes), or fewer where the half-width of the 95 % interval falls to `until_ci` before.

    >>> from metalearn_cli import evaluate
    >>> result = evaluate("runs/cats/checkpoints/best.pt", episodes=20)
    >>> result.episodes, len(result.steps), 0 <= result.steps[-1].score <= 1
    (20, 3, True)

    Raises CheckpointError, DataError or ConfigError if it cannot be measured in this way.
    """
    path = Path(checkpoint)
    if split not in _MEASURED:
        raise ConfigError(f"split: found {split!r}, expected test or val")
    part = _MEASURED[split]
    opened, place = members(path, overrides), assembly.device_named(device)
    data = opening.open_data(opened[0].asked, None, progress, opened[0].interface.preprocessing, place)
    _require_same_inputs(opened[0], data)
    if line := data.left_out(part, assembly.evaluation_spec(opened[0].asked)):
        say(line)
    for one in opened:
        require_unseen(one.checkpoint, one.path, one.trained.dataset, one.asked.dataset, data=data, part=part)
    learners = [_learner(one) for one in opened]
    for line in dict.fromkeys(line for own in learners for line in own.traits.remarks):
        say(line)
    cap = episodes or opened[0].asked.eval.episodes
    protocol = evaluation_protocol(opened[0].asked, opened[0].interface, learners[0], part, cap)
    subject = _subject(path, opened, learners, data, protocol=protocol, place=place)
    scores = _scores(subject, protocol, opened[0].asked, until_ci, progress)
    _require_answers(path, scores)
    result = _result(path, opened, protocol, subject, scores=scores, second_order=learners[0].traits.second_order)
    if not protocol.accuracy:
        shares = explained_shares(opened[0].interface.objective, subject.sampler, scores.score)
        families = (
            [] if data.families is None else by_family(data.families(part, opened[0].asked.eval.seed), scores, shares)
        )
        result = result._replace(explained=medians(shares), families=families)
    promises, worth = answered_alone(opened, subject, data, protocol, progress)
    return result._replace(promises=promises, worth=worth)


def _require_same_inputs(first: EnsembleMember, data: Data) -> None:
    """Raise ConfigError or CheckpointError where the dataset gives other features, or columns, than in training."""
    view, table = first.interface.view, first.interface.table
    if view is not None:
        view.require_same(data.interface.view, first.path)
    if data.interface.table != table:
        told = f"{first.path} was trained on a table with other columns, means or values than this"
        raise ConfigError(f"dataset.title: {told}")


def _subject(
    path: Path, opened: Sequence[EnsembleMember], learners: Sequence[Learner], data: Data, *,
    protocol: Protocol, place: torch.device,
) -> Subject:  # fmt: skip
    """A checkpoint's learner, or all of a folder as an ensemble, with the episodes that it is measured on."""
    experiment, interface, spec = opened[0].asked, opened[0].interface, assembly.evaluation_spec(opened[0].asked)
    metas = [meta_of(one.checkpoint, one.path, own, place) for one, own in zip(opened, learners, strict=True)]
    values, compiled = spec.values(interface.input_shape), any(own.traits.compiled for own in learners)
    ensemble, drawn = path.is_dir(), (protocol.part, spec, experiment.eval.seed)
    return Subject(
        Ensemble(tuple(learners)) if ensemble else learners[0],
        together(metas) if ensemble else metas[0],
        protocol.inner_steps,
        plan_for(place, experiment.execution, values, EPISODES_AT_ONCE, compiled),
        data.sampler(*drawn),
        names=data.names(*drawn),
        table=interface.table,
        **shown_as(data, interface.preprocessing, *drawn),
    )


def _result(
    path: Path, opened: Sequence[EnsembleMember], protocol: Protocol, subject: Subject, *, scores: Scores,
    second_order: bool | None,
) -> Result:  # fmt: skip
    experiment, episodes, single = opened[0].asked, len(scores.score), not path.is_dir()
    return Result(
        algorithm=experiment.algorithm.name,
        second_order=second_order,
        protocol=protocol._replace(episodes=episodes),
        fingerprint=episodes_fingerprint(subject.sampler, episodes),
        stream=episodes_fingerprint(subject.sampler, 1),  # the first episode tells which stream they are drawn from
        steps=summary(scores),
        scores=scores.score[:, -1],
        seed=opened[0].trained.seed,
        recipe=_recipe(opened, single),
        settings=to_yaml(experiment),
        subject=subject,
        members=[] if single else [one.path for one in opened],
        lost=lost(scores)[-1],
        promises=[],
        worth=[],
    )


def _scores(
    subject: Subject, protocol: Protocol, experiment: Experiment, until_ci: float | None, progress: Progress
) -> Scores:
    cap = protocol.episodes or 0  # never None here; only the protocol of training has no episodes

    def enough(scores: Scores) -> bool:
        progress("episodes", scores.score.shape[0], cap)
        return until_ci is not None and narrow(until_ci)(scores)

    with running(subject.plan, precision=experiment.execution.precision) as runner:
        return scores_of(
            subject.learner, runner, subject.meta, subject.sampler, protocol.inner_steps, episodes=cap, enough=enough
        )


def _require_answers(path: Path, scores: Scores) -> None:
    """Raise DivergedError, with the first such inner step, if no episode has a finite loss after the last step."""
    episodes = len(scores.loss)
    by_step = lost(scores)
    if by_step[-1] == episodes:
        step = next(step for step, count in enumerate(by_step) if count == episodes)
        fewer = f"; try eval.inner_steps={step - 1}" if step > 1 else ""
        raise DivergedError(f"{path}: inner step {step}: no answer of {episodes} episodes is finite{fewer}")


def _learner(one: EnsembleMember) -> Learner:
    learner = assembly.learner_for(one.asked, one.interface, assembly.evaluation_statistics(one.asked))
    spec = assembly.evaluation_spec(one.asked)
    if learner.traits.ways not in (None, spec.ways):
        key = "task.ways" if one.asked.eval.ways is None else "eval.ways"
        raise ConfigError(f"{key}: {spec.ways} asked, but {one.path} was trained for {learner.traits.ways} classes")
    return learner


def _recipe(opened: Sequence[EnsembleMember], single: bool) -> str:
    """The experiments of the checkpoints as text, without name, sinks and seed; equal texts are runs of one recipe.

    An ensemble of several seeds keeps them in its text, because it is no single run with a seed to compare.
    """
    own = [to_yaml(one.trained.model_copy(update={"name": "", "seed": 0, "sinks": None})) for one in opened]
    seeds = [one.trained.seed for one in opened]
    return own[0] if single else "\n".join(["ensemble", *map(str, seeds if len(set(seeds)) > 1 else []), *own])
