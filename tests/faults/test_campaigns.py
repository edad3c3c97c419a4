"""Every fault campaign of this folder: a short one always, the long one if slow tests are asked for."""

from importlib import import_module

import pytest

from tests.faults.__main__ import NAMES


def totals(name, size, folder):
    module = import_module(f"tests.faults.{name}")
    return module.campaign(getattr(module, size), 0, folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_campaign_loses_nothing(name, tmp_path):
    found = totals(name, "SHORT", tmp_path)
    assert found.good, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_long_campaign_loses_nothing(name, tmp_path):
    found = totals(name, "LONG", tmp_path)
    assert found.good, found
