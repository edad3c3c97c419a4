"""The rules of the house that a program can check."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "metalearn_cli"
# Each room may import the rooms before it that are named here; `errors` and its like are open to all.
_BELOW_EXPERIMENT = {"layers", "core", "datasets", "backbones", "algorithms", "extractors"}
MAY_IMPORT = {
    "layers": set(),
    "core": {"layers"},
    "datasets": {"core", "layers"},
    "backbones": {"core", "layers"},
    "algorithms": {"core", "layers"},
    "extractors": {"datasets"},
    "experiment": _BELOW_EXPERIMENT,
    "storage": {"experiment"} | _BELOW_EXPERIMENT,
    "runtime": {"storage", "experiment"} | _BELOW_EXPERIMENT,
    "report": {"storage", "experiment"} | _BELOW_EXPERIMENT,
    "cli": {"report", "runtime", "storage", "experiment"} | _BELOW_EXPERIMENT,
    "testing": {"runtime", "storage", "experiment"} | _BELOW_EXPERIMENT,
}
# The same inside the rooms that have rooms of their own.
MAY_IMPORT_INSIDE = {
    "layers": {"cpu": set()},
    "runtime": {"data": set(), "machine": set(), "run": {"data", "machine"}, "use": {"data", "machine", "run"}},
    "storage": {
        "files": set(),
        "pictures": set(),
        "inputs": {"files", "pictures"},
        "prepared": {"files", "pictures", "inputs"},
        "runs": {"files"},
        "tabular": {"files", "inputs", "prepared"},
    },
}
OPEN_TO_ALL = {"errors", "nouns", "omissions", "preprocessing", "pytest_plugin", "references", "settings", "version"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("metalearn_cli")}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    room = room_of(module_name(file))
    if room not in MAY_IMPORT:
        pytest.skip("the package's own face")
    rooms = {room_of(name) for name in imports(file)} - {room, ""} - OPEN_TO_ALL
    assert rooms <= MAY_IMPORT[room]


@pytest.mark.parametrize("room", MAY_IMPORT_INSIDE)
def test_imports_between_the_rooms_of_a_room_point_one_way(room):
    inner = MAY_IMPORT_INSIDE[room]
    assert {folder.name for folder in (PACKAGE / room).iterdir() if (folder / "__init__.py").exists()} == set(inner)
    for name, allowed in inner.items():
        for file in (PACKAGE / room / name).glob("*.py"):
            imported = {part.split(".")[2] for part in imports(file) if part.startswith(f"metalearn_cli.{room}.")}
            siblings = imported & set(inner) if room != "layers" else imported
            assert siblings - {name} <= allowed, file


@pytest.mark.parametrize("room", ["algorithms", "backbones", "datasets", "extractors"])
def test_siblings_do_not_import_each_other(room):
    for file in (PACKAGE / room).glob("*.py"):
        siblings = {name for name in imports(file) if name.startswith(f"metalearn_cli.{room}.")}
        modules = {name for name in siblings if (PACKAGE / room / f"{name.split('.')[2]}.py").exists()}
        assert modules == set()


def test_only_the_rim_imports_typer_and_rich():
    for file in FILES:
        if file.is_relative_to(PACKAGE / "cli"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"typer", "rich"}, file


def test_nothing_unpickles_extracts_or_evaluates():
    forbidden = {"pickle.load", "pickle.loads", "torch.load", "yaml.load", "eval", "exec", "extractall"}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if call == "torch.load" and arguments.get("weights_only") == "True" and "extractors" in file.parts:
                    continue  # of bytes whose SHA-256 is known
                assert call not in forbidden, f"{file}:{node.lineno}"
                assert not call.endswith((".extractall", ".extract")), f"{file}:{node.lineno}"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["train", "list"]])
def test_help_does_not_import_torch(arguments):
    code = (
        "import sys\nfrom metalearn_cli.cli import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.stderr.write(str('torch' in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert result.stderr == "False"


def functions_in(file: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]


COMMANDS = {"evaluate", "finetune", "info", "prepare", "train"}
"""Each line of a command's signature is one of its options, so only what lies below it is counted."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_has_at_most_250_lines_and_a_function_40_below_its_docstring(file):
    assert len(file.read_text().splitlines()) <= 250
    for function in functions_in(file):
        is_command = file.parent.name == "cli" and function.name in COMMANDS
        documented = ast.get_docstring(function) is not None
        prose = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
        first = function.body[0].lineno if is_command else function.lineno
        assert function.end_lineno - first - prose < 40, f"{function.name}, line {function.lineno}"


WITHOUT_KEYWORDS = {"_Gradients.apply", "ctx.save_for_backward", "nn.Sequential", "section"}
"""What takes any number of arguments, and torch's autograd, which takes none by name."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_call_has_more_than_five_positional_arguments(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) not in WITHOUT_KEYWORDS:
            assert len(node.args) <= 5, f"{ast.unparse(node.func)}, line {node.lineno}"


USED_TWICE = {
    # The interface of a file: the registry finds it by these names.
    "Config", "build", "arrange",
    # A command and the function of the library that it calls; the two ways to run the command line.
    "evaluate", "prepare", "train", "main",
    # The block `task` of an experiment, which says how large a task is, and the tasks that a learner gets.
    "Task",
}  # fmt: skip
"""Public names that mean two things, each for a reason. A name that joins them needs one too."""


def test_public_names_are_used_once():
    homes: dict[str, set[Path]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(file)
    assert {name for name, files in homes.items() if len(files) > 1} == USED_TWICE


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_docstring_begins_with_its_subject(file):
    nodes = [ast.parse(file.read_text()), *functions_in(file)]
    nodes += [node for node in ast.walk(nodes[0]) if isinstance(node, ast.ClassDef)]
    first = {node: doc.split()[0].strip(",:;.") for node in nodes if (doc := ast.get_docstring(node))}
    riddles = {"How", "So", "That", "What", "Where", "Which", "Who", "Whose"}
    assert [getattr(node, "name", "") for node, word in first.items() if word in riddles] == []


def named_in(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a file gives to functions, classes and values."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def test_every_name_is_used_by_the_package_its_documentation_or_its_benchmarks():
    root = PACKAGE.parent
    others = [*(root / "docs").rglob("*.py"), *(root / "docs").glob("*.md"), *(root / "benchmarks").rglob("*.py")]
    words = Counter(word for file in [*FILES, *others] for word in re.findall(r"\w+", file.read_text()))
    named = {name for file in FILES for node in ast.parse(file.read_text()).body for name in named_in(node)}
    called_by_others = ("__", "pytest_", "test_")  # by Python and by pytest
    assert {name for name in named if words[name] < 2 and not name.startswith(called_by_others)} == USED_BY_TESTS_ALONE


USED_BY_TESTS_ALONE = {"value_tasks"}
"""Regression tasks beside the tasks of pictures, with which a person may try an algorithm that predicts numbers."""
