"""Signals to a process that trains: seen after the step, or in the middle of one that takes too long."""

import signal
import subprocess
import sys
import time

import pytest

from tests.commands import ROOT

STEP = """
import signal, sys, time
from metalearn_cli.cli import stopping
stopping._PATIENCE_SECONDS = 0.2
stopper = stopping.Stopper(None)
print("ready", flush=True)
{body}
print("stopped", stopper(), stopper.signal, flush=True)
"""
LONG_STEP = """
try:
    with stopper.abandonable():
        time.sleep(60)
except KeyboardInterrupt:
    print("given up", flush=True)
"""
CRITICAL = """
end = time.monotonic() + 1.0
while time.monotonic() < end:
    time.sleep(0.01)
with stopper.abandonable():
    pass
"""


def started(body, **options):
    line = [sys.executable, "-c", STEP.format(body=body)]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_step_that_takes_too_long_after_a_signal_is_given_up(name):
    process, began = started(LONG_STEP), time.monotonic()
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    assert out == f"given up\nstopped True {int(getattr(signal, name))}\n", err
    assert time.monotonic() - began < 20


def test_what_may_not_be_given_up_is_finished():
    process = started(CRITICAL)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out == f"stopped True {int(signal.SIGTERM)}\n", err


def test_a_second_interrupt_ends_the_process_at_once():
    process = started("while True:\n    time.sleep(0.01)\n")
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


def test_a_hangup_that_nohup_has_ignored_stays_ignored():
    body = "import os\nos.kill(os.getpid(), signal.SIGHUP)\ntime.sleep(0.1)\n"
    process = started(body, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    out, _ = process.communicate(timeout=30)
    assert out == "stopped False None\n"


def test_the_deadline_stops_too():
    from metalearn_cli.cli.stopping import Stopper

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert not Stopper(None)()
        assert not Stopper(60.0)()
        assert Stopper(0.0)()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
