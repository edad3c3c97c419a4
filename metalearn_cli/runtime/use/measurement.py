"""Measures a checkpoint or an ensemble on episodes of a part that training never drew from."""

from collections.abc import Callable, Sequence
from math import isfinite, nan
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from torch import Tensor

from metalearn_cli.core.ensemble import Ensemble, together
from metalearn_cli.core.meta import Learner, Scores
from metalearn_cli.datasets import PARTS, PREPARATION_ONLY, Mixture, Part
from metalearn_cli.errors import CheckpointError, ConfigError, DivergedError
from metalearn_cli.experiment import to_yaml
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.sampling import TaskSpec, fingerprint
from metalearn_cli.runtime.machine.execution import plan_for, running
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, Step, evaluate, lost, narrow, summary
from metalearn_cli.runtime.run.protocol import Protocol, evaluation_protocol
from metalearn_cli.runtime.run.state import meta_of
from metalearn_cli.runtime.use.ensemble_members import Member, members
from metalearn_cli.runtime.use.episode_answers import Subject
from metalearn_cli.settings import Choice
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.runs import checkpoints


class Tested(NamedTuple):
    """The result of a measurement.

    `protocol`: its conditions. `steps`: the results after each inner step. `scores`: the last step's score of each
    episode [episodes].
    `fingerprint`: equal for the same episodes. `stream`: equal if the episodes of the shorter measurement are the first
    ones of the longer. `recipe`: equal for trainings that differ only in their `seed`.
    `settings`: the experiment of the measurement. `subject`: the learner and its tasks, for a closer look.
    `members`: the checkpoints of an ensemble; empty for a single checkpoint.
    `lost`: the number of episodes without a finite loss after the last step.
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


def tested(
    path: Path, overrides: Sequence[str], split: str, episodes: int | None, until_ci: float | None, device: str,
    progress: Progress, say: Callable[[str], None],
) -> Tested:  # fmt: skip
    """The result for a checkpoint, or for the ensemble in a folder, on episodes 0, 1, ... of a part.

    `say` gets a line for everything unusual in the computation.

    Raises CheckpointError, DataError or ConfigError if it cannot be measured in this way.
    """
    opened = members(path, overrides)
    first, place = opened[0], assembly.device_named(device)
    experiment, interface = first.asked, first.interface
    data = opening.open_data(experiment, None, progress, interface.preprocessing, place)
    part = next(part for part in PARTS if part == split)
    spec = assembly.evaluation_spec(experiment)
    for one in opened:
        _require_unseen(one.path, one.checkpoint, one.trained.dataset, one.asked.dataset, data, part)
    learners = [_learner(one, spec) for one in opened]
    for line in dict.fromkeys(line for own in learners for line in own.traits.remarks):
        say(line)
    cap = episodes or experiment.eval.episodes
    protocol = evaluation_protocol(experiment, interface, learners[0], part, cap)
    sampler, names = data.sampler(part, spec, experiment.eval.seed), data.names(part, spec, experiment.eval.seed)
    plan = plan_for(place, experiment.execution, spec.values(interface.input_shape), EPISODES_AT_ONCE)

    def enough(scores: Scores) -> bool:
        progress("episodes", scores.score.shape[0], cap)
        return until_ci is not None and narrow(until_ci)(scores)

    metas = [meta_of(one.checkpoint, one.path, own, place) for one, own in zip(opened, learners, strict=True)]
    single = not path.is_dir()
    learner, meta = (learners[0], metas[0]) if single else (Ensemble(tuple(learners)), together(metas))
    with running(plan, precision=experiment.execution.precision) as runner:
        scores = evaluate(learner, runner, meta, sampler, protocol.inner_steps, cap, enough)
    _require_answers(path, scores)
    return Tested(
        experiment.algorithm.name, learners[0].traits.second_order, protocol._replace(episodes=len(scores.score)),
        fingerprint(sampler, len(scores.score)), fingerprint(sampler, 1), summary(scores), scores.score[:, -1],
        first.trained.seed, _recipe(opened, single), to_yaml(experiment),
        Subject(learner, meta, protocol.inner_steps, plan, sampler, names, interface.preprocessing),
        [] if single else [one.path for one in opened], lost(scores)[-1],
    )  # fmt: skip


def _require_answers(path: Path, scores: Scores) -> None:
    """Raise DivergedError, with the first such inner step, if no episode has a finite loss after the last step."""
    episodes = len(scores.loss)
    by_step = lost(scores)
    if by_step[-1] == episodes:
        step = next(step for step, count in enumerate(by_step) if count == episodes)
        fewer = f"; try eval.inner_steps={step - 1}" if step > 1 else ""
        raise DivergedError(f"{path}: inner step {step}: no answer of {episodes} episodes is finite{fewer}")


def _learner(one: Member, spec: TaskSpec) -> Learner:
    learner = assembly.learner_for(one.asked, one.interface, assembly.evaluation_statistics(one.asked))
    if learner.traits.ways not in (None, spec.ways):
        key = "task.ways" if one.asked.eval.ways is None else "eval.ways"
        raise ConfigError(f"{key}: {spec.ways} asked, but {one.path} was trained for {learner.traits.ways} classes")
    return learner


def _recipe(opened: Sequence[Member], single: bool) -> str:
    """The experiment and data as text without the seed; for an ensemble of several seeds, with all seeds."""
    own = [to_yaml(one.trained.model_copy(update={"name": "", "seed": 0, "sinks": None})) for one in opened]
    seeds = [one.trained.seed for one in opened]
    return own[0] if single else "\n".join(["ensemble", *map(str, seeds if len(set(seeds)) > 1 else []), *own])


class Spread(NamedTuple):
    """One experiment with several training seeds: mean and sample standard deviation of the last step's score.

    `ci95` is the mean of the half-widths of the single runs. It covers the draw of episodes, not that of seeds.
    """

    seeds: list[int]
    mean: float
    std: float
    ci95: float


def over_seeds(results: Sequence[Tested]) -> Spread | None:
    """The spread over checkpoints that differ only in their seed; None if they differ in anything else."""
    seeds = [one.seed for one in results]
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or len({one.recipe for one in results}) > 1:
        return None
    scores = [one.steps[-1].score for one in results]
    std = stdev(scores) if all(map(isfinite, scores)) else nan
    return Spread(seeds, mean(scores), std, mean(one.steps[-1].ci95 for one in results))


def _require_unseen(
    path: Path, checkpoint: checkpoints.Checkpoint, trained: Choice, asked: Choice, data: opening.Data, part: Part
) -> None:
    """Raise an error if a class of the test may have been in the training, because then it would be no test."""
    suspicion = "it may have been trained on the classes that it would be tested on"
    if isinstance(mixture := opening.dataset_of(trained), Mixture) and asked.name != trained.name:
        for member in mixture.of:
            _require_unseen(path, checkpoint, member, asked, data, part)
        return
    same = asked.name == trained.name and getattr(asked, "title", None) == getattr(trained, "title", None)
    if not same:
        common = sorted(opening.class_names(trained, None, "train") & data.classes(part))
        if common:
            raise ConfigError(
                f"dataset.name: {path} was trained on {len(common)} classes of part '{part}' of {asked.name}, "
                f"such as {common[0]!r}; it cannot be tested on them"
            )
        return
    before, after = trained.model_dump(), asked.model_dump()
    for key in sorted((before.keys() | after.keys()) - PREPARATION_ONLY):
        if before.get(key) != after.get(key):
            raise ConfigError(
                f"dataset.{key}: {path} was trained with {before.get(key)!r}; with {after.get(key)!r} {suspicion}"
            )
    if checkpoint.header["experiment"]["dataset"]["name"] == asked.name and data.sha256 != checkpoint.header.get(
        "data_sha256"
    ):
        raise CheckpointError(
            f"{path}: was trained on other data than the prepared {asked.name} holds now; {suspicion}"
        )
