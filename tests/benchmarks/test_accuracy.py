"""The table of accuracies is what its result files say, and every planned row can be run."""

import os
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread, Timer

import pytest
import torch
import yaml

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import curves_figure, hours_figure, running
from benchmarks.accuracy.curves import LEVELS, reached
from benchmarks.accuracy.drawing import as_svg
from benchmarks.accuracy.page import PAGE, written
from benchmarks.accuracy.results import compute, core_hours, results
from benchmarks.accuracy.rows import RECIPE, Line, Row, load
from benchmarks.accuracy.summary import SUMMARY, summary
from metalearn_cli.datasets.glyphs import Config as Glyphs
from metalearn_cli.datasets.omniglot import Config as Omniglot
from metalearn_cli.experiment import from_mapping, with_overrides

TABLE = load()
OMNIGLOT = TABLE.source["domains"]["omniglot"]


def result(row: Row, accuracy: float, **more) -> dict:
    """A result as a run leaves it, with the same accuracy in every column."""

    def columns(line: Line) -> dict:
        return {column: {"accuracy": accuracy, "ci95": 0.001} for column in TABLE.columns(row.setting, line)}

    own, *also = TABLE.lines(row)
    return {
        **row._asdict(), "experiment": TABLE.experiment(row), "iterations": 100, "tasks": 1600, "core_seconds": 3600,
        "processor": TABLE.source["processors"][0],
        "curve": [[50, accuracy - 0.01], [100, accuracy]], "columns": columns(own),
        "also": {line.also: columns(line) for line in also},
    } | more  # fmt: skip


def page(*accuracies: float, learner: str = "maml", setting: str = "20w1s", variant: str = "", **more) -> str:
    rows = [Row(learner, setting, seed, variant) for seed in range(len(accuracies))]
    found = zip(rows, accuracies, strict=True)
    return written(TABLE, {row: result(row, accuracy, **more) for row, accuracy in found})


def test_the_pages_are_what_the_result_files_say():
    assert PAGE.read_text() == written(TABLE, results())
    assert SUMMARY.read_text() == summary(TABLE, results())


@pytest.mark.parametrize("figure", [hours_figure, curves_figure])
def test_a_figure_has_the_numbers_of_the_result_files(figure):
    # In words, because another matplotlib draws other bytes.
    [words] = re.findall(r"<dc:description>(.*?)</dc:description>", figure.FIGURE.read_text(), re.DOTALL)
    shown = {hours_figure: hours_figure.points, curves_figure: curves_figure.curves}[figure]
    assert words == figure.described(shown(TABLE, results()))


@pytest.mark.parametrize("figure", [hours_figure, curves_figure])
def test_a_figure_is_drawn_again_in_the_same_bytes(figure):
    mpl = pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    kept = figure.FIGURE.read_text()
    if f"matplotlib {mpl.__version__}<" not in kept:
        pytest.skip(f"{figure.FIGURE.name} was drawn by another matplotlib")
    assert kept == figure.drawn(TABLE, results())


def test_a_full_figure_has_a_point_for_every_learner_and_stays_small():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    full = {row: result(row, 0.9 + 0.01 * row.seed) for row in TABLE.rows}
    panels = hours_figure.points(TABLE, full)
    assert list(panels) == [(setting, column) for setting in OMNIGLOT["settings"] for column in "AC"]
    assert all([point.learner for point in shown] == sorted(TABLE.source["learners"]) for shown in panels.values())
    text = hours_figure.drawn(TABLE, full)
    assert all(f">{learner['label']}</text>" in text for learner in TABLE.source["learners"].values())
    assert len(text) < 200_000


@pytest.mark.parametrize("figure", [hours_figure, curves_figure])
def test_the_legend_of_a_full_figure_is_inside_of_it(figure, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    drawn = []
    monkeypatch.setattr(figure, "as_svg", lambda shown, described: drawn.append(shown) or as_svg(shown, described))
    figure.drawn(TABLE, {row: result(row, 0.9 + 0.01 * row.seed) for row in TABLE.rows})
    [legend] = drawn[0].legends
    inside, whole = legend.get_window_extent(), drawn[0].bbox
    assert whole.x0 <= inside.x0 < inside.x1 <= whole.x1
    assert whole.y0 <= inside.y0 < inside.y1 <= whole.y1


def test_a_curve_has_the_minutes_of_its_validations_and_one_with_other_shots_is_left_out():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    rows = [
        Row("maml", "5w1s", 0), Row("maml", "5w1s", 1), Row("maml", "20w1s", 0), Row("reptile", "5w1s", 0),
        Row("protonet", "5w1s", 0, "recipe_fast"),
    ]  # fmt: skip
    found = {row: result(row, 0.95) for row in rows}
    shown = curves_figure.curves(TABLE, found)
    assert [curve.row for curve in shown] == [rows[0], rows[4]]
    assert curves_figure.described(shown[:1]) == "MAML, second order: 30.0 min 94.00 %, 60.0 min 95.00 %"
    assert "stroke-dasharray" in (text := curves_figure.drawn(TABLE, found))
    assert all(f">{curve.name}</text>" in text for curve in shown)


def test_the_fast_recipe_is_the_config_that_users_train():
    path = Path(__file__).parents[2] / "configs/omniglot/5way1shot-fast.yaml"
    row, config = Row("protonet", "5w1s", 0, "recipe_fast"), yaml.safe_load(path.read_text())
    experiment = TABLE.experiment(row)
    assert row in TABLE.rows
    assert all(experiment[block] == config[block] for block in ("dataset", "task", "backbone", "algorithm", "outer"))


def test_the_conclusions_have_their_figures_from_the_result_files():
    rows = [Row("maml", "5w1s", seed) for seed in range(3)]
    found = {row: result(row, 0.9 + 0.01 * row.seed) for row in rows}
    for one in found.values():
        one["columns"]["C"] = {"accuracy": one["columns"]["A"]["accuracy"] - 0.025, "ci95": 0.001}
    text = " ".join(summary(TABLE, found).split())
    assert "A is above C by 2.5 to 2.5 points, by 2.5 in the mean of 1 rows" in text
    assert "the 1 rows with several have standard deviations of 1.00 to 1.00 points" in text
    assert "1,600 tasks here, 1,920,000 in its paper" in text


def test_all_runs_of_a_setting_were_measured_on_the_same_episodes():
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row, one in results().items():
        for columns in (one["columns"], *one.get("also", {}).values()):
            for column, found in columns.items():
                seen[row.setting, column].add(found["fingerprint"])
    assert {place: found for place, found in seen.items() if len(found) > 1} == {}


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.name)
def test_every_row_is_an_experiment_that_loads_with_its_columns(row):
    experiment = from_mapping(TABLE.experiment(row), row.name)
    assert experiment.seed == row.seed
    for line in TABLE.lines(row):
        for column in TABLE.columns(row.setting, line):
            measured = with_overrides(experiment, TABLE.measure(row, column, line))
            values = TABLE.setting(row.setting)
            # A learner may be trained on tasks of another size; it is measured on those of its setting.
            assert measured.task.shots == values["task.shots"]
            assert measured.eval.ways == values["task.ways"]
            assert measured.eval.queries == (values["task.shots"] if column == "A" else 15)


def test_a_mistyped_column_or_setting_is_not_left_out_in_silence():
    """Columns and published figures are named by setting, and a name that no setting has would have no effect."""
    domains = TABLE.source["domains"].values()
    columns, settings = ({name for domain in domains for name in domain[key]} for key in ("columns", "settings"))
    for line, setting in {(line, row.setting) for row in TABLE.rows for line in TABLE.lines(row)}:
        said = TABLE.said(line, setting)
        chosen = named if isinstance(named := said.get("columns", {}), dict) else {setting: named}
        assert chosen.keys() <= settings
        assert {column for some in chosen.values() for column in some} <= columns
        published = said.get("published", {})
        assert published.keys() - {"source", "tasks"} <= columns
        assert {name for found in published.values() if isinstance(found, dict) for name in found} <= settings


def test_every_learner_is_planned_in_every_setting_of_omniglot_and_some_with_three_seeds():
    planned = {(row.learner, row.setting, row.seed) for row in TABLE.rows if not row.variant}
    assert {
        (learner, setting, 0) for learner in TABLE.source["learners"] for setting in OMNIGLOT["settings"]
    } <= planned
    repeated = {(learner, setting) for learner, setting, seed in planned if seed == 2}
    learners = ("maml", "maml_plus_plus", "protonet")
    assert repeated == {(learner, setting) for learner in learners for setting in ("5w1s", "20w1s")}


def test_no_row_is_planned_twice_and_names_are_unique():
    assert len({row.name for row in TABLE.rows}) == len(TABLE.rows)


def test_the_variants_of_the_search_are_all_planned_with_tasks_of_as_many_classes():
    rows = [row for row in TABLE.rows if row.searched]
    assert {row.variant for row in rows} == set(TABLE.source["search"]["variants"])
    planned = [TABLE.experiment(row) for row in rows]
    classes = {one["outer"]["iterations"] * one["outer"]["meta_batch_size"] * one["task"]["ways"] for one in planned}
    assert classes == {24_000 * 20}
    experiments = [TABLE.experiment(row) | {"name": ""} for row in rows]
    assert all(one not in experiments[:place] for place, one in enumerate(experiments))


def test_column_d_is_the_other_domain():
    def tested(setting: str):
        row = Row("protonet", setting, 0)
        experiment = from_mapping(TABLE.experiment(row), row.name)
        return with_overrides(experiment, TABLE.measure(row, "D", Line("protonet"))).dataset

    assert isinstance(tested("5w1s"), Glyphs)
    assert isinstance(tested("glyphs-5w1s"), Omniglot)
    assert tested("glyphs-5w1s").split == "vinyals"


def test_a_row_is_above_its_published_figure_only_with_three_seeds_that_say_so():
    assert "A 95.8: higher" in page(0.97)
    assert "A 95.8: lower" in page(0.95)
    assert "A 95.8: above" in page(0.97, 0.971, 0.969)
    assert "A 95.8: below" in page(0.95, 0.951, 0.949)
    assert "| 97.00, std 0.10 |" in page(0.97, 0.971, 0.969)


def test_a_row_meets_a_figure_within_its_own_interval():
    assert "A 95.8: meets" in page(0.9571)  # the interval over episodes is 0.1 points
    assert "A 95.8: lower" in page(0.9569)
    assert "A 95.8: meets" in page(0.99, 0.97, 0.93)  # over seeds
    assert "A 95.8: higher" in page(0.96, 0.962)  # two seeds are too few for an interval over seeds


def test_verdicts_are_counted_by_setting():
    assert "| setting | published figures | above | meets | higher | lower | below |" in page(0.97)
    assert "| 20w1s | 1 | 0 | 0 | 1 | 0 | 0 |" in page(0.97)
    assert "| 20w1s | 1 | 1 | 0 | 0 | 0 | 0 |" in page(0.97, 0.971, 0.969)
    assert "| all | 1 | 0 | 1 | 0 | 0 | 0 |" in page(0.9575)
    # MAML++ has no figure for a single learner, and one for its ensemble.
    assert "| all | 1 | 0 | 0 | 0 | 1 | 0 |" in page(0.9575, learner="maml_plus_plus")


def test_an_ensemble_is_a_further_line_of_the_same_runs():
    written = page(0.9765, learner="maml_plus_plus")
    [line] = [line for line in written.splitlines() if line.startswith("| MAML++, ensemble")]
    assert "A 97.65: meets" in line
    assert "the same runs" in line
    assert "1 runs; 1.0 core-hours on AMD EPYC." in written
    assert "ensemble" not in page(0.9765, learner="maml_plus_plus", also={})


def plans() -> Iterator[list[Row]]:
    """No row; each row alone; each setting with and without its recipes and search; every row."""
    yield []
    yield from ([row] for row in TABLE.rows)
    for setting in {row.setting for row in TABLE.rows}:
        rows = [row for row in TABLE.rows if row.setting == setting]
        yield from (rows, [row for row in rows if not row.variant])
    yield list(TABLE.rows)


def test_both_pages_can_be_written_whichever_rows_have_been_run():
    for rows in plans():
        measured = {row: result(row, 0.9 + 0.001 * place) for place, row in enumerate(rows)}
        for text in (written(TABLE, measured), summary(TABLE, measured)):
            shown = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
            for row in rows:
                for line in () if row.searched else TABLE.lines(row):
                    assert any(cells[0].startswith("| " + TABLE.said(line, row.setting)["label"]) for cells in shown)


def test_learners_are_in_the_order_of_c_with_other_measurements_of_their_runs_below_them():
    rows = [Row(learner, "20w1s", 0) for learner in ("baseline", "maml_plus_plus", "protonet", "baseline_plus_plus")]
    found = {row: result(row, 0.9 + 0.01 * place) for place, row in enumerate(rows)}
    for one in found.values():  # other lines and columns than C of the learners' own would order otherwise
        for lines in one["also"].values():
            lines |= {column: {"accuracy": 0.99, "ci95": 0.001} for column in lines}
        one["columns"]["A"] = {"accuracy": 1.8 - one["columns"]["C"]["accuracy"], "ci95": 0.001}
    for text in (written(TABLE, found), summary(TABLE, found)):
        [table] = re.findall(r"^#+ Omniglot, 20-way 1-shot$(.*?)(?=^#)", text, re.DOTALL | re.MULTILINE)
        shown = [re.split(r" \(| \|", line)[0].removeprefix("| ") for line in table.splitlines() if "±" in line]
        assert shown == [
            "Baseline++", "Baseline++, running statistics", "ProtoNet", "MAML++",
            "MAML++, ensemble of its 5 best checkpoints", "Baseline", "Baseline, running statistics",
        ]  # fmt: skip


def test_a_run_that_rows_yaml_has_otherwise_now_says_what_it_was_run_with():
    assert "run with" not in page(0.97)
    other = TABLE.experiment(Row("maml", "20w1s", 0))
    other["outer"]["lr"] = 0.5
    assert "MAML, second order (run with outer.lr 0.5)" in page(0.97, experiment=other)


def test_core_hours_of_another_processor_name_it_and_are_left_out_where_others_compare():
    other, rows = {"processor": "slow", "core_seconds": 36_000}, [Row("maml", "5w1s", seed) for seed in range(3)]
    runs = [result(row, 0.96, **(other if row.seed else {})) for row in rows]
    assert core_hours(TABLE, runs) == (1.0, "")
    assert core_hours(TABLE, runs[1:]) == (10.0, "slow")
    assert "| 3 | 1,600 | 1.00 |" in written(TABLE, dict(zip(rows, runs, strict=True)))
    alone = {rows[1]: runs[1]}
    for text in (written(TABLE, alone), summary(TABLE, alone)):
        assert "| 1 | 1,600 | 10.00 (slow) |" in text
    assert "| 5w1s: MAML, second order, on slow | 1 | 300.0 |" in written(TABLE, alone)
    assert "maml 10.00 (slow) h 96.00 %" in hours_figure.described(hours_figure.points(TABLE, alone))
    both = {rows[0]: runs[0], rows[1]: runs[1]}
    assert compute(both) == "2 runs; 1.0 core-hours on AMD EPYC; 10.0 core-hours on slow."


def test_a_result_names_the_vectors_of_its_processor():
    assert running._processor().endswith(f", {torch.backends.cpu.get_cpu_capability()}")


def test_a_search_is_a_table_of_its_own_in_the_order_of_validation():
    rows = {name: Row("maml", "20w1s", 0, name) for name in ("base", "rate_0.1")}
    tested = {rows["base"]: (0.8, 0.9), rows["rate_0.1"]: (0.9, 0.8)}
    found = {row: result(row, test, curve=[[1, best]]) for row, (best, test) in tested.items()}
    lines = written(TABLE, found).splitlines()
    [first, second] = [line for line in lines if line.startswith(("| base", "| rate_0.1"))]
    assert first.startswith("| rate_0.1 | algorithm.inner_lr 0.1 | 90.00 | 80.00 ± 0.10 |")
    assert second.startswith("| base | nothing | 80.00 |")
    assert not any("Omniglot, 20-way 1-shot" in line for line in lines)


def test_a_recipe_is_measured_against_its_published_figure_in_a_table_of_its_own():
    told, recipe = page(0.97, 0.971, 0.969, variant=RECIPE), TABLE.said(Line("maml", recipe=RECIPE), "20w1s")
    [line] = [line for line in told.splitlines() if line.startswith(f"| {recipe['label']} | 97.00, std 0.10")]
    assert "A 95.8: above" in line
    assert f"- {recipe['label']}: task.ways {recipe['set']['task.ways']}, " in told
    assert "| all | 0 | 0 | 0 | 0 | 0 | 0 |" in told  # other recipes than those of the figures
    missing = [line for text in (told, page(0.97)) for line in text.splitlines() if line.startswith("- 20w1s recipes")]
    assert [re.search(rf"{recipe['label']}[;\n]", line + "\n") is None for line in missing] == [True, False]


def test_a_setting_of_another_split_is_compared_with_the_same_published_figures():
    assert (
        TABLE.published(Line("maml"), "maml1200-20w1s", "A") == TABLE.published(Line("maml"), "20w1s", "A") is not None
    )


def test_what_a_recipe_does_not_say_is_said_by_its_learner():
    own, recipe = (TABLE.said(Line("protonet", recipe=name), "20w1s") for name in ("", RECIPE))
    assert recipe["published"] == own["published"]
    assert recipe["label"] != own["label"]
    row = Row("protonet", "20w1s", 0, "recipe_augmented")
    *_, ensemble = TABLE.lines(row)
    assert "ensemble" in TABLE.said(ensemble, "20w1s")["label"]
    assert TABLE.published(ensemble, "20w1s", "C") is None
    assert TABLE.experiment(row)["checkpoint"]["keep_best"] > 1


def test_every_recipe_is_planned_and_no_variant_of_the_search_is_called_as_one():
    planned = {(row.setting, row.learner, row.variant) for row in TABLE.rows if row.recipe}
    every = TABLE.source["recipes"].items()
    assert planned == {
        (setting, learner, name)
        for setting, said in every
        for learner, recipes in said["learners"].items()
        for name in recipes
    }
    assert not any(name.startswith(RECIPE) for name in TABLE.source["search"]["variants"])


def test_the_time_to_an_accuracy_is_that_of_the_first_validation_that_reached_it():
    found = result(Row("maml", "5w1s", 0), 0.9, curve=[[10, 0.94], [50, 0.95], [80, 0.94], [100, 0.975]])
    assert [reached(found, level) for level in LEVELS] == [30.0, 60.0, None]
    written = page(0.9, setting="5w1s", curve=found["curve"])
    assert "| 5w1s: MAML, second order | 0 | 30.0 | 60.0 | - | 60.0 | 97.50 |" in written


def test_a_run_that_never_got_there_and_one_validated_with_other_shots_say_so():
    assert "| 5w1s: Reptile, validated with 10 shots | 0 | 60.0 |" in page(0.955, learner="reptile", setting="5w1s")
    assert "Never at 95 % in a validation (the best, %): 5w1s: ANIL, seed 0 (91.0)." in page(
        0.91, learner="anil", setting="5w1s"
    )


def test_the_seconds_of_a_run_are_those_of_its_own_process_also_when_it_fails(tmp_path, monkeypatch):
    program, spent, core = tmp_path / "program", tmp_path / "seconds", min(os.sched_getaffinity(0))
    burn = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"]

    def ran(last_line: str) -> dict:
        program.write_text(f"#!/bin/sh\nsleep 0.6\n{last_line}\n")
        program.chmod(0o755)
        monkeypatch.setattr(running.sys, "executable", str(program))
        return running._metalearn(core, "train", spent=spent)

    other = Thread(target=lambda: subprocess.run(burn, check=True))
    other.start()
    assert ran("echo '{\"iterations\": 3}'") == {"iterations": 3}
    other.join()
    assert float(spent.read_text()) < 0.2
    burning = shlex.join(burn)
    with pytest.raises(subprocess.CalledProcessError):
        ran(f"{burning}; exit 4")
    assert float(spent.read_text()) > 0.4


def test_after_a_signal_no_further_row_begins_and_the_one_under_way_may_end(tmp_path, monkeypatch):
    program, begun = tmp_path / "program", []
    program.write_text("#!/bin/sh\ntrap 'exit 143' TERM\nwhile :; do sleep 0.05; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(running.sys, "executable", str(program))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "_STOPPED", Event())
    spent, core = tmp_path / "seconds", min(os.sched_getaffinity(0))

    def run(_table, row, _work, _core):
        begun.append(row)
        Timer(0.3, command._stop, (15, None)).start()
        running._metalearn(core, "train", spent=spent)

    monkeypatch.setattr(command, "run", run)
    rows = [Row("maml", "5w1s", 0), Row("maml", "5w1s", 1)]
    assert command._run_all(TABLE, rows, Namespace(cores=1, minutes=1.0, work=tmp_path)) == rows[:1]
    assert begun == rows[:1]
    assert spent.exists()
