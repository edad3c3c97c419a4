import re
import sys
import time
from types import ModuleType

import numpy as np
import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping, read_experiment, to_yaml
from metalearn_cli.storage.runs import sinks
from tests.commands import ROOT, TINY

FAKE = """
class Whole:
    def __init__(self, run): self.run = run
    def scalars(self, iteration, values): raise OSError(f"no route to host at {iteration}")
    def picture(self, iteration, name, pixels): pass
    def result(self, metrics): raise ValueError("still none")
    def close(self): (self.run.folder / "closed").touch()
class Half:
    def __init__(self, run): pass
    def scalars(self, iteration, values): pass
class Offline:
    def __init__(self, run): raise RuntimeError("log in first\\nand a page of advice")
number = 3
"""


def silent(text):
    raise AssertionError(text)


@pytest.fixture
def run(tmp_path):
    return sinks.Run(tmp_path, "tiny", sinks.settings_of(from_mapping(TINY, "test")))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of somebody else's, beside the experiment."""
    (tmp_path / "mine.py").write_text(FAKE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("mine", None)


def test_tensorboard_gets_numbers_pictures_and_hyperparameters(run):
    pytest.importorskip("tensorboardX", reason="the extra metalearn-cli[tensorboard] is not installed")
    with sinks.open_sinks(sinks.sink_openers(["tensorboard"]), run, silent) as (board,):
        board.scalars(3, {"train/loss": 0.5, "train/score": float("nan")})
        board.picture(3, "val/episode", np.zeros((4, 6, 3), np.uint8))
        board.result({"result/val": 0.5})
    events = b"".join(file.read_bytes() for file in sorted(run.folder.rglob("events.out.tfevents.*")))
    for word in (b"train/loss", b"val/episode", b"result/val", b"algorithm.inner_lr"):
        assert word in events
    assert b"train/score" not in events


def test_tensorboard_s_file_has_each_report_as_soon_as_it_is_made(run):
    pytest.importorskip("tensorboardX", reason="the extra metalearn-cli[tensorboard] is not installed")
    board = sinks.TensorBoard(run)
    [file] = run.folder.glob("events.*")
    for iteration in (1, 2, 3):
        before, until = file.stat().st_size, time.monotonic() + 20
        board.scalars(iteration, {"train/loss": 0.5})
        while file.stat().st_size == before and time.monotonic() < until:
            time.sleep(0.05)
        assert file.stat().st_size > before
    board.close()


def test_without_a_list_there_is_tensorboard_where_its_library_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert sinks.sink_openers(None) == []
    assert [one.name for one in sinks.sink_openers(["tensorboard"])] == ["tensorboard"]


def test_a_listed_sink_whose_library_is_missing_is_an_error(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    openers = sinks.sink_openers(["tensorboard"])
    with pytest.raises(ConfigError, match=r"sinks\[0\]: tensorboard cannot be opened"):
        sinks.open_sinks(openers, run, silent).__enter__()


def test_settings_are_the_experiment_in_one_level():
    found = sinks.settings_of(from_mapping(TINY, "test"))
    assert found["algorithm.name"] == "maml"
    assert found["outer.iterations"] == 4
    assert found["outer.clip_norm"] == "null"
    assert found["dataset.augmentation"] == "[]"


def test_a_sink_that_raises_is_told_once_and_closed_however_the_run_ends(run, mine):
    told = []

    def used(sink):
        for iteration in (1, 2):
            sink.scalars(iteration, {})
        sink.result({})
        raise KeyError

    with pytest.raises(KeyError), sinks.open_sinks(sinks.sink_openers(["mine:Whole"]), run, told.append) as (sink,):
        used(sink)
    assert told == ["sink mine:Whole failed and lacks numbers; the run goes on (OSError: no route to host at 1)"]
    assert (run.folder / "closed").exists()


def test_a_process_that_writes_nothing_opens_none(mine):
    with sinks.open_sinks(sinks.sink_openers(["mine:Offline"]), None, silent) as found:
        assert found == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere:Sink", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("mine:Other", "cannot be imported: AttributeError: module 'mine' has no attribute 'Other'"),
        ("mine:number", "is no class or function"),
        ("mine:Half", "has no method picture, result, close"),
        ("mine:Offline", "cannot be opened: RuntimeError: log in first"),
    ],
)
def test_a_wrong_reference_is_one_line_with_its_key(run, mine, reference, message):
    with (
        pytest.raises(ConfigError) as refused,
        sinks.open_sinks(sinks.sink_openers(["mine:Whole", reference]), run, silent),
    ):
        pass
    assert str(refused.value).startswith(f"sinks[1]: {reference} {message}")
    assert "\n" not in str(refused.value)


def test_a_reference_of_the_wrong_form_names_its_line(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        to_yaml(from_mapping(TINY, "test")).replace("sinks: null", "sinks: [mine.Sink]")
    )
    with pytest.raises(ConfigError, match=r"mine.yaml:\d+: sinks\[0\]: found 'mine.Sink' .* expected tensorboard or "):
        read_experiment(str(tmp_path / "mine.yaml"))


class StandIn(ModuleType):
    """A library of which everything is there, and does nothing but be noted in `called`."""

    called: list

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        inner = StandIn(f"{self.__name__}.{name}".strip("."))
        inner.called = self.called
        return inner

    def __call__(self, *arguments, **more):
        self.called.append(self.__name__)
        return self


@pytest.mark.parametrize(
    ("file", "library", "promised"),
    [
        ("my_sinks", "wandb", "init init.log Image init.log init.summary.update init.finish"),
        ("my_mlflow", "mlflow", "set_experiment start_run log_params log_metrics log_image log_metrics end_run"),
    ],
)
def test_the_examples_of_the_docs_pass_on_what_a_run_gives(run, mine, tmp_path, monkeypatch, file, library, promised):
    [code] = re.findall(rf"<!-- {file}.py -->\n```python\n(.*?)```", (ROOT / "docs/sinks.md").read_text(), re.DOTALL)
    (tmp_path / f"{file}.py").write_text(code)
    stand_in = StandIn("")
    stand_in.called = []
    monkeypatch.setitem(sys.modules, library, stand_in)
    [name] = re.findall(r"^class (\w+)\(Sink\)", code, re.MULTILINE)
    with sinks.open_sinks(sinks.sink_openers([f"{file}:{name}"]), run, silent) as (sink,):
        sink.scalars(2, {"val/step 0": 0.5, "train/loss": float("nan")})
        sink.picture(0, "val/episode", np.zeros((4, 6, 3), np.uint8))
        sink.result({"result/val": 0.5})
    assert stand_in.called == promised.split()
    sys.modules.pop(file)
