import json
from types import SimpleNamespace

from metalearn_cli.experiment import from_mapping, read_experiment
from metalearn_cli.experiment.yaml_lines import parse
from metalearn_cli.runtime.run import model_card
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.storage.runs.run_folder import RunFolder
from tests.commands import TINY

SINES = {
    "dataset": {"name": "sinusoid"}, "task": {"ways": 1, "shots": 5}, "backbone": {"name": "mlp"},
}  # fmt: skip


def silent(text):
    raise AssertionError(text)


def card_of(path, data_dir, **blocks):
    """The card of a run that has a best checkpoint after 2 of its 4 iterations."""
    experiment = from_mapping(TINY | blocks, "test")
    folder = RunFolder(path)
    folder.best.parent.mkdir(parents=True, exist_ok=True)
    folder.best.touch()
    steps = [{"step": step, "score": 0.5 + step / 10, "ci95": 0.0123, "loss": 1.0} for step in range(3)]
    for iteration, best in ((2, True), (4, False)):
        folder.append({"iteration": iteration, "val": steps, "best": best})
    session = sessions.session_for(experiment, folder.path, data_dir=data_dir)
    model_card.write_card(session, silent)
    return folder.best.with_name("MODEL_CARD.md").read_text()


def test_the_head_is_what_the_hub_reads(data_dir, tmp_path):
    _, head, _ = card_of(tmp_path, data_dir).split("---\n", 2)
    values = parse(head, "card").values
    assert values["library_name"] == "metalearn"
    assert values["pipeline_tag"] == "image-classification"
    [result] = values["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.7}]
    assert result["dataset"]["name"] == "glyphs"


def test_the_card_says_how_good_it_is_and_how_to_make_it_again(data_dir, tmp_path):
    text = card_of(tmp_path, data_dir)
    assert (
        "| validation, 2-way 1-shot | **70.00 % ± 1.23**, 95 % interval over 10 episodes, after 2 inner steps |" in text
    )
    assert "| iterations | 2 of 4, 2 tasks each |" in text
    assert "exactly 2 new classes" in text
    config = text.rpartition("```yaml\n")[2].removesuffix("```\n")
    (tmp_path / "config.yaml").write_text(config)
    assert read_experiment(str(tmp_path / "config.yaml")) == from_mapping(TINY, "test")


def test_the_card_of_a_run_that_kept_more_says_that_it_speaks_of_one(data_dir, tmp_path):
    assert "ensemble" not in card_of(tmp_path / "one", data_dir)
    for iteration in (2, 4):
        path = RunFolder(tmp_path / "two").kept(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    text = card_of(tmp_path / "two", data_dir)
    assert "This is the figure of one checkpoint" in text
    assert "measures the ensemble of 2\ncheckpoints" in text


def test_the_card_of_a_regression_speaks_of_errors(data_dir, tmp_path):
    text = card_of(tmp_path, data_dir, **SINES)
    assert "mean squared error 0.7 ± 0.012" in text
    assert "%" not in text.partition("| before")[0].replace("95 %", "")
    assert "finetune" not in text


def test_a_run_without_a_best_checkpoint_has_no_card(tmp_path):
    model_card.write_card(SimpleNamespace(folder=RunFolder(tmp_path)), silent)
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_is_a_warning(tmp_path):
    folder, told = RunFolder(tmp_path), []
    folder.best.parent.mkdir()
    folder.best.touch()
    folder.metrics.write_text('{"iteration": 1, "best": true}\n')
    model_card.write_card(SimpleNamespace(folder=folder), told.append)
    assert len(told) == 1
    assert told[0].startswith("no model card was written: ")


def test_a_real_run_has_a_card_beside_its_best_checkpoint(tiny_run):
    text = (tiny_run / "checkpoints/MODEL_CARD.md").read_text()
    row = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    best = [one for one in row if one["best"]][-1]
    assert f"**{100 * best['val'][-1]['score']:.2f} %" in text
