"""The blocks of an experiment that do not depend on the chosen dataset, backbone and algorithm, typed and frozen."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from metalearn_cli.settings import Settings, Size, Steps

LARGEST_SEED = 2**63 - 1
Iterations = Annotated[int, Field(ge=1, le=10**9)]
Episodes = Annotated[int, Field(ge=2, le=10**6)]  # sampling draws them by numbers of 20 bits

_LONG = 100  # iterations between two validations; with fewer, the first one comes soon anyway

_READERS = {
    "momentum": ("optimizer", ("sgd",)),
    "min_lr": ("schedule", ("cosine", "linear")),
    "step_every": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
}
"""Keys of `outer` that are read only if another key has one of these values."""


class Task(Settings):
    """The size of a training task: N ways, K shots.

    `ways` (classes): the number of classes in a task.
    `shots` (examples): the number of labelled examples of each class, the support set.
    `queries` (examples): the number of further examples of each class, whose classes are to be predicted.
    `statistics`: the pictures whose mean and variance the norms use for predictions: all queries at once
        ("transductive", as in MAML's code), or only the support set ("support"), so that no prediction depends on other
        queries.
    `running_statistics`: whether training keeps running means of the norms' means and variances, for
        `eval.statistics: running`.
    """

    ways: Size = 5
    shots: Size = 1
    queries: Size = 15
    statistics: Literal["transductive", "support"] = "transductive"
    running_statistics: bool = False


class Outer(Settings):
    """The meta-update; the default is MAML's (Finn et al. 2017, appendix A): Adam with a constant rate of 1e-3.

    A key that the chosen optimizer or schedule does not read is refused.

    `optimizer`: the method that turns a meta-gradient into a meta-step.
    `lr`: the rate of the meta-steps.
    `weight_decay`: the weight decay of the meta-parameters in every meta-step.
    `momentum`: the share of the last meta-step that is added to the next one; only for sgd.
    `schedule`: the way in which the rate changes over the run.
    `min_lr`: the rate at the end of the schedules "cosine" and "linear"; Reptile has a line to 0.
    `step_every` (iterations): the schedule "step" multiplies the rate each time after so many iterations; the default
        is that of CAVIA (Zintgraf et al. 2019).
    `step_factor`: the factor of the schedule "step".
    `clip_norm`: the largest norm of the whole meta-gradient; null does not clip.
    `clip_value`: the largest absolute value of each element of the meta-gradient; null does not clip.
    `meta_batch_size` (tasks): the number of tasks in a meta-step.
    `iterations` (meta-steps): the length of the whole run.
    `on_nonfinite`: "stop" ends the run at a loss or a gradient that is not finite; "skip" leaves that step out and
        counts it.
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
    """The measurement of accuracy in validation and test.

    `ways` (classes): the number of classes in a test task; null takes that of training. Only learners for any number of
        classes (protonet and others) can be measured with another number.
    `inner_steps` (steps): the number of inner steps in a test task; null takes that of training.
    `queries` (examples): the number of queries of each class.
    `episodes` (tasks): the number of episodes in `metalearn eval`.
    `val_episodes` (tasks): the number of episodes in each validation.
    `every` (iterations): the number of iterations between two validations. If it is 100 or more, there is one more
        validation at the start, after a tenth of that number.
    `seed`: the seed of the episodes, which are the same for every checkpoint.
    `statistics`: the statistics that norms use; null takes those of training. "running" are the running means that
        training kept, so that no prediction depends on another.
    `calibrate_shots` (examples): the numbers of shots for which the best checkpoint is calibrated when training ends,
        on `val_episodes` validation tasks each; null takes 1, 5 and `task.shots`, [] none.
    """

    ways: Annotated[Size, Field(ge=2)] | None = None
    inner_steps: Steps | None = None
    queries: Size = 15
    episodes: Episodes = 600
    val_episodes: Episodes = 200
    every: Iterations = 500
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    statistics: Literal["transductive", "support", "running"] | None = None
    calibrate_shots: list[Size] | None = None

    @property
    def first(self) -> int:
        """The number of iterations before the first validation; it comes early in a long run, to show progress soon."""
        return self.every // 10 if self.every >= _LONG else self.every

    def validates(self, iteration: int) -> bool:
        """Whether a validation follows after `iteration` finished iterations."""
        return iteration == self.first or iteration % self.every == 0


class Keeping(Settings):
    """The times of further checkpoints (one is written at every report, at a signal and at the end), and their number.

    `minutes` (minutes): a checkpoint is written after so many minutes.
    `every` (iterations): a checkpoint is written after so many iterations; null turns this off.
    `keep_best` (checkpoints): the number of checkpoints with the best validations that are kept for an ensemble
        (`metalearn eval --checkpoint` with the run's folder). MAML++ (Antoniou et al. 2019) has 5; 1 keeps best.pt
        alone.
    """

    minutes: float = Field(default=10.0, gt=0)
    every: int | None = Field(default=None, ge=1)
    keep_best: int = Field(default=1, ge=1, le=100)


class Execution(Settings):
    """The way in which the tasks of a meta-batch run; except for rounding, the learned weights do not depend on it.

    `mode`: "loop" runs one task after the other, "vmap" runs many at once, "threads" runs many at once on several
        threads, "auto" chooses by the device.
    `chunk` (tasks): the number of tasks that go through the network together; null chooses it by the caches and the
        threads.
    `threads`: the number of threads; null is one per core.
    `processes`: the number of processes on this machine that share each meta-batch; on a CPU this is faster than
        threads alone. Null is one process, or as many as torchrun starts.
    `kernels`: on a CPU, who computes norms, pools and the first layer of a convolutional network: "compiled" functions,
        which training has the machine's C++ compiler make once, "torch" alone, or "auto": compiled ones if there is
        a compiler.
    `cuda_graph`: whether a GPU runs the whole meta-gradient as one recorded CUDA graph, or operation by operation.
    `precision`: the precision of the factors of matrix products: "float32", or rounded to "tf32" (10 bits; GPUs) or
        "bfloat16" (7 bits; CPUs with matrix units for it; on GPUs the same as tf32).
    """

    mode: Literal["auto", "loop", "vmap", "threads"] = "auto"
    chunk: Size | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    kernels: Literal["auto", "torch", "compiled"] = "auto"
    cuda_graph: bool = True
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
