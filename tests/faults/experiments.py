"""Experiment files that are wrong: each loads and can be written again, or is refused by name and by key or line.

A fault is a valid file changed in one to three ways: as text, as keys and values, as bytes, or as something that is no
file at all. The loader runs in process; every 75th fault, and whatever loads with an absurd size in it, also goes
through `metalearn train FILE --dry-run`, which must do its work or answer in one line.
"""

import os
import re
from pathlib import Path
from random import Random
from typing import Any

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import read_experiment, shipped, to_yaml, yaml_lines
from metalearn_cli.experiment.yaml_lines import escaped
from tests.faults import Totals
from tests.faults._changes import written, wrong
from tests.faults._ledger import Ledger, Lost, command, require_one_plain_line

SHORT, LONG = 100, 2000

_SMALL = """\
name: small
dataset: {name: glyphs, classes: 36, drawings: 6}
task: {ways: 2, shots: 1, queries: 2}
backbone: {name: conv4, channels: 2}
algorithm: {name: maml, inner_lr: 0.1}
outer: {meta_batch_size: 2, iterations: 2}
eval: {queries: 2, episodes: 4, val_episodes: 4, every: 1}
"""
_LAYERS = """\
name: layers
dataset:
  name: mixture
  of:
    - {name: glyphs, classes: 36, drawings: 6}
    - {name: glyphs, classes: 36, drawings: 6, seed: 1}
  weights: [1, 3]
  image_size: 16
  channels: 1
task: {ways: 2, shots: 1, queries: 2}
backbone:
  name: layers
  layers: [{conv2d: {channels: 2}}, relu, {upsample: {scale: 2}}, {max_pool2d: {kernel: 4}}, flatten, linear]
algorithm: {name: reptile}
eval: {queries: 2, episodes: 4, val_episodes: 4}
"""
_SIZES = {
    "glyphs": "dataset.classes dataset.drawings backbone.channels algorithm.inner_steps",
    "mixture": "dataset.image_size backbone.layers.0.conv2d.channels backbone.layers.0.conv2d.kernel "
    "backbone.layers.0.conv2d.stride backbone.layers.0.conv2d.padding backbone.layers.2.upsample.scale "
    "algorithm.inner_steps dataset.of.0.classes dataset.weights.0",
    "both": "task.ways task.shots task.queries outer.meta_batch_size outer.iterations outer.step_every eval.ways "
    "eval.queries eval.inner_steps eval.episodes eval.val_episodes eval.every execution.threads execution.chunk seed",
}
_ABSURD = (512, 1000, 65_536, 10**6, 2**31, 10**9, 10**12, 2**62, 2**63, 10**18, 10**30)


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` experiment files."""
    ledger = Ledger("experiments", seed)
    bases = [_SMALL, _LAYERS, *(file.read_text() for file in shipped().values())]
    for number in range(count):
        random, folder = ledger.random(), scratch / str(number)
        folder.mkdir()
        told: list[str] = []
        with ledger.fault(lambda told=told: " + ".join(told)):
            absurd = random.random() < 0.05
            file = _absurd(random, folder, told) if absurd else wrong(random, folder, random.choice(bases), told)
            loads = _loads(file)
            if (absurd and loads) or number % 75 == 0:
                ended = command(scratch / "data", "train", file, "--dry-run", "--quiet")
                ended.require_answered()
                ledger.count("through the command")
            if (folder / "ran").exists() or Path("ran").exists():
                raise Lost("code in the file was run")
            ledger.count("loaded" if loads else "refused")
    return ledger.totals()


def _loads(file: Path) -> bool:
    """Whether it loads; then what is written loads as the same. Raises Lost if it is refused without a place."""
    try:
        experiment = read_experiment(str(file))
    except ConfigError as error:
        where = escaped(str(file))
        require_one_plain_line(error, where)
        if os.access(file, os.R_OK) and file.is_file():
            for line in str(error).split("\n"):
                if not re.match(r"(:[1-9]\d*)?: .", line[len(where) :]):
                    raise Lost(f"neither a line nor a key: {line!r:.300}") from error
        return False
    again = file.with_name("again.yaml")
    again.write_text(to_yaml(experiment), encoding="utf-8")
    if read_experiment(str(again)) != experiment:
        raise Lost("what was written of it loads as something else")
    return True


def _absurd(random: Random, folder: Path, told: list[str]) -> Path:
    """A file whose sizes are valid integers that no machine can follow."""
    text, kind = random.choice([(_SMALL, "glyphs"), (_LAYERS, "mixture")])
    values: Any = yaml_lines.parse(text, "base").values
    for _change in range(random.choice((1, 1, 2))):
        path = random.choice(f"{_SIZES[kind]} {_SIZES['both']}".split())
        size = random.choice(_ABSURD)
        told.append(f"{path}={size}")
        *blocks, last = (int(part) if part.isdigit() else part for part in path.split("."))
        block = values
        for part in blocks:
            block = block[part] if isinstance(part, int) else block.setdefault(part, {})
        block[last] = size
    return written(folder, yaml_lines.as_yaml(values).encode())
