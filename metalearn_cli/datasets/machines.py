"""Machines: many related small problems, made by a program; the table that is always there.

Each machine is a mass on a spring, let go away from rest, that swings and comes to rest: its mass, its damping, how far
it was pulled and how noisy its sensor is are its own, the spring is of one make. m x'' + c x' + k x = 0, for which
x(t) = x0 exp(-c t / 2m) (cos w t + c / (2 m w) sin w t), w = sqrt(k / m - (c / 2m)^2).
"""

from typing import Literal

import numpy as np
from pydantic import Field

from metalearn_cli.datasets.tabular import Columns, Division, Roles, Tabular
from metalearn_cli.settings import Choice

_VERSION = 1
_STIFFNESS = 4.0


class Config(Choice):
    """As many as you like; the same settings always make the same.

    `machines`: how many there are, three fifths for training and a fifth each for validation and test.
    `readings`: how often each was measured, at times of its own within six seconds.
    `seed`: makes other machines.
    """

    name: Literal["machines"] = "machines"
    machines: int = Field(default=200, ge=5, le=100_000)
    readings: int = Field(default=60, ge=4, le=10_000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


def build(config: Config) -> Tabular:
    """A table of the columns machine, seconds and millimetres: a regression for each machine."""
    settings = {**config.model_dump(mode="json", exclude={"name"}), "version": _VERSION}
    return Tabular(
        store=f"machines-v{_VERSION}-{config.machines}x{config.readings}-seed{config.seed}",
        settings=settings,
        roles=Roles(
            "",
            "machine",
            ("millimetres",),
            inputs=(),
            categorical=(),
            split="",
            missing="error",
            length=None,
            fit="resample",
        ),
        division=Division(0, 0.2, 0.2, (), ()),
        standardise="training",
        leave_out_small=False,
        made=lambda: sensor_readings(config),
    )


def sensor_readings(config: Config) -> Columns:
    """All readings of all machines, one machine after the other."""
    shape = (config.machines, config.readings)
    generator = np.random.Generator(np.random.Philox(key=[config.seed, 0]))
    mass, damping = (generator.uniform(low, high, (shape[0], 1)) for low, high in ((0.5, 2.0), (0.05, 0.5)))
    pulled, noise = (generator.uniform(low, high, (shape[0], 1)) for low, high in ((5.0, 15.0), (0.1, 0.5)))
    seconds = generator.uniform(0.0, 6.0, shape)
    decay = damping / (2 * mass)
    swing = np.sqrt(_STIFFNESS / mass - decay**2)
    moved = np.cos(swing * seconds) + decay / swing * np.sin(swing * seconds)
    millimetres = pulled * np.exp(-decay * seconds) * moved + noise * generator.normal(size=shape)
    names = [f"machine{number:05}" for number in range(shape[0]) for _ in range(shape[1])]
    return {"machine": names, "seconds": seconds.ravel().tolist(), "millimetres": millimetres.ravel().tolist()}
