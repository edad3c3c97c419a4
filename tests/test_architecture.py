"""The rules of the house that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "metalearn_cli"
# Each room may import the rooms before it that are named here; `errors` and its like are open to all.
_BELOW_EXPERIMENT = {"layers", "core", "datasets", "backbones", "algorithms"}
MAY_IMPORT = {
    "layers": set(),
    "core": {"layers"},
    "datasets": {"core", "layers"},
    "backbones": {"core", "layers"},
    "algorithms": {"core", "layers"},
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
    },
}
OPEN_TO_ALL = {"errors", "omissions", "references", "settings", "version"}
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


@pytest.mark.parametrize("room", ["algorithms", "backbones", "datasets"])
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
