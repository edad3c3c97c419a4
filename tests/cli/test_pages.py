import csv
import json
import re
import shutil
import signal
import time
from contextlib import contextmanager

import pytest

from metalearn_cli.cli import pages
from metalearn_cli.experiment import read_experiment
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.assembly import evaluation_spec
from metalearn_cli.runtime.run.evaluation import scores_of, summary
from metalearn_cli.runtime.run.session import session_for
from metalearn_cli.runtime.run.stored_tensors import meta_of
from metalearn_cli.storage.runs import checkpoints
from tests.cli.test_max_time import Stopping
from tests.commands import ROOT
from tests.report.reading import Page, loads
from tests.untrained import SINES, checkpoint_of

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")


@pytest.fixture(scope="module")
def training_page(tiny_run) -> Page:
    return Page((tiny_run / "report.html").read_bytes())


@pytest.fixture(scope="module")
def rows(tiny_run) -> list[dict]:
    return [json.loads(row) for row in (tiny_run / "metrics.jsonl").read_text().splitlines()]


def test_the_page_of_a_run_has_the_numbers_of_its_metrics(training_page, rows):
    told = training_page.table("iteration", "training loss")
    assert [row[:5] for row in told] == [
        [
            row["iteration"],
            row["loss"],
            row["val"][-1]["score"],
            row["val"][-1]["ci95"],
            row["tasks_per_second"],
        ]
        for row in rows
    ]
    best = [row for row in rows if row["best"]][-1]
    assert of_part("validation", training_page) == [
        [str(step["step"]), step["score"], step["ci95"], step["loss"]] for step in best["val"]
    ]


@pytest.mark.parametrize("name", ["training_page", "tested"])
def test_each_page_says_when_in_how_long_in_how_much_memory_and_with_what_it_was_made(name, request):
    page = request.getfixturevalue(name)
    told = dict((page if name == "training_page" else Page(page[1])).tables[-1])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", told["date"])
    assert re.fullmatch(r"\d:\d\d:\d\d", told["duration"])
    assert told["peak memory"].endswith(" MB")
    assert {"metalearn", "python", "torch", "platform", "device"} <= told.keys()


def of_part(part: str, page: Page) -> list[list]:
    """The table of the adaptation, the rows of one part."""
    return [row[1:] for row in page.table("tasks of", "inner step") if row[0] == part]


def test_the_page_of_a_run_tells_training_tasks_from_those_of_the_validation(session, training_page):
    experiment, learner = session.experiment, session.validator
    tasks = session.data.sampler("train", evaluation_spec(experiment), experiment.eval.seed)
    meta = meta_of(checkpoints.read_checkpoint(session.folder.best), session.folder.best, learner, session.device)
    with running(Plan("loop", 1, 1)) as runner:
        steps = summary(scores_of(learner, runner, meta, tasks, experiment.eval.inner_steps, 10))
    found = of_part("training", training_page)
    assert [row[0] for row in found] == [str(step.step) for step in steps]
    expected = [value for step in steps for value in (step.score, step.ci95, step.loss)]
    assert [value for row in found for value in row[1:]] == pytest.approx(expected, rel=1e-4)


def test_the_classes_on_the_page_add_up_to_the_measured_accuracy(training_page, rows):
    best = [row for row in rows if row["best"]][-1]
    classes = training_page.table("class", "accuracy %")
    right, queries = (sum(int(row[column]) for row in classes) for column in (2, 3))
    assert right / queries == pytest.approx(best["val"][-1]["score"])
    wrong = sum(int(row[2]) for row in training_page.table("shown", "taken for"))
    assert wrong == queries - right
    assert "in all 10 validation episodes" in training_page.text


def test_the_page_of_a_run_loads_nothing_and_says_how_to_repeat_it(training_page, tiny_run, tiny_config):
    assert loads(training_page) == []
    assert f"metalearn train {tiny_config} --run-dir {tiny_run}" in training_page.text
    assert (tiny_run / "config.yaml").read_text() in training_page.text
    assert len([tag for tag, _ in training_page.tags if tag == "svg"]) == 5
    assert all(attributes.get("alt") for tag, attributes in training_page.tags if tag == "img")


@pytest.fixture
def session(tiny_run, tmp_path, data_dir):
    """The tiny run in a folder of its own, as `train` has it at the end."""
    shutil.copytree(tiny_run, tmp_path / "copy")
    experiment = read_experiment(str(tmp_path / "copy/config.yaml"))
    return session_for(experiment, tmp_path / "copy", data_dir=data_dir)


def written(session, **how):
    """The page of a session after which, or while it is made, a signal came."""
    made = pages.Made("command", time.monotonic(), True)
    return pages.write_training_page(session, "title", made, Stopping(**how))[0]


def lasting(content: bytes) -> bytes:
    """The page but for when and in how long it was made."""
    return content.partition(b"<h2>Environment</h2>")[0]


@contextmanager
def interrupting():
    yield
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", [{"number": signal.SIGTERM}, {"within_time": interrupting}])
def test_a_run_that_was_interrupted_gets_its_curves_alone(session, training_page, how):
    page = Page(written(session, **how).read_bytes())
    assert page.table("iteration", "training loss") == training_page.table("iteration", "training loss")
    assert page.table("inner step") == of_part("validation", training_page)
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 4
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_the_same_run_gives_the_same_page(session):
    first, second = (written(session).read_bytes() for _ in range(2))
    assert lasting(first) == lasting(second)


def test_a_page_that_fails_is_a_warning_and_no_failed_run(session, capsys):
    session.folder.best.write_bytes(b"damaged")
    assert written(session) is None
    assert capsys.readouterr().err.startswith("warning: no report.html was written: ")


@pytest.fixture(scope="module")
def tested(run_cli, tiny_run, tmp_path_factory):
    """What eval says of the tiny run, its page, and where both were made."""
    folder = tmp_path_factory.mktemp("tested")
    options = ["--checkpoint", tiny_run / "checkpoints/best.pt", "--report", "page.html", "--json"]
    outcome = run_cli("eval", *options, cwd=folder)
    assert outcome.code == 0, outcome.err
    return outcome.fields, (folder / "page.html").read_bytes(), lambda: run_cli("eval", *options, cwd=folder), folder


def test_the_page_of_a_test_has_the_numbers_of_its_json(tested):
    fields, content, *_ = tested
    page = Page(content)
    assert fields["report"] == "page.html"
    assert page.table("inner step", "accuracy %") == [
        [str(step["step"]), step["accuracy"], step["ci95"], step["loss"]] for step in fields["per_step"]
    ]
    right, queries = (sum(int(row[column]) for row in page.table("class", "accuracy %")) for column in (2, 3))
    assert right / queries == pytest.approx(fields["accuracy"])
    assert fields["fingerprint"] in page.text
    assert "in all 20 test episodes" in page.text
    assert loads(page) == []


def test_the_same_measurement_gives_the_same_page(tested):
    _, before, again, folder = tested
    (folder / "page.html").write_bytes(b"an older page")
    assert again().code == 0
    assert lasting((folder / "page.html").read_bytes()) == lasting(before)
    assert [file.name for file in folder.iterdir()] == ["page.html"]


def test_several_checkpoints_are_compared_on_one_page(cli, tiny_run, tmp_path):
    checkpoints = [tiny_run / f"checkpoints/{name}.pt" for name in ("best", "last", "previous")]
    options = [part for path in checkpoints for part in ("--checkpoint", path)]
    outcome = cli("eval", *options, "--report", "page.htm", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["report"] == "page.htm"
    page = Page((tmp_path / "page.htm").read_bytes())
    assert loads(page) == []
    told = page.table("", "checkpoint")
    assert [row[1] for row in told] == [str(path) for path in checkpoints]
    assert [row[-2:] for row in told] == [[one["accuracy"], one["ci95"]] for one in outcome.fields["checkpoints"]]
    differences = page.table("compared")
    assert [row[0] for row in differences] == ["B − A", "C − A"]
    assert [row[1:3] for row in differences] == [[one["difference"], one["ci95"]] for one in outcome.fields["paired"]]
    assert [row[4] for row in differences] == [
        "excludes 0" if abs(one["difference"]) > one["ci95"] else "includes 0" for one in outcome.fields["paired"]
    ]
    assert len(page.table("checkpoint", "inner step")) == 9


def test_a_regression_is_reported_in_errors_and_curves(cli, tmp_path, data_dir):
    checkpoint = checkpoint_of(tmp_path / "sines.pt", data_dir, **SINES)
    outcome = cli("eval", "--checkpoint", checkpoint, "--report", "page.html", "--json")
    assert outcome.code == 0, outcome.err
    page = Page((tmp_path / "page.html").read_bytes())
    assert loads(page) == []
    assert page.table("inner step", "mean squared error") == [
        [str(step["step"]), step["mse"], step["ci95"], step["median"], step["explained"], step["diverged"]]
        for step in outcome.fields["per_step"]
    ]
    for word in ("accuracy", "Classes", "confused", "<img"):
        assert word not in page.text.partition("Settings")[0]
    assert "Fitted functions" in page.text
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 7


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("page.txt", "has the suffix '.txt', expected a page such as report.html"),
        ("page", "has the suffix ''"),
        ("folder.html", "is a folder"),
        ("no/such/page.html", "the folder no/such does not exist"),
        ("best.html", "is the checkpoint itself"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "finetune"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(cli, tmp_path, command, report, message):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "best.html").write_bytes(b"stands for a checkpoint")
    support = ["--support", "nowhere", "--query", "nowhere"] if command == "finetune" else []
    outcome = cli(command, "--checkpoint", "best.html", *support, "--report", report)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert f"--report {report}: {message}" in outcome.err
    assert (tmp_path / "best.html").read_bytes() == b"stands for a checkpoint"


CHARTS = {"validation", "training-loss", "adaptation-accuracy", "adaptation-loss", "episodes"}
FORMS = ("csv", "pdf", "png", "svg")


def names(folder) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_the_figures_of_a_run_are_those_of_its_page(cli, tiny_config, tmp_path, rows):
    outcome = cli("train", tiny_config, "--figures", "drawn", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["figures"] == "drawn"
    assert names(tmp_path / "drawn") == {f"{chart}.{form}" for chart in CHARTS for form in FORMS}
    [_, *told] = csv.reader((tmp_path / "drawn/validation.csv").read_text().splitlines())
    last = [row["val"][-1] for row in rows]
    assert [float(row[2]) for row in told[: len(rows)]] == pytest.approx([100 * one["score"] for one in last])


def test_the_figures_of_a_test_have_the_score_of_every_episode(cli, tiny_run, tmp_path):
    best, last = (tiny_run / f"checkpoints/{name}.pt" for name in ("best", "last"))
    outcome = cli("eval", "--checkpoint", best, "--figures", "one", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["report"] is None
    assert names(tmp_path / "one") == {f"{c}.{f}" for c in CHARTS - {"validation", "training-loss"} for f in FORMS}
    [header, *found] = csv.reader((tmp_path / "one/episodes.csv").read_text().splitlines())
    assert header == ["checkpoint", "episode", "accuracy %"]
    assert len(found) == 20
    mean = sum(float(row[2]) for row in found) / 20
    assert mean == pytest.approx(100 * outcome.fields["accuracy"], abs=1e-3)

    several = cli("eval", "--checkpoint", best, last, "--figures", "several")
    assert several.out.endswith("figures several\n")
    charts = {"scores", "differences", "adaptation-accuracy", "adaptation-loss"}
    assert names(tmp_path / "several") == {f"{c}.{f}" for c in charts for f in FORMS} | {"episodes.csv"}
    rows = list(csv.reader((tmp_path / "several/episodes.csv").read_text().splitlines()))[1:]
    assert [row[0] for row in rows] == [str(best)] * 20 + [str(last)] * 20


def test_the_figures_of_a_classifier_have_the_numbers_of_its_json(cli, tiny_run, support, query, tmp_path):
    given = ("finetune", "--checkpoint", tiny_run / "checkpoints/best.pt", "--support", support)
    outcome = cli(*given, "--query", query, "--figures", "drawn", "--output", "mine.pt", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["figures"] == "drawn"
    charts = {"accuracy", "classes", "confusion", "probabilities"}
    assert names(tmp_path / "drawn") == {f"{chart}.{form}" for chart in charts for form in FORMS}
    [_, *steps] = csv.reader((tmp_path / "drawn/accuracy.csv").read_text().splitlines())
    for row, step in zip(steps, outcome.fields["per_step"], strict=True):
        expected = [step["step"], step["accuracy"] * 100, *(100 * bound for bound in step["interval"])]
        assert [float(cell) for cell in row[1:]] == pytest.approx(expected, rel=1e-5)
    [_, *confusion] = csv.reader((tmp_path / "drawn/confusion.csv").read_text().splitlines())
    assert [[int(cell) for cell in row[1:]] for row in confusion] == outcome.fields["confusion"]

    alone = cli("finetune", "--checkpoint", "mine.pt", "--query", query / "one" / "0.png", "--figures", "alone")
    assert alone.code == 0, alone.err
    assert names(tmp_path / "alone") == {f"probabilities.{form}" for form in FORMS}
    nothing = cli("finetune", "--checkpoint", "mine.pt", "--output", "other.pt", "--figures", "nothing")
    assert nothing.code == 2
    assert nothing.err.startswith("error: --figures: there is nothing to draw")


@pytest.mark.parametrize(
    ("given", "message"),
    [("file", "is a file, expected a folder"), ("no/such", "the folder no does not exist")],
)
@pytest.mark.parametrize("command", [["train", "quickstart"], ["eval", "--checkpoint", "nowhere.pt"]])
def test_figures_that_cannot_be_written_are_refused_before_the_work(cli, tmp_path, command, given, message):
    (tmp_path / "file").touch()
    outcome = cli(*command, "--figures", given)
    assert outcome.code == 2
    assert outcome.err == f"error: --figures {given}: {message}\n"


@pytest.fixture
def without_matplotlib(tmp_path) -> dict[str, str]:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow/matplotlib.py").write_text("raise ImportError('not here')\n")
    return {"PYTHONPATH": f"{tmp_path / 'shadow'}:{ROOT}"}


def test_without_matplotlib_a_page_that_was_asked_for_is_refused_at_once(cli, without_matplotlib):
    outcome = cli("eval", "--checkpoint", "nowhere.pt", "--report", "page.html", **without_matplotlib)
    assert outcome.code == 2
    assert outcome.err.startswith("error: --report: charts need matplotlib")
    assert "metalearn-cli[report]" in outcome.err
    assert outcome.err.count("\n") == 1


def test_without_matplotlib_a_run_goes_on_and_says_so_once(cli, tiny_config, tmp_path, without_matplotlib):
    outcome = cli("train", tiny_config, "--json", **without_matplotlib)
    assert outcome.code == 0, outcome.err
    assert outcome.fields["report"] is None
    assert outcome.err.count("metalearn-cli[report]") == 1
    assert not (tmp_path / "runs/tiny/report.html").exists()


def test_the_page_of_a_classifier_has_the_answers_of_its_json(cli, tiny_run, support, query, tmp_path):
    options = ["--support", support, "--query", query, "--report", "page.html", "--output", "mine.pt", "--json"]
    outcome = cli("finetune", "--checkpoint", tiny_run / "checkpoints/best.pt", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.fields["report"] == "page.html"
    page = Page((tmp_path / "page.html").read_bytes())
    assert loads(page) == []
    told = [[row[0], row[1], *row[3:]] for row in page.table("inner step")]
    assert told == [
        [str(row["step"]), row["accuracy"], str(row["right"]), str(row["pictures"])]
        for row in outcome.fields["per_step"]
    ]
    ends = [end for row in outcome.fields["per_step"] for end in (row["accuracy"], *row["interval"])]
    assert page.numbers[3 : 3 + len(ends)] == ends
    assert [row[1:] for row in page.table("", "its class")] == [
        [name, *map(str, counts)]
        for name, counts in zip(outcome.fields["classes"], outcome.fields["confusion"], strict=True)
    ]
    wrong = [row["known"] != row["label"] for row in outcome.fields["predictions"]]
    assert any(wrong)
    assert not all(wrong)
    in_order = sorted(outcome.fields["predictions"], key=lambda row: row["known"] == row["label"])
    assert page.numbers[-8:] == [row["probability"] for row in in_order]
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    expected = [f"query {row['file']}, taken for {row['label']}" for row in in_order]
    assert [alt for alt in pictures if alt.startswith("query")] == expected
    assert len(pictures) == 8 * (1 + 3) + 6
    assert "features that the adapted network's head reads" in page.text


def test_an_adapted_file_makes_a_page_without_matplotlib(cli, tiny_run, support, query, tmp_path, without_matplotlib):
    adapt = ["--checkpoint", tiny_run / "checkpoints/best.pt", "--support", support, "--output", "mine.pt"]
    assert cli("finetune", *adapt).code == 0
    answer = ["--checkpoint", "mine.pt", "--query", query, "--report", "page.html"]
    outcome = cli("finetune", *answer, **without_matplotlib)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("report page.html\n")
    assert "not which class each is of" in Page((tmp_path / "page.html").read_bytes()).text


def test_a_page_of_no_queries_is_refused(cli, tiny_run, support):
    outcome = cli("finetune", "--checkpoint", "nowhere.pt", "--support", support, "--report", "page.html")
    assert outcome.code == 2
    assert outcome.err == "error: --report: there are no queries to write; give --query\n"


def test_two_results_in_one_file_are_refused(cli, support):
    outcome = cli("finetune", "--checkpoint", "x.pt", "--query", support, "--csv", "a.html", "--report", "./a.html")
    assert outcome.code == 2
    assert outcome.err.startswith("error: --output, --csv and --report: two of them name the same file")
