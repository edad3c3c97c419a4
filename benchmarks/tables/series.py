"""Series of the aeon package as npz files, and their nearest neighbours by Euclidean distance and by time warping.

The wheel of aeon (BSD-3) is read as a zip file: python -m pip download --no-deps aeon, METALEARN_AEON=aeon-....whl.

Legend: T tasks, Q queries, S support series, C channels, L steps.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables.oscillators import silent
from benchmarks.tables.rows import Row, Table
from metalearn_cli.core.tasks import Task
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.run import assembly

_TASKS_AT_ONCE = 10


def prepared(table: Table, row: Row, work: Path) -> None:
    """The row's series are prepared, as `metalearn prepare table` does it for anybody."""
    name = row.setting.partition("-")[0]
    source = work / f"{name}.npz"
    if not source.exists():
        _write_npz(name, source)
    sets = [word for one in table.dataset(name, row.seed) for word in ("--set", one)]
    words = [
        sys.executable,
        "-m",
        "metalearn_cli",
        "prepare",
        "table",
        "--source",
        str(source),
        *sets,
        "--json",
        "--quiet",
    ]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _write_npz(name: str, path: Path) -> None:
    """All series of a dataset, those of its own training and test part alike."""
    series, labels = list[np.ndarray](), list[str]()
    with zipfile.ZipFile(os.environ["METALEARN_AEON"]) as wheel:
        for part in ("TRAIN", "TEST"):
            text = wheel.read(f"aeon/datasets/data/{name}/{name}_{part}.ts").decode()
            for line in text[text.lower().index("@data") :].splitlines()[1:]:
                *channels, label = line.strip().split(":")
                if label:
                    series.append(np.array([[float(value) for value in one.split(",")] for one in channels]).T)
                    labels.append(label)
    np.savez(path, x=np.concatenate(series), lengths=np.array([len(one) for one in series]), label=np.array(labels))


def answered(name: str, experiment: Experiment, episodes: int) -> tuple[Tensor, str]:
    """The share of right answers in each of the first test episodes [T] by the nearest series of the support set."""
    data = opening.open_data(experiment, None, silent)
    sampler = data.sampler("test", assembly.evaluation_spec(experiment), experiment.eval.seed)
    found = []
    for start in range(0, episodes, _TASKS_AT_ONCE):
        tasks = sampler(0, range(start, min(start + _TASKS_AT_ONCE, episodes)))
        distances = {"euclidean": euclidean, "dtw": warped}[name](*_pairs(tasks))
        nearest = distances.argmin(2)
        answers = tasks.support.targets.gather(1, torch.from_numpy(nearest))
        found.append((answers == tasks.query.targets).float().mean(1))
    return torch.cat(found), ""


def _pairs(tasks: Task) -> tuple[np.ndarray, np.ndarray]:
    query, support = (half.inputs.numpy().astype(np.float64) for half in (tasks.query, tasks.support))
    return query[:, :, None], support[:, None]


def euclidean(query: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Squared distances [T, Q, S] of series [T, Q, 1, C, L] and [T, 1, S, C, L]."""
    found: np.ndarray = np.square(query - support).sum((-1, -2))
    return found


def warped(query: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The same by dynamic time warping: all channels are warped alike, without a window (Sakoe & Chiba 1978).

    >>> series = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0])[None, None, None, None]
    >>> warped(series, series[..., [0, 2, 3, 3, 3, 3]]).item()
    0.0
    """
    length = query.shape[-1]
    # Costs of one row of the table at a time: all of them at once would not fit.
    before = np.full((*np.broadcast_shapes(query.shape, support.shape)[:-2], length + 1), np.inf)
    before[..., 0] = 0.0
    for place in range(length):
        cost = np.square(query[..., place, None] - support).sum(-2)
        row = np.full_like(before, np.inf)
        least = np.minimum(before[..., 1:], before[..., :-1])
        for step in range(length):
            row[..., step + 1] = cost[..., step] + np.minimum(least[..., step], row[..., step])
        before = row
    return before[..., -1]
