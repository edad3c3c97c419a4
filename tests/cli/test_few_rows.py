"""Rows for `finetune` that do not fit the columns of its learner, and those that fit in spite of their form."""

import numpy as np
import pytest

from metalearn_cli.datasets.table import Config
from tests.tables import machines, prepared, written
from tests.untrained import checkpoint_of

FEW = {name: cells[:6] for name, cells in machines(1, 12, seed=5).items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A learner of forces, before its first iteration."""
    folder = tmp_path_factory.mktemp("m")
    settings = {"title": "m", "task": "machine", "target": ["force"]}
    prepared(Config(**settings), folder / "data", written(folder / "m.csv", machines()))
    return checkpoint_of(
        folder / "m.pt", folder / "data", dataset={"name": "table"} | settings,
        task={"ways": 1, "shots": 2, "queries": 3}, backbone={"name": "mlp", "hidden": [8]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hours": ["", *FEW["hours"][1:]]}, "few.csv:2: column 'hours' is empty; fill it, as the checkpoint was"),
        ({"force": ["", *FEW["force"][1:]]}, "few.csv:2: column 'force' is empty or missing, expected the value"),
        ({"force": ["high", *FEW["force"][1:]]}, "few.csv:2: column 'force': found 'high', expected a number"),
        ({"machine": ["other", *FEW["machine"][1:]]}, "few.csv: has rows of 2 tasks ('m00', 'other', ...); give"),
        ({"speed": None}, "few.csv: has no column 'speed', which the checkpoint was trained with"),
        ({"force": None}, "few.csv:2: column 'force' is empty or missing, expected the value to learn"),
        (None, "few.csv: is empty; expected a row of column names"),
    ],
)
def test_a_support_set_that_does_not_fit_is_one_line(cli, tmp_path, checkpoint, changed, told):
    if changed is None:
        (tmp_path / "few.csv").touch()
    else:
        written(tmp_path / "few.csv", {name: cells for name, cells in (FEW | changed).items() if cells is not None})
    outcome = cli("finetune", "--checkpoint", checkpoint, "--support", "few.csv", "--quiet")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [outcome.err.strip()]
    assert outcome.err.startswith(f"error: {told}")


def test_columns_in_another_order_others_beside_them_and_a_new_word_for_the_task_change_nothing(
    cli, tmp_path, checkpoint
):
    written(tmp_path / "few.csv", FEW)
    turned = {name: FEW[name] for name in reversed(FEW)} | {"note": ["hello"] * 6, "machine": ["new"] * 6}
    written(tmp_path / "turned.csv", turned)
    first, second = (
        cli("finetune", "--checkpoint", checkpoint, "--support", name, "--json", "--quiet").fields["per_step"]
        for name in ("few.csv", "turned.csv")
    )
    assert first == second


def test_arrays_for_a_learner_of_columns_are_refused_as_what_they_are(cli, tmp_path, checkpoint):
    lengths = np.array([3, 5])
    np.savez(tmp_path / "s.npz", x=np.zeros((8, 2)), lengths=lengths, label=[0, 1])
    outcome = cli("finetune", "--checkpoint", checkpoint, "--support", "s.npz", "--quiet")
    assert outcome.err == "error: s.npz: the checkpoint was trained on columns, which this file has not\n"
