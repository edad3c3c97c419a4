"""Sinks of somebody else's in a real run."""

import json

import pytest

from tests.commands import TINY

RECORDER = """
import json
class Recorder:
    def __init__(self, run):
        self.path = run.folder.parent / f"{type(self).__name__}.jsonl"
        self.write("open", run.name, run.settings["algorithm.name"])
    def write(self, *what):
        with self.path.open("a") as file: file.write(json.dumps(what) + "\\n")
    def scalars(self, iteration, values): self.write("scalars", iteration, sorted(values))
    def picture(self, iteration, name, pixels): self.write("picture", iteration, name, list(pixels.shape))
    def result(self, metrics): self.write("result", sorted(metrics))
    def close(self): self.write("close")
class Broken(Recorder):
    def scalars(self, iteration, values): raise OSError("the server is down")
"""


@pytest.fixture
def train(cli, tmp_path):
    """`train("mine:Recorder")` trains the tiny experiment with these sinks, in the test's own folder."""
    (tmp_path / "mine.py").write_text(RECORDER)

    def train(*references):
        (tmp_path / "tiny.yaml").write_text(json.dumps(TINY | {"sinks": references}))
        return cli("train", "tiny.yaml", "--run-dir", "tiny", PYTHONSAFEPATH="1")

    return train


def test_a_sink_beside_the_experiment_sees_the_run_and_one_that_fails_costs_a_warning(train, tmp_path):
    outcome = train("mine:Recorder", "mine:Broken")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: sink mine:Broken failed and lacks numbers; the run goes on (OSError: the ") == 1
    assert len((tmp_path / "tiny/metrics.jsonl").read_text().splitlines()) == 2
    seen = [json.loads(line) for line in (tmp_path / "Recorder.jsonl").read_text().splitlines()]
    values = ["tasks per second", "train/loss", "train/score", "val/step 0", "val/step 1", "val/step 2"]
    assert seen == [
        ["open", "tiny", "maml"],
        ["picture", 0, "val/episode", [2 * 28, (1 + 3) * 28 + 2, 3]],
        ["scalars", 2, values],
        ["scalars", 4, values],
        ["result", ["result/best val", "result/iterations", "result/loss", "result/val"]],
        ["close"],
    ]


def test_a_wrong_reference_is_one_line_with_the_key_and_no_run(train, tmp_path):
    outcome = train("mine:Recorder", "mine:Recorde")
    assert outcome.code == 2
    title, error = outcome.err.splitlines()
    assert error.startswith("error: sinks[1]: mine:Recorde cannot be imported"), title
    assert not (tmp_path / "tiny").exists()
