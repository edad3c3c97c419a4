"""Names outside of the package: modules with a dot and entry points, found for a person, refused for a file."""

import json
import sys
from importlib.metadata import EntryPoint

import pytest

from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import from_mapping, read_experiment, registry, to_yaml
from metalearn_cli.experiment.registry import known_names, module_of, names_in
from tests.commands import TINY

CODE = """
from metalearn_cli.settings import Choice


class Config(Choice):
    rate: float = 0.5


def build(config, *_given):
    return config
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.delenv("METALEARN_TRUST", raising=False)
    (tmp_path / "mine_here").mkdir()
    (tmp_path / "mine_here/rates.py").write_text(CODE)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if name.startswith("mine_here"):
            del sys.modules[name]


def written(here, change):
    (here / "e.yaml").write_text(json.dumps(TINY | change))
    return "e.yaml"


@pytest.mark.parametrize("block", ["algorithm", "backbone", "dataset"])
def test_a_name_with_a_dot_is_a_module_of_the_folder_with_keys_of_its_own(here, block):
    experiment = read_experiment(written(here, {block: {"name": "mine_here.rates", "rate": 0.25}}))
    settings = getattr(experiment, block)
    assert (settings.name, settings.rate) == ("mine_here.rates", 0.25)
    assert module_of(settings).build(settings) is settings
    (here / "again.yaml").write_text(to_yaml(experiment))
    assert read_experiment("again.yaml") == experiment


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "mine_here.ratez"}, "algorithm.name: .*; did you mean mine_here.rates[?]"),
        ({"name": "not_here.rates"}, "algorithm.name: not_here.rates cannot be imported: ModuleNotFoundError"),
        ({"name": "json.decoder"}, "algorithm.name: json.decoder has no class Config"),
        ({"name": "mine_here.rates", "rates": 1.0}, "algorithm.rates: unknown key; did you mean rate"),
        ({"name": "mine_here.rates", "rate": "fast"}, "algorithm.rate: found 'fast' .str., expected a number"),
        ({"name": "rates"}, "algorithm.name: .*a module of your own has a dot in its name"),
        ({"name": "."}, "algorithm.name: "),
        ({"name": ".rates"}, "algorithm.name: "),
    ],
)
def test_what_is_wrong_with_it_is_a_line_with_file_line_and_key(here, values, said):
    with pytest.raises(ConfigError, match=f"^e.yaml:1: {said}") as caught:
        read_experiment(written(here, {"algorithm": values}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({block: {"name": "mine_here.rates"}} for block in registry.ROOMS),
        {"dataset": {"name": "mixture", "of": [{"name": "glyphs"}, {"name": "mine_here.rates"}]}},
    ],
)
@pytest.mark.parametrize("trust", ["", "mine_here", "mine_here.rates:build", "mine_here.other", "*"])
def test_a_file_that_names_it_imports_nothing_unless_a_person_approves_that_module(here, monkeypatch, change, trust):
    monkeypatch.setenv("METALEARN_TRUST", trust)
    with pytest.raises(CheckpointError, match=r"the module mine_here\.rates; allow it by: METALEARN_TRUST="):
        from_mapping(TINY | change, "a.pt")
    assert not [name for name in sys.modules if name.startswith("mine_here")]
    monkeypatch.setenv("METALEARN_TRUST", "a:b, mine_here.rates")
    from_mapping(TINY | change, "a.pt")
    assert "mine_here.rates" in sys.modules


def test_what_the_persons_own_experiment_names_needs_no_second_approval(here):
    values = TINY | {"algorithm": {"name": "mine_here.rates"}}
    assert from_mapping(values, "a.pt", ["mine_here.rates"]).algorithm.rate == 0.5


def test_installed_packages_add_names_that_never_hide_those_of_the_folder(here, monkeypatch):
    points = [EntryPoint(name, "mine_here.rates", "metalearn.algorithms") for name in ("rates", "maml")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "metalearn.algorithms" else [])
    assert "rates" in known_names("algorithms")
    assert "rates" not in names_in("algorithms")
    chosen = from_mapping(TINY | {"algorithm": {"name": "rates", "rate": 2.0}}, "a.pt").algorithm
    assert (chosen.name, module_of(chosen).__name__) == ("rates", "mine_here.rates")
    assert module_of(from_mapping(TINY, "a.pt").algorithm).__name__ == "metalearn_cli.algorithms.maml"
    points.append(EntryPoint("rates", "mine_here.other", "metalearn.algorithms"))
    with pytest.raises(ConfigError, match=r"in several installed packages: mine_here\.other, mine_here\.rates"):
        from_mapping(TINY | {"algorithm": {"name": "rates"}}, "a.pt")
