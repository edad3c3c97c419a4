"""What people install holds all that it needs."""

import subprocess
import sys
import zipfile

import pytest

from metalearn_cli.experiment import shipped
from tests.commands import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling is not installed (the extra metalearn-cli[test])")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def test_the_wheel_says_that_it_is_typed(wheel):
    assert "metalearn_cli/py.typed" in wheel.namelist()


def test_the_wheel_holds_every_module_list_and_config(wheel):
    package = [*ROOT.glob("metalearn_cli/**/*.py"), *(p for p in ROOT.glob("metalearn_cli/datasets/lists/*"))]
    wanted = {str(path.relative_to(ROOT)) for path in package} | {f"metalearn_cli/configs/{n}.yaml" for n in shipped()}
    assert wanted <= set(wheel.namelist())


def test_the_wheel_holds_the_command_and_nothing_of_the_tests(wheel):
    [about] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "metalearn = metalearn_cli.__main__:main" in wheel.read(about).decode()
    assert not [name for name in wheel.namelist() if name.startswith(("tests", "benchmarks"))]
