"""Rows are called rows and series series wherever a command speaks to a person: nowhere is a picture."""

import html
import json
import re

import numpy as np
import pytest

from tests.commands import TINY
from tests.tables import kinds, machines, people, written

TASK = {"ways": 2, "shots": 2, "queries": 2}
MAML = {"algorithm": {"name": "maml", "inner_lr": 0.01}}
REGRESSION = MAML | {"task": {"ways": 1, "shots": 2, "queries": 2}}
EVAL = {"queries": 2, "episodes": 8, "val_episodes": 4, "every": 2}
CLASSES = {"task": TASK, "algorithm": {"name": "protonet"}}
MLP, CONV = {"name": "mlp", "hidden": [8]}, {"name": "conv4_1d", "channels": 4}


def series(count=10, rows=8):
    """Series of two channels and sixteen steps, of `count` classes or tasks, each with a frequency of its own."""
    generator = np.random.default_rng(0)
    number = np.arange(count).repeat(rows)
    steps = np.arange(16) * (1 + number)[:, None, None] / count
    x = np.sin(steps + generator.uniform(0, 6, (len(number), 1, 1))) + generator.normal(0, 0.1, (len(number), 2, 16))
    return {"x": x, "name": np.array([f"k{one:02}" for one in number]), "value": x.mean((1, 2))}


def rows_of_classes(folder):
    written(folder / "all.csv", kinds())
    written(folder / "few.csv", {name: cells[:16] for name, cells in kinds().items()})
    written(folder / "new.csv", {name: cells[:20] for name, cells in kinds(seed=1).items() if name != "label"})


def rows_of_tasks(folder):
    named = [("machine", "task"), ("speed", "speed"), ("force", "target")]
    columns = {new: machines()[old] for old, new in named}
    written(folder / "all.csv", columns)
    written(folder / "few.csv", {name: cells[:8] for name, cells in columns.items()})
    written(folder / "new.csv", {"speed": columns["speed"][:3]})


def series_of_classes(folder):
    _of_arrays(folder, "label", lambda found: found["name"])


def series_of_tasks(folder):
    _of_arrays(folder, "target", lambda found: found["value"], task=True)


def _of_arrays(folder, role, values, task=False):
    found = series()
    given = {"x": found["x"].astype(np.float32), role: values(found)} | ({"task": found["name"]} if task else {})
    np.savez(folder / "all.npz", **given)
    np.savez(folder / "few.npz", **{name: array[: 8 if task else 16] for name, array in given.items()})
    np.savez(folder / "new.npz", x=given["x"][:5])


def rows_of_people(folder):
    columns = {{"person": "task", "activity": "label"}.get(name, name): cells for name, cells in people(10).items()}
    written(folder / "all.csv", columns)
    written(folder / "few.csv", {name: cells[:10] for name, cells in columns.items()})
    written(folder / "new.csv", {"level": columns["level"][:3]})


TABLES = {
    "rows of classes": (rows_of_classes, "rows", "csv", CLASSES | {"backbone": MLP}),
    "series of classes": (series_of_classes, "series", "npz", CLASSES | {"backbone": CONV}),
    "rows of people, tasks of their own": (rows_of_people, "rows", "csv", MAML | {"task": TASK, "backbone": MLP}),
    "rows of tasks": (rows_of_tasks, "rows", "csv", REGRESSION | {"backbone": MLP}),
    "series of tasks": (series_of_tasks, "series", "npz", REGRESSION | {"backbone": CONV}),
}

PARAMS = [pytest.param(name, marks=pytest.mark.slow) if "tasks" in name else name for name in TABLES]


@pytest.fixture(scope="module", params=PARAMS)
def told(request, run_cli, tmp_path_factory):
    """The word for an example, and all that four commands on such a table print and write, by a name."""
    made, noun, suffix, blocks = TABLES[request.param]
    folder = tmp_path_factory.mktemp("words")
    made(folder)
    values = TINY | blocks | {"dataset": {"name": "table", "title": "t"}, "eval": EVAL}
    (folder / "mine.yaml").write_text(json.dumps(values))
    data = {"METALEARN_DATA": str(folder / "data")}
    given = ("--checkpoint", "run/checkpoints/best.pt", "--support", f"few.{suffix}")
    lines = {
        "prepare": ("prepare", "table", "--source", f"all.{suffix}", "--set", "dataset.title=t"),
        "train": ("train", "mine.yaml", "--run-dir", "run"),
        "eval": ("eval", "--checkpoint", "run/checkpoints/best.pt", "--report", "eval.html"),
        "judged": ("finetune", *given, "--query", f"few.{suffix}", "--report", "judged.html", "--output", "mine.pt"),
        "left out": (
            "finetune",
            *given,
            "--query",
            f"new.{suffix}",
            "--csv",
            "new-answers.csv",
            "--report",
            "new.html",
        ),
        "again": ("finetune", "--checkpoint", "mine.pt", "--query", f"new.{suffix}", "--report", "again.html"),
    }
    found = {}
    for name, line in lines.items():
        outcome = run_cli(*line, cwd=folder, **data)
        assert outcome.code == 0, (name, outcome.err)
        found[name] = outcome.out + outcome.err
    pages = {page.name: page for page in [*folder.glob("*.html"), folder / "run" / "report.html"]}
    assert len(pages) == 5
    found |= {name: text_of(page.read_text()) for name, page in pages.items()}
    found |= {name: (folder / name).read_text() for name in ("new-answers.csv", "run/checkpoints/MODEL_CARD.md")}
    return noun, found


def text_of(page):
    """What a person reads of a page: its text, and the descriptions of what it shows."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    described = re.findall(r'(?:alt|title|aria-label)="([^"]*)"', body)
    return html.unescape(" ".join([re.sub(r"<[^>]+>", " ", body), *described]))


def test_a_picture_is_mentioned_nowhere_and_examples_have_the_word_of_their_table(told):
    noun, found = told
    for name, text in found.items():
        assert not re.search("picture|image", text, re.IGNORECASE), name
    for name in ("prepare", "judged", "left out", "judged.html", "new.html", "again.html"):
        assert re.search(rf"\b{noun}\b", found[name]), name
    if noun == "series":
        counts = [text for text in found.values() if re.search(r"\d rows?\b", text)]
        assert not counts
