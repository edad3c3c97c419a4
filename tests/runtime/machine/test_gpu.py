"""What a GPU computes is what a CPU computes, however it is asked for it. Without a GPU nothing here runs."""

import json

import pytest
import torch

from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.machine.execution import record_for, running
from metalearn_cli.runtime.machine.graph_recording import WARM_UP
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.runtime.run.unread_losses import LateStepper
from metalearn_cli.runtime.use import measurement
from tests.commands import TINY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
ITERATIONS = 2 * WARM_UP + 2
OPTIONS = {"maml_plus_plus": {"multi_step_iterations": 1, "first_order_iterations": 0}}
BACKBONES = {
    "strided": {"name": "conv4", "channels": 8},
    "pooled": {"name": "conv4", "channels": 8, "pool": True},
    "resnet12": {"name": "resnet12", "channels": [4, 8, 8, 8]},
}


def run(path, data_dir, device, algorithm="maml", backbone="strided", said=None, **execution):
    """The rows of a run's metrics, and its session."""
    path.mkdir()
    chosen = from_mapping(
        TINY
        | {
            "algorithm": {"name": algorithm} | OPTIONS.get(algorithm, {}),
            "backbone": BACKBONES[backbone],
            "execution": execution,
        }
        | {"outer": {"meta_batch_size": 4, "iterations": ITERATIONS}, "eval": TINY["eval"] | {"every": ITERATIONS}},
        "test",
    )
    place = torch.device(device)
    (path / "checkpoints").mkdir()
    session = sessions.session_for(chosen, path, data_dir=data_dir, device=place)
    record = record_for(place, chosen.execution)
    with running(session.plan, [].append if said is None else said.append, record) as runner:
        list(training.loop(session, runner, sessions.start(session, False), training.Watch()))
        assert (record is not None) == (runner._recorder is not None and runner._recorder.replays)
    return [json.loads(row) for row in session.folder.metrics.read_text().splitlines()], session


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_gpu_has_the_losses_of_a_cpu(recorded, backbone, data_dir, tmp_path):
    said = []
    found, _ = run(tmp_path / "gpu", data_dir, "cuda", backbone=backbone, said=said, cuda_graph=recorded)
    expected, _ = run(tmp_path / "cpu", data_dir, "cpu", backbone=backbone)
    assert not said
    for row, other in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
        for step, known in zip(row["val"], other["val"], strict=True):
            assert step["loss"] == pytest.approx(known["loss"], rel=1e-2)


def test_the_command_trains_tests_and_looks_at_pictures_on_a_gpu(cli, tiny_config):
    for arguments in (("train", tiny_config), ("eval", "--checkpoint", "runs/tiny/checkpoints/best.pt")):
        outcome = cli(*arguments, "--device", "cuda")
        assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("algorithm", names_in("algorithms"))
def test_every_algorithm_is_recorded_or_says_why_not(algorithm, data_dir, tmp_path):
    said = []
    run(tmp_path / "run", data_dir, "cuda", algorithm, said=said)
    assert not said


def test_a_step_does_not_wait_for_the_gpu(data_dir, tmp_path):
    _, session = run(tmp_path / "run", data_dir, "cuda")
    with running(session.plan) as runner:
        stepper = LateStepper(session, runner, sessions.start(session, False), print)
        training._step(session, stepper, training.Watch())
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                training._step(session, stepper, training.Watch())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(stepper.rows) == 4


def test_a_checkpoint_of_a_gpu_is_tested_on_a_cpu(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    _, session = run(tmp_path / "run", data_dir, "cuda")
    there, here = (measurement.evaluate(session.folder.best, episodes=20, device=device) for device in ("cuda", "cpu"))
    assert there.fingerprint == here.fingerprint
    for one, other in zip(there.steps, here.steps, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-2)
