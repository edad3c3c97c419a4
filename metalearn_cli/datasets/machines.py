"""Machines: a table of many small related problems that a program generates, so it needs no download.

A machine is a mass m on a spring that is pulled by x0, let go, and swings until damping c stops it. Mass, damping, pull
and the noise of its sensor differ between machines; the stiffness k of the spring does not. From m x'' + c x' + k x = 0
follows x(t) = x0 exp(-c t / 2m) (cos w t + c / (2 m w) sin w t) with w = sqrt(k / m - (c / 2m)^2).
"""

from typing import Literal

import numpy as np
from pydantic import Field

from metalearn_cli.datasets.tabular import Columns, Division, Roles, Tabular
from metalearn_cli.settings import Choice

_VERSION = 1
_STIFFNESS = 4.0


class Config(Choice):
    """The same settings always generate the same machines.

    `machines`: the number of machines, three fifths for training and a fifth each for validation and test.
    `readings`: the number of readings of each machine, at random times within six seconds.
    `seed`: another seed generates other machines.
    """

    name: Literal["machines"] = "machines"
    machines: int = Field(default=200, ge=5, le=100_000)
    readings: int = Field(default=60, ge=4, le=10_000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


def build(config: Config) -> Tabular:
    """A table with the columns machine, seconds and millimetres; each machine is one regression."""
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
    """All readings, machine after machine: columns of machines * readings cells (seconds, millimetres)."""
    shape = (config.machines, config.readings)
    generator = np.random.Generator(np.random.Philox(key=[config.seed, 0]))
    # In these ranges (c / 2m)^2 is at most 0.25 and k / m at least 2, so every machine swings and w is real.
    mass, damping = (generator.uniform(low, high, (shape[0], 1)) for low, high in ((0.5, 2.0), (0.05, 0.5)))
    pulled, noise = (generator.uniform(low, high, (shape[0], 1)) for low, high in ((5.0, 15.0), (0.1, 0.5)))
    seconds = generator.uniform(0.0, 6.0, shape)
    decay = damping / (2 * mass)
    swing = np.sqrt(_STIFFNESS / mass - decay**2)
    moved = np.cos(swing * seconds) + decay / swing * np.sin(swing * seconds)
    millimetres = pulled * np.exp(-decay * seconds) * moved + noise * generator.normal(size=shape)
    names = [f"machine{number:05}" for number in range(shape[0]) for _ in range(shape[1])]
    return {"machine": names, "seconds": seconds.ravel().tolist(), "millimetres": millimetres.ravel().tolist()}
