import csv
import re
import shutil

import pytest
from PIL import Image, ImageOps
from safetensors import safe_open

import metalearn_cli as learning
from metalearn_cli.storage.inputs import leftovers
from metalearn_cli.storage.runs.checkpoints import read_checkpoint


@pytest.fixture
def best(tiny_run):
    return tiny_run / "checkpoints/best.pt"


def test_labelled_queries_are_predicted_and_counted(cli, best, support, query):
    outcome = cli("finetune", "--checkpoint", best, "--support", support, "--query", query, "--json")
    assert outcome.code == 0, outcome.err
    fields = outcome.fields
    promised = (
        "schema checkpoint config classes support measured_on folds per_step per_class confusion support_answers "
        "predictions coverage calibration temperature left_out remarks output csv report figures"
    )
    assert set(fields) == set(promised.split())
    assert fields["classes"] == ["one", "three bars"]
    assert fields["support"] == {"one": 3, "three bars": 3}
    assert fields["measured_on"] == "query"
    assert len(fields["predictions"]) == 8
    right = [row["label"] == row["known"] for row in fields["predictions"]]
    last = fields["per_step"][-1]
    assert (last["right"], last["pictures"], last["accuracy"]) == (sum(right), 8, sum(right) / 8)
    assert 0 <= last["interval"][0] <= last["accuracy"] <= last["interval"][1] <= 1
    assert fields["folds"] is None
    assert [row["class"] for row in fields["per_class"]] == fields["classes"]
    assert [row["pictures"] for row in fields["per_class"]] == [4, 4] == [sum(row) for row in fields["confusion"]]
    assert [row["right"] for row in fields["per_class"]] == [fields["confusion"][way][way] for way in (0, 1)]
    assert sum(row["right"] for row in fields["per_class"]) == sum(right)
    assert all(0.5 <= row["probability"] <= 1 for row in fields["predictions"])


HEIC = b"\0\0\0\x18ftypheic" + bytes(99)


def test_what_is_left_out_of_support_and_query_is_said(cli, best, support, query, monkeypatch):
    monkeypatch.setattr("metalearn_cli.storage.pictures.recognition.reads_heif", lambda: False)
    (support / "one/.thumbnails").mkdir()
    shutil.copy(support / "one/0.png", support / "one/.thumbnails/0.png")
    (support / "notes.txt").write_text("hello")
    (query / "IMG.HEIC").write_bytes(HEIC)
    given = ("finetune", "--checkpoint", best, "--support", support, "--query", query, "--quiet")
    shown, fields = cli(*given), cli(*given, "--json").fields
    assert shown.err.splitlines() == [
        f"left out: 1 x file or folder of a tool (one/.thumbnails): {leftovers.WHY}",
        "left out: 1 x text (notes.txt): only pictures are looked at",
        "left out: 1 x HEIC picture (IMG.HEIC): pip install pillow-heif, and it is read",
    ]
    assert [(one["kind"], one["count"], one["example"]) for one in fields["left_out"]] == [
        ("file or folder of a tool", 1, "one/.thumbnails"),
        ("text", 1, "notes.txt"),
        ("HEIC picture", 1, "IMG.HEIC"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("IMG.HEIC", HEIC, "HEIC picture"),
        ("a.svg", b"<svg/>", "SVG"),
        ("a.txt", b"hello", "text"),
        ("a", b"", "empty file"),
    ],
)
def test_a_query_that_is_no_picture_is_refused_by_what_it_is(name, content, kind, cli, best, support, monkeypatch):
    monkeypatch.setattr("metalearn_cli.storage.pictures.recognition.reads_heif", lambda: False)
    (support.parent / name).write_bytes(content)
    outcome = cli("finetune", "--checkpoint", best, "--support", support, "--query", support.parent / name)
    assert outcome.code == 2
    assert f"{name}: is no picture that is read ({kind}): " in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "JPEG"])
def test_a_query_of_any_kind_and_without_a_suffix_is_answered(kind, cli, best, support, query, tmp_path):
    Image.open(query / "one/0.png").convert("RGB").save(tmp_path / "photo", kind)
    outcome = cli("finetune", "--checkpoint", best, "--support", support, "--query", "photo", "--json")
    assert [row["file"] for row in outcome.fields["predictions"]] == ["photo"], outcome.err


def test_inverted_queries_are_remarked_and_others_are_not(cli, best, support, query):
    given = ("finetune", "--checkpoint", best, "--support", support, "--query", query, "--json")
    assert cli(*given).fields["remarks"] == []
    for file in query.rglob("*.png"):
        ImageOps.invert(Image.open(file).convert("L")).save(file)
    outcome = cli(*given)
    (told,) = outcome.fields["remarks"]
    assert told.startswith("8 of 8 queries (")
    assert "is their ink inverted?" in told
    assert f"warning: {told}" in outcome.err


def test_loose_pictures_are_predicted_without_an_accuracy_of_theirs(cli, best, support, query, tmp_path):
    shutil.copy(query / "one/0.png", tmp_path / "new.png")
    outcome = cli("finetune", "--checkpoint", best, "--support", support, "--query", "new.png", "--json")
    assert [row["file"] for row in outcome.fields["predictions"]] == ["new.png"]
    assert outcome.fields["measured_on"] == "support, leaving one of each class out"


def test_without_queries_accuracy_is_estimated_by_leaving_one_of_each_class_out(cli, best, support):
    (support / "one/2.png").unlink()
    outcome = cli("finetune", "--checkpoint", best, "--support", support)
    assert outcome.code == 0, outcome.err
    assert "accuracy on support, leaving one of each class out" in outcome.out
    assert "3 folds, each without one picture of every class; each picture counts once." in outcome.out
    assert "the same pictures are left out again, and do not count again" in outcome.out
    fields = cli("finetune", "--checkpoint", best, "--support", support, "--json").fields
    assert fields["folds"] == 3
    assert [row["pictures"] for row in fields["per_class"]] == [2, 3]
    assert fields["per_step"][-1]["pictures"] == 5
    told = fields["support_answers"]
    assert sorted(row["file"] for row in told) == sorted(map(str, support.rglob("*.png")))
    assert all(row["known"] == row["file"].split("/")[-2] for row in told)
    assert sum(row["label"] == row["known"] for row in told) == fields["per_step"][-1]["right"]


def test_a_support_picture_in_the_wrong_folder_is_named(cli, best, support):
    for number in range(3, 6):
        for name in ("one", "three bars"):
            shutil.copy(support / name / "0.png", support / name / f"{number}.png")
    shutil.move(support / "one/2.png", support / "three bars/stray.png")
    command = ("finetune", "--checkpoint", best, "--support", support)
    wrong = [row for row in cli(*command, "--json").fields["support_answers"] if row["label"] != row["known"]]
    assert f"{support}/three bars/stray.png" in [row["file"] for row in wrong]
    shown = cli(*command, COLUMNS="300").out.partition("support pictures with a wrong answer")[2]
    assert all(f"{row['file']}" in shown for row in wrong)


def test_wrong_answers_come_first_and_are_marked_and_a_table_has_counts_and_confusions(cli, best, support, query):
    shutil.move(query / "one/3.png", query / "three bars/moved.png")
    command = ("finetune", "--checkpoint", best, "--support", support, "--query", query)
    fields, shown = cli(*command, "--json").fields, cli(*command, COLUMNS="200").out
    wrong = [row for row in fields["predictions"] if row["label"] != row["known"]]
    assert wrong, "the moved picture is of the other class"
    answers = [line for line in shown.partition("accuracy on query")[0].splitlines() if ".png" in line]
    marks = ["wrong, is" in line for line in answers]
    assert marks == sorted(marks, reverse=True)
    assert sum(marks) == len(wrong)
    last = fields["per_step"][-1]
    low, high = (f"{100 * end:.1f}" for end in last["interval"])
    [told] = [line.split() for line in shown.splitlines() if f"{low} to {high}" in line and "one" not in line][-1:]
    assert [str(last["right"]), str(last["pictures"])] == [word for word in told if word.isdigit()][-2:]
    for number, counts in enumerate(fields["confusion"], 1):
        row = [str(number), *fields["classes"][number - 1].split(), *map(str, counts)]
        assert any([word for word in line.split() if word != "│"] == row for line in shown.splitlines())


def test_one_picture_a_class_is_enough_and_measured_on_itself(cli, best, support):
    for name in ("one", "three bars"):
        for number in (1, 2):
            (support / name / f"{number}.png").unlink()
    outcome = cli("finetune", "--checkpoint", best, "--support", support, "--json")
    assert outcome.fields["measured_on"] == "support"
    shown = cli("finetune", "--checkpoint", best, "--support", support).out
    assert "the pictures that it learned from, which says nothing of new ones" in shown


def test_an_adapted_file_answers_alone_and_the_same(cli, best, support, query):
    first = cli(
        "finetune", "--checkpoint", best, "--support", support, "--query", query, "--output", "mine.pt", "--json"
    )
    second = cli("finetune", "--checkpoint", "mine.pt", "--query", query, "--json")
    assert second.code == 0, second.err
    assert first.fields["output"] == "mine.pt"
    assert second.fields["predictions"] == first.fields["predictions"]
    assert second.fields["support"] is None
    assert second.fields["per_step"] == first.fields["per_step"][-1:]


def test_finetuning_leaves_the_checkpoint_bit_identical(cli, best, support, query):
    before = best.read_bytes()
    cli("finetune", "--checkpoint", best, "--support", support, "--query", query)
    assert best.read_bytes() == before
    assert read_checkpoint(best).header["kind"] == "meta"


def test_no_query_changes_the_answer_for_another(cli, best, support, query, tmp_path):
    together = cli("finetune", "--checkpoint", best, "--support", support, "--query", query, "--json")
    alone = cli("finetune", "--checkpoint", best, "--support", support, "--query", query / "one/2.png", "--json")
    row = next(row for row in together.fields["predictions"] if row["file"].endswith("one/2.png"))
    assert abs(alone.fields["predictions"][0]["probability"] - row["probability"]) < 1e-5


def refused(outcome, *words):
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


def test_another_number_of_classes_says_what_to_do(cli, best, support):
    shutil.copytree(support / "one", support / "two")
    refused(cli("finetune", "--checkpoint", best, "--support", support), "3 classes", "task.ways=3")


def test_a_single_class_is_refused(cli, best, support):
    shutil.rmtree(support / "one")
    refused(cli("finetune", "--checkpoint", best, "--support", support), "two or more")


def test_pictures_outside_a_class_folder_are_named(cli, best, support):
    shutil.move(support / "one/0.png", support / "loose.png")
    refused(cli("finetune", "--checkpoint", best, "--support", support), "loose.png", "CLASS")


def test_a_text_file_named_png_is_named(cli, best, support):
    (support / "one/0.png").write_text("not a picture")
    refused(cli("finetune", "--checkpoint", best, "--support", support), "one/0.png")


def test_a_folder_that_is_not_there_is_named(cli, best):
    refused(cli("finetune", "--checkpoint", best, "--support", "nowhere"), "nowhere")


def test_an_adapted_file_is_not_evaluated(cli, best, support):
    cli("finetune", "--checkpoint", best, "--support", support, "--output", "mine.pt")
    refused(cli("eval", "--checkpoint", "mine.pt"), "mine.pt", "an adapted classifier")


def test_a_training_checkpoint_needs_a_support_set(cli, best, query):
    refused(cli("finetune", "--checkpoint", best, "--query", query), "--support")


@pytest.mark.parametrize(("output", "message"), [(".", "is a folder"), ("no/such/mine.pt", "does not exist")])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(cli, tiny_run, output, message):
    outcome = cli("finetune", "--checkpoint", tiny_run / "checkpoints/best.pt", "--support", "x", "--output", output)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_name_that_no_disk_can_hold_is_one_line(cli, tiny_run):
    long = "x" * 300 + ".png"
    outcome = cli("finetune", "--checkpoint", tiny_run / "checkpoints/best.pt", "--support", long)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_a_class_in_two_folders_is_refused_and_a_hidden_folder_does_not_count(cli, best, support):
    shutil.copytree(support / "one", support / ".thumbnails")
    shutil.copytree(support / "one", support / "older" / "one")
    outcome = cli("finetune", "--checkpoint", best, "--support", support)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: class 'one' is in two folders, {support}/older/one and {support}/one")
    shutil.rmtree(support / "older")
    assert cli("finetune", "--checkpoint", best, "--support", support).code == 0


def test_pictures_of_one_name_are_told_apart_by_their_folders(cli, best, support, query):
    shown = cli("finetune", "--checkpoint", best, "--support", support, "--query", query, COLUMNS="200").out
    assert f"{query}/one/0.png" in shown
    assert f"{query}/three bars/0.png" in shown


def test_an_adapted_file_is_written_in_another_form_without_a_support_set(cli, best, support, tmp_path):
    cli("finetune", "--checkpoint", best, "--support", support, "--output", "mine.pt")
    outcome = cli("finetune", "--checkpoint", "mine.pt", "--output", "mine.safetensors", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["classes"] == ["one", "three bars"]
    assert (tmp_path / "mine.safetensors").exists()


def test_without_pictures_the_initialisation_is_written(cli, best, tmp_path):
    outcome = cli("finetune", "--checkpoint", best, "--output", "init.safetensors")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "initialisation init.safetensors\n"
    with safe_open(tmp_path / "init.safetensors", "np") as file:
        assert "body.0.weight" in file.keys()  # noqa: SIM118


def test_an_initialisation_has_one_form(cli, best):
    refused(cli("finetune", "--checkpoint", best, "--output", "init.pt2"), "init.pt2", "--support", ".safetensors")


@pytest.mark.parametrize("output", ["mine.onnx", "mine"])
def test_an_output_of_an_unknown_form_is_refused_before_the_work(cli, best, output):
    outcome = cli("finetune", "--checkpoint", best, "--support", "nowhere", "--output", output)
    refused(outcome, output, ".pt ", ".safetensors", ".pt2")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--output", "--csv"])
def test_the_checkpoint_is_not_overwritten(cli, tiny_run, support, tmp_path, option):
    shutil.copy(tiny_run / "checkpoints/best.pt", tmp_path / "best.pt")
    options = ("--support", support, "--query", support, option, tmp_path / "best.pt")
    refused(cli("finetune", "--checkpoint", "best.pt", *options), option, "the checkpoint itself")


def test_a_csv_has_a_row_per_query_with_all_probabilities_beside_a_program(cli, best, support, query, tmp_path):
    shutil.copy(query / "one/0.png", tmp_path / "=1+1.png")
    shutil.copy(query / "one/0.png", tmp_path / 'a "quoted", name.png')
    queries = ("--query", query, "--query", "=1+1.png", "--query", 'a "quoted", name.png')
    outcome = cli(
        "finetune",
        "--checkpoint",
        best,
        "--support",
        support,
        *queries,
        "--csv",
        "mine.csv",
        "--output",
        "mine.pt2",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == "next: open mine.pt2 without metalearn, as docs/export.md shows\n"
    assert (tmp_path / "mine.pt2").exists()
    with (tmp_path / "mine.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    classes = ["probability of one", "probability of three bars"]
    assert header == ["file", "predicted", "probability", *classes, "known", "none of these"]
    assert [row[0] for row in rows[-2:]] == ["'=1+1.png", 'a "quoted", name.png']
    for row, told in zip(rows, outcome.fields["predictions"], strict=True):
        assert row[1] == told["label"]
        assert row[5] == (told["known"] or "")
        assert abs(float(row[2]) - told["probability"]) < 1e-6
        assert abs(float(row[3]) + float(row[4]) - 1) < 1e-5


def test_a_csv_without_queries_or_a_folder_is_refused_before_the_work(cli, best):
    refused(cli("finetune", "--checkpoint", best, "--support", "x", "--csv", "mine.csv"), "--csv", "--query")
    queries = ("--query", "x", "--csv", "no/such/mine.csv")
    refused(cli("finetune", "--checkpoint", best, "--support", "x", *queries), "--csv", "does not exist")


NUMBERS = {"whole": [12345671, 12345672], "fractions": [0.1, 1 / 3], "truths": [True, False], "mixed": ["a", -5]}


@pytest.mark.parametrize("kind", NUMBERS)
def test_labels_that_are_numbers_are_told_with_all_their_digits(cli, best, query, tmp_path, kind):
    labels = NUMBERS[kind]
    files = sorted(query.rglob("*.png"))[::4]
    learning.load(best).adapt(files, labels).save(tmp_path / "mine.pt")
    for label in labels:
        shutil.copytree(query / "one", tmp_path / "asked" / str(label))
    command = ("finetune", "--checkpoint", "mine.pt", "--query", "asked", "--csv", "mine.csv", "--report", "mine.html")
    outcome = cli(*command, "--json")
    assert outcome.code == 0, outcome.err
    fields = outcome.fields
    assert [*map(repr, fields["classes"])] == [*map(repr, labels)]
    assert {repr(row["known"]) for row in fields["predictions"]} == {*map(repr, labels)}
    with (tmp_path / "mine.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[3:-2] == [f"probability of {label}" for label in labels]
    assert [row[1] for row in rows] == [str(row["label"]) for row in fields["predictions"]]
    assert [row[-2] for row in rows] == [str(row["known"]) for row in fields["predictions"]]
    shown = cli(*command, COLUMNS="200")
    assert shown.code == 0, shown.err
    page = (tmp_path / "mine.html").read_text()
    for label in labels:
        assert str(label) in shown.out
        assert str(label) in page


def test_class_folders_named_by_numbers_keep_their_names(cli, best, support, query, tmp_path):
    for folder in (support, query):
        for old, new in (("one", "10"), ("three bars", "007")):
            (folder / old).rename(folder / new)
    given = ("finetune", "--checkpoint", best, "--support", support, "--query", query, "--json")
    fields = cli(*given, "--output", "mine.pt", "--csv", "mine.csv").fields
    assert fields["classes"] == ["007", "10"]
    assert {row["known"] for row in fields["predictions"]} == {"007", "10"}
    with (tmp_path / "mine.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[3:-2] == ["probability of 007", "probability of 10"]
    assert {row[-2] for row in rows} == {"007", "10"}
    assert cli("finetune", "--checkpoint", "mine.pt", "--query", query, "--json").fields["classes"] == ["007", "10"]


EXPLODING = ("--set", "algorithm.inner_lr=1e20", "--set", "eval.inner_steps=5")


@pytest.mark.parametrize("more", [(), ("--query",), ("--output", "mine.pt"), ("--output", "mine.pt2"),
                                  ("--output", "mine.safetensors"), ("--json",)])  # fmt: skip
@pytest.mark.parametrize("each", [1, 3])
def test_an_adaptation_that_diverges_ends_with_4_names_the_step_and_writes_nothing(
    cli, best, support, query, tmp_path, more, each
):
    for file in support.rglob("*.png"):
        if int(file.stem) >= each:
            file.unlink()
    more = (*more, query, "--csv", "mine.csv", "--report", "mine.html") if more == ("--query",) else more
    outcome = cli("finetune", "--checkpoint", best, "--support", support, *EXPLODING, *more)
    assert outcome.code == 4
    assert outcome.out == ""
    assert re.fullmatch(r"error: inner step [1-5]: the (weights|answers) of the .* not finite; try .*\n", outcome.err)
    assert not list(tmp_path.glob("mine*"))
