import json

from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping, read_experiment, to_yaml
from metalearn_cli.experiment.yaml_lines import parse

LINES = """\
name: tiny
seed: 3
dataset:  {name: glyphs}
task:     {ways: 5, shots: 1, queries: 5}
backbone: {name: conv4, channels: 32}
algorithm:
  name: maml
  inner_lr: 0.4
  inner_steps: 1
outer:    {lr: 1e-3, meta_batch_size: 8, iterations: 400}
eval:     {inner_steps: 3, queries: 15, episodes: 600, every: 100}
"""

VALID = {
    "name": "tiny",
    "dataset": {"name": "glyphs"},
    "backbone": {"name": "conv4"},
    "algorithm": {"name": "maml"},
}


def blocks():
    """Some keys of each block, with any values that they may have."""
    numbers = st.floats(1e-300, 1e300, exclude_min=True)
    algorithm = {"name": st.just("maml"), "inner_lr": numbers, "second_order": st.booleans()}
    return st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
            "seed": st.integers(0, 2**63 - 1),
            "task": st.fixed_dictionaries({"ways": st.integers(1, 2**16)}),
            "algorithm": st.fixed_dictionaries(algorithm),
            "outer": st.fixed_dictionaries({"lr": numbers, "clip_value": st.none() | numbers}),
            "eval": st.fixed_dictionaries({"inner_steps": st.none() | st.integers(0, 100)}),
        }
    )


@settings(deadline=None)
@given(blocks())
def test_json_gives_back_an_equal_experiment(values):
    experiment = from_mapping({**VALID, **values}, "values")
    assert from_mapping(json.loads(json.dumps(experiment.model_dump(mode="json"))), "json") == experiment


@settings(deadline=None)
@given(blocks())
def test_yaml_gives_back_an_equal_experiment(values):
    experiment = from_mapping({**VALID, **values}, "values")
    assert from_mapping(parse(to_yaml(experiment), "yaml").values, "yaml") == experiment


SIGNS = "&*!<{}[]:-~'\"#%|,? \t\0\n01e.x🦊"


@st.composite
def mutated(draw):
    text = LINES.encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        middle = draw(st.text(SIGNS, max_size=5).map(str.encode) | st.binary(max_size=3))
        text = text[:start] + middle + text[end:]
    return text


@settings(max_examples=200, deadline=None)
@given(mutated())
def test_a_damaged_file_is_an_experiment_or_a_config_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "mutated.yaml"
    file.write_bytes(text)
    try:
        lines = [f"{file}: {read_experiment(str(file)).name}"]
    except ConfigError as error:
        lines = str(error).splitlines()
    assert lines
    assert all(line.startswith(str(file)) for line in lines)
