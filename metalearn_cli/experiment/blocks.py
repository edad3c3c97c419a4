"""The blocks of an experiment that are the same for every dataset, backbone and algorithm, typed and frozen."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from metalearn_cli.settings import Settings, Size, Steps

LARGEST_SEED = 2**63 - 1
Iterations = Annotated[int, Field(ge=1, le=10**9)]
Episodes = Annotated[int, Field(ge=2, le=10**6)]  # sampling draws them by numbers of 20 bits

_LONG = 100  # iterations between two validations: where they are fewer, the first comes soon anyway

_READERS = {
    "momentum": ("optimizer", ("sgd",)),
    "min_lr": ("schedule", ("cosine", "linear")),
    "step_every": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
}
"""Which keys of `outer` are read only where another has one of these values."""


class Task(Settings):
    """N-way K-shot: what one training task holds.

    `ways` (classes): how many a task has.
    `shots` (examples): how many of each class are given with their labels: the support set.
    `queries` (examples): how many more of each class are to be predicted.
    `statistics`: what the norms see: all the queries at once ("transductive", as in MAML's code) or the support set
        alone ("support"), so that no prediction depends on the other queries.
    `running_statistics`: whether training keeps a running mean of what the norms see, for `eval.statistics: running`.
    """

    ways: Size = 5
    shots: Size = 1
    queries: Size = 15
    statistics: Literal["transductive", "support"] = "transductive"
    running_statistics: bool = False


class Outer(Settings):
    """The meta-update; by default MAML's (Finn et al. 2017, appendix A): Adam at a constant 1e-3.

    What the chosen optimizer or schedule would not read is refused.

    `optimizer`: what makes a meta-step of a meta-gradient.
    `lr`: the rate of the meta-steps.
    `weight_decay`: decay of the meta-parameters at every meta-step.
    `momentum`: the share of the last meta-step that is taken again; for sgd.
    `schedule`: how the rate changes over the run.
    `min_lr`: where the cosine or the line ends; a line to 0 is Reptile's.
    `step_every` (iterations): after how many the schedule "step" multiplies the rate; by default as CAVIA (Zintgraf et
        al. 2019).
    `step_factor`: by what it multiplies.
    `clip_norm`: bounds the norm of the whole meta-gradient; null does not clip.
    `clip_value`: bounds each of its elements; null does not clip.
    `meta_batch_size` (tasks): how many a meta-step learns from.
    `iterations` (meta-steps): how many the whole run has.
    `on_nonfinite`: whether a loss or a gradient that is not finite ends the run ("stop"), or its step is left out and
        counted ("skip").
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    min_lr: float = Field(default=0.0, ge=0)
    step_every: Iterations = 5000
    step_factor: float = Field(default=0.9, gt=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)
    clip_value: float | None = Field(default=None, gt=0)
    meta_batch_size: Size = 4
    iterations: Iterations = 60_000
    on_nonfinite: Literal["stop", "skip"] = "stop"

    @field_validator(*_READERS)
    @classmethod
    def _has_a_reader(cls, value: float, info: ValidationInfo) -> float:
        name = str(info.field_name)
        reader, choices = _READERS[name]
        if value != cls.model_fields[name].default and info.data.get(reader, choices[0]) not in choices:
            raise ValueError(f"has no effect unless {reader} is {' or '.join(choices)}; it is {info.data[reader]}")
        return value


class Eval(Settings):
    """How accuracy is measured, in validation and test.

    `ways` (classes): how many a test task has; null, as in training. Only a learner that is not tied to a number of
        classes (protonet and others) can be measured with other ways.
    `inner_steps` (steps): by how many a test task is learned; null, as in training.
    `queries` (examples): how many of each class are to be predicted.
    `episodes` (tasks): how many `metalearn eval` draws.
    `val_episodes` (tasks): how many each validation draws.
    `every` (iterations): how many lie between two validations; where they are 100 or more, one more comes first, after
        a tenth of as many.
    `seed`: picks the episodes, the same for every checkpoint.
    `statistics`: what the norms see; null, as in training; "running", the running mean of what they saw in training, so
        that no prediction depends on others.
    """

    ways: Annotated[Size, Field(ge=2)] | None = None
    inner_steps: Steps | None = None
    queries: Size = 15
    episodes: Episodes = 600
    val_episodes: Episodes = 200
    every: Iterations = 500
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    statistics: Literal["transductive", "support", "running"] | None = None

    @property
    def first(self) -> int:
        """After how many iterations the first validation comes: early in a long run, to show soon how it goes."""
        return self.every // 10 if self.every >= _LONG else self.every

    def validates(self, iteration: int) -> bool:
        """Whether a validation follows so many iterations."""
        return iteration == self.first or iteration % self.every == 0


class Keeping(Settings):
    """How often a checkpoint is written besides at every report, at a signal and at the end, and how many are kept.

    `minutes` (minutes): after so many.
    `every` (iterations): after so many; null, never for that reason.
    `keep_best` (checkpoints): how many of those with the best validations are kept, for an ensemble: `metalearn eval
        --checkpoint` with the folder of the run. MAML++ (Antoniou et al. 2019) has one of 5; 1, best.pt alone.
    """

    minutes: float = Field(default=10.0, gt=0)
    every: int | None = Field(default=None, ge=1)
    keep_best: int = Field(default=1, ge=1, le=100)


class Execution(Settings):
    """How the tasks of a meta-batch run at once; but for rounding, what is learned does not depend on it.

    `mode`: one task after the other ("loop"), at once ("vmap"), at once on threads ("threads"), or what suits the
        device.
    `chunk` (tasks): how many go through the network together; null, as many as suit the caches and the threads.
    `threads`: how many; null, one a core.
    `processes`: how many of this machine share each meta-batch, which on a CPU is faster than threads alone; null, one,
        or as many as torchrun starts.
    `cuda_graph`: whether a GPU is asked for a whole meta-gradient at once, as a CUDA graph, or for each of its
        operations.
    `precision`: how exact products of float32 numbers are: as such, or rounded to "tf32" (10 bits; GPUs) or "bfloat16"
        (7 bits; CPUs with matrix units for it; on GPUs the same as tf32) before they are multiplied.
    """

    mode: Literal["auto", "loop", "vmap", "threads"] = "auto"
    chunk: Size | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    cuda_graph: bool = True
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
