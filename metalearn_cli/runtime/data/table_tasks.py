"""Tasks from a prepared table: task i of step s is a function of (seed, part, s, i), as it is for pictures.

Legend: T tasks, W classes of a task (1 in a regression), E examples of each, N rows, V values of a row.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.core.objectives import Objective, classification, regression_in
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.datasets import Part
from metalearn_cli.datasets.tabular import Encoding, Tabular
from metalearn_cli.datasets.tabular.encoding import LEAST_SPREAD
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.runtime.data.pixels import CPU, fits_gpu, sent
from metalearn_cli.runtime.data.random_streams import generator_for, keys_for
from metalearn_cli.runtime.data.row_draws import Bins, drawn_classes, drawn_group, drawn_rows
from metalearn_cli.runtime.data.sampling import Names, Sampler, TaskSpec
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared.preparation import data_folder
from metalearn_cli.storage.tabular.preparing import open_or_explain_table
from metalearn_cli.storage.tabular.stored import FloatRows, Table

_SMALL = 64 << 20  # bytes


class Values:
    """Rows float32 [N, V] of a table, in memory or read from their file; each call brings some to a device."""

    def __init__(self, rows: FloatRows, device: torch.device) -> None:
        device = torch.empty(0, device=device).device
        stays = fits_gpu(rows.nbytes, device) if device.type == "cuda" else rows.nbytes <= _SMALL
        self._rows, self.device = rows, device
        self._held = torch.from_numpy(rows.all_floats()).to(device) if stays else None

    def taken(self, numbers: NDArray[np.int64]) -> Tensor:
        """The rows with these `numbers` [...], on the device: [..., V]. Raises DataError if their file has changed."""
        wanted = numbers.ravel()
        if self._held is None:
            rows = sent(torch.from_numpy(self._rows.floats(wanted)), self.device)
        else:
            rows = self._held.index_select(0, sent(torch.from_numpy(wanted), self.device))
        return rows.view(*numbers.shape, -1)


class TableData(NamedTuple):
    """An opened table, and the samplers of its tasks; `name` is the dataset's name for messages."""

    name: str
    table: Table
    values: Values
    leave_out_small: bool

    @property
    def encoding(self) -> Encoding:
        """The encoding of its rows."""
        return self.table.manifest.encoding

    def bins(self, part: Part) -> Bins:
        """All groups of a part."""
        manifest = self.table.manifest
        place = {name: number for number, name in enumerate(manifest.groups)}
        counts = np.array(manifest.counts, np.int64)
        starts = np.concatenate([[0], np.cumsum(counts.ravel())[:-1]]).reshape(counts.shape)
        names = manifest.parts[part]
        chosen = [place[name] for name in names]
        return Bins(part, names, starts[chosen], counts[chosen])

    def left_out(self, part: Part, spec: TaskSpec) -> str:
        """A line on the groups that `usable` leaves out of a part; "" if it leaves out none."""
        bins, needed, rows = self.bins(part), spec.shots + spec.queries, self.encoding.noun.many
        small = [name for name, counts in zip(bins.names, bins.counts, strict=True) if counts.min() < needed]
        some = f"{self.encoding.groups} of part '{part}' ({', '.join(small[:3])}{', ...' if len(small) > 3 else ''})"
        return f"left out: {len(small)} of {len(bins.names)} {some}: fewer than {needed} {rows}" if small else ""

    def usable(self, part: Part, spec: TaskSpec) -> Bins:
        """The groups of a part that have enough rows for a task.

        Raises DataError if others are not to be left out, or none is large enough; ConfigError for too few classes.
        """
        bins, needed, rows = self.bins(part), spec.shots + spec.queries, self.encoding.noun.many
        large: NDArray[np.bool_] = np.all(bins.counts >= needed, axis=1)
        if not large.all():
            self._require_left_out(bins, large, spec)
            chosen = np.flatnonzero(large)
            bins = Bins(part, [bins.names[group] for group in chosen], bins.starts[chosen], bins.counts[chosen])
        if self.encoding.kind == "classes" and spec.ways > len(bins.names):
            found = f"{spec.ways} asked, but part '{part}' of {self.name} has {len(bins.names)} classes"
            raise ConfigError(f"task.ways: {found}{'' if large.all() else f' of {needed} {rows} or more'}")
        return bins

    def _require_left_out(self, bins: Bins, large: NDArray[np.bool_], spec: TaskSpec) -> None:
        small, rows = np.flatnonzero(~large), self.encoding.noun.many
        rows += " of each class" if self.encoding.kind == "labelled" else ""
        worst = int(small[bins.counts[small].min(1).argmin()])
        told = f"{len(small)} of {len(large)} {self.encoding.groups} of part '{bins.part}' have fewer than "
        told += f"{spec.shots + spec.queries} {rows} ({spec.shots} shots + {spec.queries} queries)"
        some = f"the smallest is {bins.names[worst]!r} with {int(bins.counts[worst].min())}"
        if not self.leave_out_small:
            cure = "take smaller tasks, or leave such out: --set dataset.small=leave_out"
            raise DataError(f"{self.name}: {told}; {some}; {cure}")
        if not large.any():
            raise DataError(f"{self.name}: {told}, so none is left; {some}; take smaller tasks")

    def sampler(self, part: Part, spec: TaskSpec, seed: int) -> Sampler:
        """A Sampler of the tasks of a part. Raises as `usable` does."""
        require_ways(self.encoding, spec.ways, self.name)
        bins = self.usable(part, spec)

        def sampler(step: int, numbers: Sequence[int]) -> Task:
            generators = (generator_for(seed, part, step, number) for number in numbers)
            taken = self.values.taken(np.stack([drawn_rows(bins, self.encoding, spec, one) for one in generators]))
            keys = keys_for(seed, part, step, numbers)
            halves = taken[:, :, : spec.shots], taken[:, :, spec.shots :]
            task = Task(*(_examples(half, self.encoding, keys) for half in halves))
            return by_support(task, self.encoding) if self.encoding.standardise == "task" else task

        return sampler

    def numbered(self, spec: TaskSpec, seed: int, most: int) -> Sampler:
        """A Sampler of training tasks whose targets are numbers of training classes (only the baselines).

        Raises ConfigError for more than `most` classes, or for a regression.
        """
        if self.encoding.kind == "regression":
            raise ConfigError(f"algorithm.name: needs classes, and {self.name} has targets")
        tasks, bins = self.sampler("train", spec, seed), self.usable("train", spec)
        own = self.encoding.kind == "classes"
        if (classes := len(bins.names) if own else spec.ways) > most:
            found = f"found {most}, but part 'train' has {classes} classes"
            raise ConfigError(f"algorithm.classes: {found}; set it to {classes} or more")

        def sampler(step: int, numbers: Sequence[int]) -> Task:
            task = tasks(step, numbers)
            if not own:
                return Task(*(half._replace(ways=most) for half in task))
            places = [drawn_classes(bins, spec, generator_for(seed, "train", step, number)) for number in numbers]
            chosen = sent(torch.from_numpy(np.stack(places)), task.support.targets.device)
            return Task(*(half._replace(targets=chosen.gather(1, half.targets), ways=most) for half in task))

        return sampler

    def names(self, part: Part, spec: TaskSpec, seed: int) -> Names:
        """The names of the classes in each task of `sampler`; [] for a regression."""
        if self.encoding.kind != "classes":
            return lambda _step, _number: list(self.encoding.classes)
        bins = self.usable(part, spec)
        return lambda step, number: [
            bins.names[place] for place in drawn_classes(bins, spec, generator_for(seed, part, step, number))
        ]

    def groups(self, part: Part, spec: TaskSpec, seed: int) -> Names:
        """For each class of a task of `sampler`, the group whose rows it has (only kind "labelled")."""
        bins = self.usable(part, spec)

        def names(step: int, number: int) -> list[str]:
            group = drawn_group(bins, generator_for(seed, part, step, number))
            return [bins.names[group]] * spec.ways

        return names

    def classes(self, part: Part) -> frozenset[str]:
        """The names of a part's classes; empty unless each task draws its own (kind "classes")."""
        return frozenset(self.table.manifest.parts[part] if self.encoding.kind == "classes" else ())


def open_rows(
    name: str, tabular: Tabular, data_dir: Path | None, progress: Progress, device: torch.device
) -> TableData:
    """Open the prepared table for computation on a device. Raises DataError as `open_or_explain_table` does."""
    table = open_or_explain_table(name, tabular, data_folder(data_dir), progress)
    return TableData(name, table, Values(table.rows, device or CPU), tabular.leave_out_small)


def require_ways(encoding: Encoding, ways: int, name: str) -> None:
    """Raise ConfigError if the tasks of a table cannot have `ways` classes."""
    if encoding.kind == "regression" and ways != 1:
        raise ConfigError(f"task.ways: found {ways}, but {name} has targets and no classes; set it to 1")
    if encoding.kind == "labelled" and ways != len(encoding.classes):
        told = f"every task of {name} has the same {len(encoding.classes)} classes"
        raise ConfigError(f"task.ways: found {ways}, but {told}; set it to {len(encoding.classes)}")
    if encoding.kind == "classes" and ways < 2:
        raise ConfigError(f"task.ways: found {ways}, expected 2 or more classes")


def outputs_of(encoding: Encoding, ways: int) -> int:
    """The number of outputs of a network for the tasks of a table."""
    return len(encoding.targets) if encoding.kind == "regression" else len(encoding.classes) or ways


@cache  # an Objective's functions compare by identity, so equal units must give the same object
def _regression(units: tuple[float, ...]) -> Objective:
    return regression_in(units)


def objective_of(encoding: Encoding) -> Objective:
    """The objective of a table's tasks; a regression's errors are in the targets' own squared units."""
    return _regression(tuple(encoding.target_std)) if encoding.kind == "regression" else classification


def _examples(values: Tensor, encoding: Encoding, keys: Tensor | None) -> Examples:
    """Rows [T, W, E, V] as examples [T, W * E, ...], class after class."""
    tasks, ways, count = values.shape[:3]
    split = math.prod(encoding.input_shape)
    inputs = values[..., :split].reshape(tasks, ways * count, *encoding.input_shape)
    if encoding.kind == "regression":
        return Examples(inputs, values[..., split:].reshape(tasks, count, -1), keys=keys)
    targets = torch.arange(ways, device=values.device).repeat_interleave(count).expand(tasks, -1)
    return Examples(inputs, targets, ways, keys)


def by_support(task: Task, encoding: Encoding) -> Task:
    """The tasks with (inputs - mean) / std of their own support sets in place of numbers; words stay 0 or 1."""
    channels = len(encoding.numeric)
    shown = task.support.inputs
    # Both forms are [T, E, channels, steps]; the moments of a channel are over examples and steps, [T, channels].
    rows = shown.flatten(3) if encoding.series is not None else shown[:, :, :channels, None]
    mean, std = rows.mean((1, 3)), rows.std((1, 3), correction=0)
    std = torch.where(std > LEAST_SPREAD, std, torch.ones_like(std))
    if encoding.series is None:
        behind = shown.shape[2] - channels
        mean = torch.nn.functional.pad(mean, (0, behind))
        std = torch.nn.functional.pad(std, (0, behind), value=1.0)
    shape = (len(mean), 1, -1, *[1] * (shown.dim() - 3))
    return Task(*(half._replace(inputs=(half.inputs - mean.view(shape)) / std.view(shape)) for half in task))
