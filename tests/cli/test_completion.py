"""The shell completes commands, options, configs and datasets, and waits for neither torch nor numpy."""

import os
import subprocess
import sys

import pytest

from metalearn_cli.experiment import shipped
from metalearn_cli.experiment.registry import names_in

CODE = (
    "import sys\nfrom metalearn_cli.cli import app\n"
    "try: app(prog_name='metalearn')\nexcept SystemExit: pass\n"
    "sys.stderr.write(str([name for name in ('torch', 'numpy') if name in sys.modules]))"
)


def asked(**variables):
    env = os.environ | variables
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env, check=True)
    assert result.stderr == "[]"
    return result.stdout


@pytest.mark.parametrize(
    ("shell", "words"),
    [("bash", "complete -o default"), ("zsh", "#compdef metalearn"), ("fish", "complete --command metalearn")],
)
def test_each_shell_has_its_script(shell, words):
    assert words in asked(_METALEARN_COMPLETE=f"source_{shell}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metalearn fine", ["finetune"]),
        ("metalearn train omniglot/5", [name for name in shipped() if name.startswith("omniglot/5")]),
        ("metalearn prepare ", names_in("datasets")),
        ("metalearn train ./mine", []),
    ],
)
def test_a_word_is_completed(line, expected):
    words = str(len(line.split(" ")) - 1)
    found = asked(COMP_WORDS=line, COMP_CWORD=words, _METALEARN_COMPLETE="complete_bash").split()
    assert found == expected
