"""Training checkpoints before their first iteration: all that a test of adapting and exporting needs."""

from pathlib import Path

from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.run import assembly, state
from metalearn_cli.storage.runs import checkpoints
from tests.commands import TINY

SINES = {
    "dataset": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 4, "queries": 6},
    "backbone": {"name": "mlp", "hidden": [8]},
    "algorithm": {"name": "maml", "inner_lr": 0.01},
}


def checkpoint_of(path: Path, data_dir: Path, **blocks: object) -> Path:
    """`path` is a checkpoint of the tiny experiment, with other blocks in it."""
    experiment = from_mapping(TINY | blocks, "test")
    data = opening.open_data(experiment, data_dir, lambda *_: None)
    learner = assembly.learner_for(experiment, data.interface, "support")
    untouched = state.fresh(experiment, learner.init(), Plan("loop", 1, 1))
    checkpoints.save(path, state.checkpoint_of(experiment, data, untouched, {}))
    return path
