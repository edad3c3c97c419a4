"""Checkpoints whose checksum is right and whose contents are not what metalearn writes: refused by their field."""

import copy
import json
import resource
import sys

import numpy as np
import pytest
import torch

from metalearn_cli.errors import CheckpointError
from metalearn_cli.runtime.use.loading import load, load_classifier
from metalearn_cli.storage.runs import checkpoints
from metalearn_cli.storage.runs.checkpoints import FORMAT, Checkpoint
from tests.faults._forging import packed, places
from tests.untrained import checkpoint_of

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
ALIEN = [None, True, -1, 2**40, 10**30, 1e308, "x", "\x1b[2J", [], [[]], {}, {"name": "x"}]


@pytest.fixture(scope="module")
def trained(tiny_run) -> Checkpoint:
    return checkpoints.read_checkpoint(tiny_run / "checkpoints/best.pt")


@pytest.fixture(scope="module")
def adapted(tiny_run, tmp_path_factory) -> Checkpoint:
    path = tmp_path_factory.mktemp("adapted") / "adapted.pt"
    load(tiny_run / "checkpoints/best.pt").adapt(PICTURES, ["a", "b", "a", "b"]).save(path)
    return checkpoints.read_checkpoint(path)


def with_value(checkpoint, path, value) -> Checkpoint:
    header = copy.deepcopy(dict(checkpoint.header))
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    block = header
    for part in above:
        block = block[part]
    block[last] = value
    return Checkpoint(header, checkpoint.tensors)


def refused(opener, checkpoint, tmp_path, message=None):
    path = tmp_path / "odd.pt"
    path.write_bytes(packed(json.dumps({"format": FORMAT, **checkpoint.header}), dict(checkpoint.tensors)))
    with pytest.raises(CheckpointError, match=message) as caught:
        opener(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 1000


def require_refused_or_right(opener, checkpoint, tmp_path):
    try:
        refused(opener, checkpoint, tmp_path)
    except pytest.fail.Exception:  # it was opened: the value is one that metalearn could have written
        return False
    return True


SHARES = [12, pytest.param(1, marks=pytest.mark.slow)]
"""Every so many of the values for each field: other ones for its neighbour."""


def require_most_refused(opener, checkpoint, paths, share, tmp_path):
    refusals = sum(
        require_refused_or_right(opener, with_value(checkpoint, path, value), tmp_path)
        for place, path in enumerate(paths)
        for value in ALIEN[place % share :: share]
    )
    assert refusals > 0.7 * len(paths) * len(ALIEN) / share


@pytest.mark.parametrize("share", SHARES)
def test_every_field_of_a_training_checkpoint_is_refused_with_a_value_of_another_kind(trained, tmp_path, share):
    paths = [path for _, _, path in places(dict(trained.header)) if path != "format"]
    assert len(paths) > 60
    require_most_refused(load, trained, paths, share, tmp_path)


@pytest.mark.parametrize("share", SHARES)
def test_every_field_of_an_adapted_classifier_is_refused_with_a_value_of_another_kind(adapted, tmp_path, share):
    paths = [path for _, _, path in places(dict(adapted.header)) if not path.startswith(("format", "experiment."))]
    assert len(paths) > 15
    require_most_refused(load_classifier, adapted, paths, share, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("extra", 1, "extra: unknown key"),
        ("iteration", -1, "iteration: found -1"),
        ("iteration", True, "iteration: found True"),
        ("iteration", 3.5, "iteration: found 3.5"),
        ("reported", 9, "reported: found 9, but only"),
        ("skipped", 10**6, "skipped: found 1000000, but only"),
        ("skipped_in_a_row", 1, "skipped_in_a_row: found 1, but only 0"),
        ("kept", [[1, 0.5], [1, 0.5]], "kept: found .* expected each iteration once"),
        ("window", [0, 0.0], "window"),
        ("window", [99, 0.0, 0.0], "window: found 99, but only"),
        ("plan", ["faster", 1], "plan"),
        ("plan", ["loop", 0], "plan"),
        ("ground", {"torch": "\x1b[2J"}, "ground"),
        ("versions", {"torch": 3}, "versions"),
        ("data_sha256", "\u202e", "data_sha256"),
        ("best", "0.5", "best"),
        ("interface.outputs", 3, "interface.outputs: found 3, but the experiment has 2"),
        ("interface.input_shape", [1, 512, 512], r"interface.input_shape: found .* \[1, 28, 28\]"),
        ("interface.objective", "mse", "calibration"),
        ("interface.preprocessing", None, "interface.preprocessing"),
        ("interface.preprocessing.height", 10**5, "interface.preprocessing"),
        ("interface.preprocessing.mean", [0.0, 0.0], "interface.preprocessing"),
        ("interface.preprocessing.std", [0.0], "std: found 0.0, expected numbers greater than 0"),
        ("experiment.task.ways", 3, "interface.outputs: found 2, but the experiment has 3"),
        ("experiment.backbone.name", "os", "backbone.name"),
        ("experiment.algorithm.inner_steps", 10**6, "algorithm.inner_steps"),
        ("experiment.outer.optimizer", "sgd", "optimizer.exp_avg"),
        ("experiment.backbone.channels", 4096, r"in the file, \[4096"),
        ("experiment.backbone", {"name": "mlp", "hidden": [30_000] * 2}, "absent"),
        ("experiment.algorithm", {"name": "baseline", "classes": 65_536}, "absent in the file"),
        ("experiment.dataset", {"name": "sinusoid"}, "interface.preprocessing"),
    ],
)
def test_a_training_checkpoint_is_refused_by_the_field_that_cannot_be(trained, tmp_path, path, value, message):
    refused(load, with_value(trained, path, value), tmp_path, message)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classes", ["a", "a"], "classes: found a label twice"),
        ("classes", ["a", "b", "c"], "classes: found 3, but the network has 2 outputs"),
        ("classes", [], "classes"),
        ("classes", ["a", None], "classes"),
        ("classes", ["a", ["b"]], "classes"),
        ("inner_steps", -1, "inner_steps"),
        ("inner_steps", 10**9, "inner_steps"),
        ("interface.outputs", 65_536, "classes: found 2, but"),
        ("experiment.backbone.channels", 4096, "in the learner"),
        ("experiment.backbone", {"name": "mlp", "hidden": [30_000] * 2}, r"\[30000\] in the learner"),
    ],
)
def test_an_adapted_classifier_is_refused_by_the_field_that_cannot_be(adapted, tmp_path, path, value, message):
    refused(load_classifier, with_value(adapted, path, value), tmp_path, message)


LARGE_MAPS = [
    [{"upsample": {"scale": 512}}, {"avg_pool2d": {"kernel": 512}}],
    [{"max_pool2d": {"kernel": 2, "stride": 1, "padding": 1}}, {"upsample": {"scale": 300}}],
    [{"upsample": {"scale": 65_536}}, {"upsample": {"scale": 65_536}}],
]


@pytest.mark.parametrize("layers", LARGE_MAPS)
def test_a_small_file_cannot_ask_for_large_pictures_between_its_layers(trained, tmp_path, layers):
    network = {"name": "layers", "layers": [*layers, "flatten", "linear"]}
    refused(load, with_value(trained, "experiment.backbone", network), tmp_path, "values for a picture|backbone.layers")


def test_a_small_file_cannot_ask_for_a_large_network(trained, adapted, tmp_path):
    before = peak()
    for opener, checkpoint in ((load, trained), (load_classifier, adapted)):
        for sizes in ({"name": "conv4", "channels": 4096}, {"name": "mlp", "hidden": [20_000] * 3}):
            refused(opener, with_value(checkpoint, "experiment.backbone", sizes), tmp_path)
    assert peak() - before < 100 << 20


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


FILLED = {"NaN": torch.nan, "infinity": torch.inf}


@pytest.mark.parametrize("share", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["trained", "adapted"])
@pytest.mark.parametrize("change", ["gone", "renamed", "flat", "double", "whole numbers", "empty", *FILLED])
def test_every_tensor_must_be_one_of_the_learner(kind, change, share, request, tmp_path):
    checkpoint, opener = request.getfixturevalue(kind), {"trained": load, "adapted": load_classifier}[kind]
    for name, value in [*checkpoint.tensors.items()][::share]:
        tensors = dict(checkpoint.tensors)
        match change:
            case "gone":
                del tensors[name]
            case "renamed":
                tensors[f"{name}x"] = tensors.pop(name)
            case "flat":
                tensors[name] = value.reshape(1, -1) if value.dim() != 2 else value.reshape(-1)
            case "double":
                tensors[name] = value.double()
            case "whole numbers":
                tensors[name] = value.long()
            case "empty":
                tensors[name] = torch.empty(0, 2**40)
            case _:
                if "exp_avg_sq" in name and change == "infinity":
                    continue  # squares overflow where gradients do not
                tensors[name] = torch.full_like(value, FILLED[change])
        refused(opener, Checkpoint(checkpoint.header, tensors), tmp_path)


@pytest.mark.parametrize("slot", ["step", "exp_avg_sq"])
def test_what_adam_remembers_cannot_be_negative(trained, tmp_path, slot):
    name = next(name for name in trained.tensors if name.startswith(f"optimizer.{slot}."))
    tensors = {**trained.tensors, name: torch.full_like(trained.tensors[name], -1)}
    refused(load, Checkpoint(trained.header, tensors), tmp_path, f"{name} holds negative numbers")


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"\\udfff": 1}',
     '{"a": ' + "[" * 40 + "]" * 40 + "}", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_header_that_can_be_read_in_two_ways_or_not_at_all_is_refused(trained, tmp_path, text):
    (tmp_path / "odd.pt").write_bytes(packed(text, dict(trained.tensors)))
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        checkpoints.read_checkpoint(tmp_path / "odd.pt")


@pytest.mark.parametrize("algorithm", ["maml_plus_plus", "meta_curvature", "protonet", "proto_maml", "nearest", "r2d2"])
@pytest.mark.parametrize("running", [False, True])
def test_what_metalearn_wrote_is_read_whatever_the_learner(algorithm, running, tmp_path, data_dir):
    task = {"ways": 2, "shots": 1, "queries": 2, "running_statistics": running}
    path = checkpoint_of(tmp_path / "new.pt", data_dir, algorithm={"name": algorithm}, task=task)
    classifier = load(path).adapt(PICTURES, ["a", 1, "a", 1])
    classifier.save(tmp_path / "adapted.pt")
    again = load_classifier(tmp_path / "adapted.pt")
    assert again.classes == ["a", 1]
    assert np.array_equal(again.predict_proba(PICTURES), classifier.predict_proba(PICTURES))
