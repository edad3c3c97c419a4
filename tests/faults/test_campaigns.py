"""Every fault campaign of this folder: the quick ones always, in short; all of them if slow tests are asked for."""

from importlib import import_module

import pytest

from tests.faults.__main__ import NAMES


def totals(name, size, folder):
    module = import_module(f"tests.faults.{name}")
    return module.campaign(getattr(module, size), 0, folder)


# What the others break is also broken once by a test of its own: kills, full disks, links, ranks, hostile folders.
ALWAYS = {"crash_points", "damage", "datasets", "forged", "sources", "tables"}


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_short_campaign_loses_nothing(name, tmp_path):
    found = totals(name, "SHORT", tmp_path)
    assert found.good, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_long_campaign_loses_nothing(name, tmp_path):
    found = totals(name, "LONG", tmp_path)
    assert found.good, found
