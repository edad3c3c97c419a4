"""Code that an experiment names: approved as the call that it is, found where it may be, and nowhere else."""

import sys

import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.references import Call, imported

LIKE = {"name": "resnet10t", "pretrained": False, "sizes": [1, 2]}
UNLIKE = [
    {}, {"name": "resnet10t", "pretrained": False}, LIKE | {"pretrained": True}, LIKE | {"pretrained": 0},
    LIKE | {"sizes": [2, 1]}, LIKE | {"name": "file:///tmp/evil"}, LIKE | {"more": None}, LIKE | {"sizes": "[1, 2]"},
]  # fmt: skip


def test_what_is_approved_is_the_call_and_not_the_function(monkeypatch):
    call = Call("timm:create_model", LIKE)
    assert call.shown() == "timm:create_model(name='resnet10t', pretrained=False, sizes=[1, 2])"
    monkeypatch.setenv("METALEARN_TRUST", call.approval())
    assert call.is_trusted()
    assert Call("timm:create_model", dict(reversed(LIKE.items()))).is_trusted()
    assert not Call("timm:create_other", LIKE).is_trusted()
    assert not any(Call("timm:create_model", arguments).is_trusted() for arguments in UNLIKE)


@pytest.mark.parametrize("text", ["", ",", "other:f", "m:F", "m:f@", "m:f@0123456789abcdef", "m", "*"])
def test_a_function_without_arguments_is_approved_by_its_name_alone(monkeypatch, text):
    monkeypatch.setenv("METALEARN_TRUST", text)
    assert not Call("m:f", {}).is_trusted()
    monkeypatch.setenv("METALEARN_TRUST", f"{text}, m:f")
    assert Call("m:f", {}).is_trusted()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        del sys.modules[name]


def test_a_module_of_the_folder_is_found_with_its_own_imports_and_the_path_stays(here):
    (here / "mine_here.py").write_text("from beside_here import f\n")
    (here / "beside_here.py").write_text("def f():\n    import late_here\n    return late_here.value\n")
    (here / "late_here.py").write_text("value = 7\n")
    (here / "other_here.py").write_text("raise SystemExit('was run')\n")
    before = [*sys.path]
    assert imported("mine_here:f", "key")() == 7
    assert sys.path == before
    with pytest.raises(ImportError):
        import other_here  # noqa: F401


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys\nsys.exit(3)\n", r"it ends the program \(SystemExit: 3\)"),
        ("raise ValueError('no')\n", "ValueError: no"),
        ("1 +\n", "SyntaxError"),
        ("import not_anywhere\n", "ModuleNotFoundError"),
        ("g = 1\n", "AttributeError"),
    ],
)
def test_what_an_import_raises_is_one_line_with_the_key(here, text, why):
    (here / "failing_here.py").write_text(text)
    with pytest.raises(ConfigError, match=f"^key: failing_here:f cannot be imported: {why}") as caught:
        imported("failing_here:f", "key")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_gone_hides_no_installed_module(here):
    here.rmdir()
    assert imported("json:dumps", "key")([]) == "[]"
    with pytest.raises(ConfigError, match="key: missing_here:f cannot be imported"):
        imported("missing_here:f", "key")
