"""The fields, files and exit codes that docs/output.md lists are those of the real commands, no more and no fewer."""

import json
import re
import signal
from fnmatch import fnmatch
from pathlib import Path

import pytest

from metalearn_cli.errors import DivergedError, MetalearnError
from tests.commands import ROOT, TINY

PAGE = (ROOT / "docs/output.md").read_text()
ONLY_WITH_A_GPU = {"cuda.devices[].name", "cuda.devices[].memory_bytes", "cuda.devices[].capability"}
BY_NAME = {"splits": "PART", "support": "CLASS", "versions": "NAME"}
SOMETIMES = {".lock", "checkpoints/best-*.pt"}
AS_ELSEWHERE = {"experiment", "checkpoints", "data.datasets", "calibration", "promises", "worth"}


def table(mark):
    """What the first column names, of the table that comes after a mark."""
    [rows] = re.findall(rf"<!-- {re.escape(mark)} -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE)
    return {name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def paths(value, path=""):
    """The paths of all that an object holds, as the page writes them."""
    if isinstance(value, dict) and path not in AS_ELSEWHERE:
        named = {BY_NAME.get(path, key): inner for key, inner in value.items()}
        inside = {one for key, inner in named.items() for one in paths(inner, f"{path}.{key}".lstrip("."))}
        return inside | ({path} & {"val", "best", "over_seeds"})
    if isinstance(value, list) and path in AS_ELSEWHERE:
        return {f"{path}[]"}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return paths(value[0], f"{path}[]")
    return {path}


def fields(run, *arguments, **options):
    outcome = run(*arguments, "--json", **options)
    assert outcome.code == 0, outcome.err
    return outcome.fields


@pytest.fixture(scope="module")
def seeds(run_cli, tiny_config, tiny_run, tmp_path_factory):
    """Two checkpoints of one experiment that differ in their seed alone, and what `train` said of the second."""
    folder = tmp_path_factory.mktemp("seeds") / "second"
    said = fields(run_cli, "train", tiny_config, "--set", "seed=1", "--run-dir", folder)
    return tiny_run / "checkpoints/best.pt", folder / "checkpoints/best.pt", said


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    from tests.cli.conftest import folder_of_drawings

    return folder_of_drawings(tmp_path_factory.mktemp("pictures") / "known", 3, seed=0)


def test_prepare(run_cli):
    assert table("json: prepare") == paths(fields(run_cli, "prepare", "glyphs", "--set", "dataset.classes=40"))


def test_prepare_list(run_cli):
    assert table("json: list") == paths(fields(run_cli, "prepare", "--list"))


def test_train(seeds):
    assert table("json: train") == paths(seeds[2])


def test_dry_run(run_cli, tiny_config):
    assert table("json: dry-run") == paths(fields(run_cli, "train", tiny_config, "--dry-run"))


def test_eval(run_cli, seeds):
    assert table("json: eval") == paths(fields(run_cli, "eval", "--checkpoint", seeds[0]))


def test_eval_of_an_ensemble(run_cli, tiny_config, tmp_path):
    kept = ("--set", "checkpoint.keep_best=2", "--run-dir", tmp_path / "kept")
    said = fields(run_cli, "train", tiny_config, *kept)
    names = {path.relative_to(tmp_path / "kept").as_posix() for path in map(Path, said["kept_checkpoints"])}
    assert len(names) == 2
    assert all(any(fnmatch(name, pattern) for pattern in SOMETIMES & table("files")) for name in names)
    found = paths(fields(run_cli, "eval", "--checkpoint", tmp_path / "kept"))
    usual = table("json: eval") - {"ensemble"}
    assert found == usual | table("json: eval of an ensemble, besides eval")


def test_eval_of_several(run_cli, seeds):
    several = fields(run_cli, "eval", "--checkpoint", seeds[0], "--checkpoint", seeds[1])
    assert table("json: eval of several") == paths(several)


def test_eval_of_a_regression(run_cli, tmp_path):
    regression = {"dataset": {"name": "sinusoid"}, "backbone": {"name": "mlp", "hidden": [4]}}
    (tmp_path / "sines.yaml").write_text(json.dumps(TINY | regression | {"task": {"ways": 1}}))
    fields(run_cli, "train", "sines.yaml", "--run-dir", "sines", cwd=tmp_path)
    found = paths(fields(run_cli, "eval", "--checkpoint", "sines/checkpoints/best.pt", cwd=tmp_path))
    usual = {path for path in table("json: eval") if "accuracy" not in path}
    assert found == usual | table("json: eval of a regression, besides eval")


def test_eval_of_functions(run_cli, tmp_path):
    functions = {"dataset": {"name": "functions"}, "backbone": {"name": "mlp", "hidden": [4]}}
    (tmp_path / "functions.yaml").write_text(json.dumps(TINY | functions | {"task": {"ways": 1}}))
    fields(run_cli, "train", "functions.yaml", "--run-dir", "run", cwd=tmp_path)
    found = paths(fields(run_cli, "eval", "--checkpoint", "run/checkpoints/best.pt", cwd=tmp_path))
    usual = {path for path in table("json: eval") if "accuracy" not in path}
    usual |= table("json: eval of a regression, besides eval")
    assert found == usual | table("json: eval of functions, besides eval of a regression")


def test_finetune(run_cli, seeds, pictures, tmp_path):
    given = ("finetune", "--checkpoint", seeds[0], "--support", pictures, "--query", pictures)
    assert table("json: finetune") == paths(fields(run_cli, *given, cwd=tmp_path))


def test_info(run_cli, seeds):
    assert table("json: info") - ONLY_WITH_A_GPU == paths(fields(run_cli, "info")) - {"cuda.devices"} - ONLY_WITH_A_GPU


def test_a_line_of_the_metrics(tiny_run):
    rows = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert all(paths(row) - {"best"} | {"best"} == table("json: metrics") for row in rows)


def test_the_files_of_a_run_folder(tiny_run):
    found = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
    named = table("files")
    assert [file for file in found if not any(fnmatch(file, pattern) for pattern in named)] == []
    assert [pattern for pattern in named - SOMETIMES if not any(fnmatch(file, pattern) for file in found)] == []


def test_the_exit_codes():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.partition("## Exit codes")[2], re.MULTILINE)}
    by_signal = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)}
    assert codes == {0, 1, 3, MetalearnError.exit_code, DivergedError.exit_code} | by_signal
