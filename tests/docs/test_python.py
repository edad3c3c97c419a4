"""The page about Python is a program that runs, from its first line to its last."""

import re
import subprocess
import sys

from tests.cli.conftest import folder_of_drawings
from tests.commands import ROOT, environment

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.DOTALL | re.MULTILINE)
CHECKS = """
assert learner.experiment.algorithm.name == "maml"
assert learner.interface.input_shape == (1, 28, 28)
assert classifier.classes == ["cat", "dog"]
assert probabilities.shape == (2, 2) and probabilities.dtype == np.float32
assert again.predict(queries) == classifier.predict(queries)
assert logits.shape == (1, 2)
assert Path("runs/mine/checkpoints/best.pt").is_file()
assert 0 <= accuracy <= 1 and more == [] and result.scores.shape == (20,)
"""


def test_the_page_runs_and_gives_what_it_says(tiny_run, data_dir, tmp_path):
    (tmp_path / "best.pt").write_bytes((tiny_run / "checkpoints/best.pt").read_bytes())
    drawn = folder_of_drawings(tmp_path / "drawn", 3, seed=0)
    for animal, name in (("cat", "one"), ("dog", "three bars")):
        for number in range(2):
            place = tmp_path / "support" / animal
            place.mkdir(parents=True, exist_ok=True)
            (drawn / name / f"{number}.png").rename(place / f"{number}.png")
    (tmp_path / "query").mkdir()
    for number, name in enumerate(("one", "three bars")):
        (drawn / name / "2.png").rename(tmp_path / "query" / f"{number}.png")
    program = "\n".join([*BLOCKS, "from pathlib import Path", CHECKS])
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(data_dir), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "2 pictures and 3 labels; each picture needs one label\n"
