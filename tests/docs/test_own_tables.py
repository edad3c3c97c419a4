"""What docs/own-tables.md gives to copy works as it stands, only shorter."""

import shlex
import subprocess
import sys

import numpy as np

from tests.commands import ROOT, environment, run
from tests.docs.test_how_to import blocks
from tests.tables import written

PAGE = blocks((ROOT / "docs/own-tables.md").read_text())
SHORT = " --set outer.iterations=2 --set outer.meta_batch_size=2 --set eval.every=2 --set eval.val_episodes=4"


def typed(lines, folder, data_dir):
    """What the commands print, each run by itself: a process that has torch already is forked for it."""
    said = []
    for line in lines.splitlines():
        program, *words = shlex.split(line)
        assert program == "metalearn"
        outcome = run(data_dir, folder, *words)
        assert outcome.code == 0, outcome.err
        said.append(outcome.out)
    return "".join(said)


def pumps(path):
    """A table with the columns of the page."""
    generator = np.random.default_rng(0)
    flow = generator.uniform(1, 4, 10 * 30)
    return written(
        path,
        {
            "pump": [f"p{number:02}" for number in range(10) for _ in range(30)],
            "flow": flow,
            "pressure": generator.uniform(0, 1, 300),
            "oil": generator.choice(["mineral", "synthetic"], 300),
            "power": 5 * flow + generator.normal(size=10).repeat(30),
        },
    )


def test_the_machines_are_trained_measured_and_used_also_from_python(tmp_path, data_dir):
    train, measure = PAGE["try"].splitlines()
    typed(train + SHORT, tmp_path, data_dir)
    assert "R2" in typed(measure + " --episodes 4", tmp_path, data_dir)
    for name in ("few.csv", "new.csv"):
        (tmp_path / name).write_text(PAGE[name])
    typed(PAGE["use"], tmp_path, data_dir)
    header, *rows = (tmp_path / "answers.csv").read_text().splitlines()
    assert header.startswith("file,millimetres")
    assert len(rows) == 3
    script = [sys.executable, "-c", PAGE["python"]]
    done = subprocess.run(script, cwd=tmp_path, env=environment(data_dir), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.pt2").exists()


def test_a_table_of_ones_own_is_prepared_and_trained_on_by_the_line_that_prepare_ends_with(tmp_path, data_dir):
    source = pumps(tmp_path / "pumps.csv")
    assert source.read_text().splitlines()[0] == PAGE["pumps.csv: the first rows"].split()[0]
    prepare, train = PAGE["own"].splitlines()
    typed(prepare, tmp_path, data_dir)
    typed(train + SHORT, tmp_path, data_dir)
    assert (tmp_path / "runs/pumps/checkpoints/best.pt").exists()


def test_series_of_ones_own_are_prepared_and_trained_on(tmp_path, data_dir):
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 40, 27 * 25)
    x = generator.normal(size=(int(lengths.sum()), 3))
    np.savez(tmp_path / "gestures.npz", x=x, lengths=lengths, label=np.arange(27).repeat(25))
    prepare, train = PAGE["series"].splitlines()
    typed(prepare, tmp_path, data_dir)
    typed(train + SHORT, tmp_path, data_dir)
