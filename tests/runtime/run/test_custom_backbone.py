"""A network of one's own through a whole run; a checkpoint that names code runs none unless a person names it too."""

import numpy as np
import pytest
import torch

from metalearn_cli import load, load_classifier
from metalearn_cli.errors import CheckpointError
from metalearn_cli.references import Call
from metalearn_cli.runtime.run import gradient_proof
from metalearn_cli.runtime.use import measurement
from tests import untrained
from tests.commands import TINY
from tests.runtime.run.test_family_runs import CPU, session_in, train

CALL = "tests.modules:Residual"
BACKBONE = {"name": "custom", "call": CALL, "arguments": {"outputs": 2}}


def test_it_trains_and_is_proved(data_dir, tmp_path):
    session = session_in(tmp_path, data_dir, "maml", backbone=BACKBONE)
    found = gradient_proof.prove(session.experiment, session.data.interface, CPU)
    assert found.parallel < 1e-9
    assert found.order < 1e-4
    assert len(train(session)) == 2


def test_a_checkpoint_runs_its_code_only_if_a_person_approves_this_very_call(data_dir, tmp_path, monkeypatch):
    path = untrained.checkpoint_of(tmp_path / "best.pt", data_dir, backbone=BACKBONE)
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    for not_enough in ("tests.modules:Noisy", CALL, Call(CALL, {"outputs": 3}).approval()):
        monkeypatch.setenv("METALEARN_TRUST", not_enough)
        with pytest.raises(
            CheckpointError, match=r"tests\.modules:Residual\(outputs=2\); allow it by: METALEARN_TRUST="
        ):
            load(path)
    with pytest.raises(CheckpointError, match="would run Python code") as caught:
        measurement.evaluate(path, episodes=8, device="cpu")
    monkeypatch.setenv("METALEARN_TRUST", f"elsewhere:build, {str(caught.value).rpartition('=')[2]}")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    classifier = load(path).adapt(pictures, list("abab"))
    classifier.save(tmp_path / "mine.pt")
    with torch.no_grad():
        assert classifier.module()(torch.rand(3, 1, 28, 28)).shape == (3, 2)
    assert np.array_equal(
        load_classifier(tmp_path / "mine.pt").predict_proba(pictures), classifier.predict_proba(pictures)
    )
    assert len(measurement.evaluate(path, episodes=8, device="cpu").steps) == 1 + TINY["eval"]["inner_steps"]
    monkeypatch.delenv("METALEARN_TRUST")
    with pytest.raises(CheckpointError, match="would run Python code"):
        load_classifier(tmp_path / "mine.pt")
