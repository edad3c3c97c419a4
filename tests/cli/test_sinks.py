"""Sinks of somebody else's in a real run, and the examples of docs/sinks.md against stand-ins for their libraries."""

import json
import re

import pytest

from tests.commands import ROOT, TINY

RECORDER = """
import json
class Recorder:
    def __init__(self, run):
        self.path = run.folder.parent / "seen.jsonl"
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
STAND_IN = """
import json
class Anything:
    def __init__(self, name): self.name = name
    def __getattr__(self, name): return Anything(f"{self.name}.{name}")
    def __call__(self, *arguments, **more):
        with open("calls", "a") as file: file.write(self.name + "\\n")
        return Anything(self.name)
def __getattr__(name):
    if name.startswith("__"): raise AttributeError(name)
    return Anything(name)
"""


@pytest.fixture
def train(cli, tmp_path):
    """`train("mine:Recorder")` trains the tiny experiment with these sinks, in the test's own folder."""
    (tmp_path / "mine.py").write_text(RECORDER)

    def train(*references):
        (tmp_path / "tiny.yaml").write_text(json.dumps(TINY | {"sinks": references}))
        return cli("train", "tiny.yaml", "--run-dir", "tiny", PYTHONSAFEPATH="1")

    return train


def test_a_sink_in_a_file_beside_the_experiment_sees_the_run(train, tmp_path):
    outcome = train("mine:Recorder")
    assert outcome.code == 0, outcome.err
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    values = ["tasks per second", "train/loss", "train/score", "val/step 0", "val/step 1", "val/step 2"]
    assert seen == [
        ["open", "tiny", "maml"],
        ["picture", 0, "val/episode", [2 * 28, (1 + 3) * 28 + 2, 3]],
        ["scalars", 2, values],
        ["scalars", 4, values],
        ["result", ["result/best val", "result/iterations", "result/loss", "result/val"]],
        ["close"],
    ]


def test_a_sink_that_fails_costs_one_warning_and_not_the_run(train, tmp_path):
    outcome = train("mine:Broken")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: sink mine:Broken failed and lacks numbers; the run goes on (OSError: the ") == 1
    assert len((tmp_path / "tiny/metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "tiny/checkpoints/best.pt").exists()


def test_a_wrong_reference_is_one_line_with_the_key_and_no_run(train, tmp_path):
    outcome = train("mine:Recorder", "mine:Recorde")
    assert outcome.code == 2
    assert outcome.err.startswith("error: sinks[1]: mine:Recorde cannot be imported")
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "tiny").exists()
    outcome = train("mine.Recorder")
    assert outcome.err.startswith("error: tiny.yaml:1: sinks[0]: found 'mine.Recorder' (str), expected tensorboard or ")


@pytest.mark.parametrize(
    ("file", "library", "promised"),
    [
        ("my_sinks", "wandb", {"init", "init.log", "Image", "init.summary.update", "init.finish"}),
        (
            "my_mlflow",
            "mlflow",
            {"set_experiment", "start_run", "log_params", "log_metrics", "log_image", "end_run"},
        ),
    ],
)
def test_the_examples_of_the_docs_pass_on_what_a_run_gives(train, tmp_path, file, library, promised):
    docs = (ROOT / "docs/sinks.md").read_text()
    [code] = re.findall(rf"<!-- {file}.py -->\n```python\n(.*?)```", docs, re.DOTALL)
    (tmp_path / f"{file}.py").write_text(code)
    (tmp_path / f"{library}.py").write_text(STAND_IN)
    [name] = re.findall(r"^class (\w+)\(Sink\)", code, re.MULTILINE)
    outcome = train(f"{file}:{name}")
    assert outcome.code == 0, outcome.err
    assert "warning" not in outcome.err
    assert set((tmp_path / "calls").read_text().split()) == promised
