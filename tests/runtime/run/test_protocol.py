"""Every number stands beside the protocol it was measured with, wherever it is told."""

import json
from itertools import product

import pytest

from metalearn_cli.runtime.run.protocol import Protocol, unlike
from tests.report.reading import Page

SETTINGS = {
    "eval.statistics": "support", "eval.ways": "3", "eval.queries": "4", "eval.inner_steps": "0",
    "eval.val_episodes": "6",
}  # fmt: skip
"""Each of them makes validation another than training; ProtoNet is tied to no number of classes."""
WORDS = ("3-way 1-shot", "4 queries", "6 episodes", "support statistics", "0 inner steps", "chance 33.3 %")


@pytest.fixture(scope="module")
def run(run_cli, tmp_path_factory, tiny_config):
    """A run that trains by one protocol and validates by another, and what `train` printed of it, twice."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    folder = tmp_path_factory.mktemp("protocols")
    given = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    given += ["--set", "algorithm.name=protonet", "--set", "dataset.augmentation=[flip]"]
    said = run_cli("train", tiny_config, *given, "--run-dir", folder / "run")
    assert said.code == 0, said.err
    fields = run_cli("train", tiny_config, *given, "--run-dir", folder / "run", "--resume", "--json").fields
    return folder / "run", said, fields


def test_the_banner_tells_the_protocol_of_training_from_that_of_validation(run):
    _, said, _ = run
    before, _, after = said.err.partition("validation  ")
    assert "2-way 1-shot, 2 queries, augmented (flip)" in before
    assert "transductive statistics" in before
    for word in WORDS:
        assert word in after.partition("iterations of")[0]
        assert word == "0 inner steps" or word not in before


def test_the_table_the_card_and_the_page_have_the_same_words(run):
    folder, said, _ = run
    page = Page((folder / "report.html").read_bytes()).text
    card = (folder / "checkpoints/MODEL_CARD.md").read_text()
    for told, word in product((said.out, page, card), WORDS):
        assert word in told
    whole = "glyphs val, 3-way 1-shot, 4 queries; 6 episodes, support statistics, 0 inner steps, chance 33.3 %"
    assert whole in page
    assert whole in card
    assert whole in said.out.replace("\n", "; ")


def test_the_page_says_that_the_tasks_of_training_are_augmented_and_those_of_validation_are_not(run):
    page = Page((run[0] / "report.html").read_bytes()).text
    assert "before: glyphs train, 2-way 1-shot, 2 queries, augmented (flip); transductive statistics" in page
    assert "Training: glyphs train, 3-way 1-shot, 4 queries, augmented (flip); 6 episodes, support statistics" in page
    assert "glyphs val, 3-way 1-shot, 4 queries, augmented" not in page


def test_json_has_the_protocol_as_fields(run):
    assert run[2]["protocol"] == {
        "dataset": "glyphs", "part": "val", "ways": 3, "shots": 1, "queries": 4, "statistics": "support",
        "inner_steps": 0, "episodes": 6, "accuracy": True, "augmentation": [], "trained_on": False,
    }  # fmt: skip


def test_eval_tells_and_counts_by_the_same_protocol(run, run_cli):
    given = ("eval", "--checkpoint", run[0] / "checkpoints/best.pt", "--episodes", "7")
    shown, fields = run_cli(*given).out, run_cli(*given, "--json").fields
    for word in (*WORDS[:2], "7 episodes", *WORDS[3:]):
        assert word in shown
    assert [fields[name] for name in ("ways", "queries", "episodes", "statistics", "inner_steps")] == [
        3, 4, 7, "support", 0,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def other(run_cli, tmp_path_factory, tiny_config):
    """The checkpoint of a run like the tiny one that is measured with other statistics and one inner step more."""
    folder = tmp_path_factory.mktemp("other")
    given = ("--set", "eval.statistics=support", "--set", "eval.inner_steps=3")
    assert run_cli("train", tiny_config, *given, "--run-dir", folder / "run").code == 0
    return folder / "run/checkpoints/best.pt"


def test_a_difference_across_protocols_carries_a_warning_in_print_in_json_and_on_the_page(
    run_cli, tiny_run, other, tmp_path
):
    given = ("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--checkpoint", other)
    said = run_cli(*given, "--report", "page.html", cwd=tmp_path)
    expected = ["statistics support against transductive", "inner steps 3 against 2"]
    assert f"warning: {other} was measured otherwise than" in said.err
    assert "; ".join(expected) in said.err
    assert "; ".join(expected) in Page((tmp_path / "page.html").read_bytes()).text
    as_json = run_cli(*given, "--json")
    assert as_json.fields["paired"][0]["unlike"] == expected
    assert "; ".join(expected) in as_json.err
    json.loads(as_json.out)


def test_each_of_several_tables_is_headed_by_its_file(run_cli, tiny_run, other):
    best = tiny_run / "checkpoints/best.pt"
    shown = run_cli("eval", "--checkpoint", best, "--checkpoint", other).out.splitlines()
    heads = [place for place, line in enumerate(shown) if line in (str(best), str(other))]
    assert [shown[place] for place in heads] == [str(best), str(other)]
    assert all(shown[place + 1].startswith("maml, second order: glyphs test") for place in heads)


ONE = Protocol("glyphs", "test", 5, 1, 15, "support", 3, 600, True)


@pytest.mark.parametrize("same_algorithm", [True, False])
@pytest.mark.parametrize(
    ("field", "value", "counts"),
    [
        ("dataset", "omniglot", True),
        ("part", "val", True),
        ("ways", 20, True),
        ("shots", 5, True),
        ("queries", 5, True),
        ("statistics", "running", True),
        ("augmentation", ("flip",), True),
        ("episodes", 100, False),
        ("inner_steps", 10, None),
    ],
)
def test_what_makes_two_measurements_unlike(field, value, counts, same_algorithm):
    found = unlike(ONE, ONE._replace(**{field: value}), same_algorithm)
    assert bool(found) == (same_algorithm if counts is None else counts)
    assert all(line.startswith(field.replace("_", " ")) for line in found)
