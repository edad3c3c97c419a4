"""What leaves metalearn answers as it did here, for every algorithm and backbone, in a process that has torch alone."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from metalearn_cli import load, load_classifier
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.use.export import save_initialisation
from metalearn_cli.runtime.use.network_inputs import inputs_of
from metalearn_cli.storage.runs import checkpoints
from tests import untrained
from tests.commands import ROOT

LAYERS = [
    {"conv2d": {"channels": 3, "stride": 2}}, "bn", {"leakyrelu": {"slope": 0.1}}, {"max_pool2d": {"kernel": 2}},
    {"convt2d": {"channels": 2}}, {"upsample": {"scale": 2}}, {"avg_pool2d": {"kernel": 4}}, "flatten",
    {"linear": {"features": 6}}, "bn", "tanh", {"reshape": {"shape": [6]}}, "linear",
]  # fmt: skip
BACKBONES = {
    "conv4": {"name": "conv4", "channels": 4},
    "conv4 pooled": {"name": "conv4", "channels": 4, "pool": True},
    "conv4 group": {"name": "conv4", "channels": 4, "norm": "group"},
    "resnet12": {"name": "resnet12", "channels": [2, 3, 4, 5]},
    "resnet12 dropping": {"name": "resnet12", "channels": [2, 3, 4, 5], "drop_rate": 0.3},
    "mlp": {"name": "mlp", "hidden": [8]},
    "linear": {"name": "linear", "features": 9},
    "layers": {"name": "layers", "layers": LAYERS},
}
CASES = [(algorithm, "conv4") for algorithm in names_in("algorithms")]
CASES += [(algorithm, backbone) for algorithm in ("maml", "protonet") for backbone in list(BACKBONES)[1:]]
BACKBONES["identity"] = {"name": "identity"}
CASES += [(algorithm, "identity") for algorithm in ("maml", "r2d2", "prototypes", "metaqda")]  # protonet refuses it
ALONE = """
import json, sys
sys.modules["metalearn_cli"] = None  # as where it is not installed: importing it fails
import numpy, torch
try:
    import metalearn_cli
    raise SystemExit("metalearn_cli is there")
except ImportError:
    pass
pictures = torch.from_numpy(numpy.load("pictures.npy"))
found = {}
for file in sys.argv[1:]:
    about = {"about.json": ""}
    program = torch.export.load(file, extra_files=about).module()
    together = program(pictures)
    alone = torch.cat([program(one.unsqueeze(0)) for one in pictures])
    off = (together - alone).abs().max() / together.abs().max().clamp(min=1)
    assert off <= 1e-5, "a query changed another's answer"
    found[file] = {"rows": together.softmax(-1).tolist(), "about": json.loads(about["about.json"])}
print(json.dumps(found))
"""


def pictures(count, seed):
    """Plain pictures of the network's own size, so that nothing but what the program does is done to them."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


def checkpoint_of(path, data_dir, algorithm, backbone):
    return untrained.checkpoint_of(path, data_dir, algorithm={"name": algorithm}, backbone=BACKBONES[backbone])


def adapted(path, labels=("a", "b", "a", "b", "b")):
    return load(path).adapt(pictures(len(labels), 0), labels)


@pytest.mark.parametrize(("algorithm", "backbone"), CASES)
def test_in_plain_layers_it_answers_as_the_learner_does(algorithm, backbone, data_dir, tmp_path):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, algorithm, backbone))
    network, queries = classifier.module(), pictures(7, 1)
    with torch.no_grad():
        found = (network(inputs_of(queries, classifier.interface)) / classifier.temperature).softmax(-1)
    np.testing.assert_allclose(found, classifier.predict_proba(queries), atol=1e-5)
    assert {type(one).__module__.partition(".")[0] for one in network.modules()} <= {"torch", "metalearn_cli"}
    assert not [one for one in network.modules() if isinstance(one, DropBlock)]
    assert not [one for one in network.modules() if type(one).__name__.startswith("Task")]


def test_programs_answer_the_same_where_metalearn_is_not_to_be_had(data_dir, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    queries = pictures(6, 1)
    np.save(elsewhere / "pictures.npy", queries)
    expected = {}
    for algorithm, backbone in [
        ("maml", "conv4"),
        ("protonet", "conv4 pooled"),
        ("r2d2", "mlp"),
        ("anil", "resnet12 dropping"),
    ]:
        classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, algorithm, backbone))
        classifier.save(elsewhere / f"{algorithm}.pt2")
        expected[f"{algorithm}.pt2"] = classifier.predict_proba(queries)
    command = [sys.executable, "-I", "-c", ALONE, *expected]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    for file, found in json.loads(result.stdout).items():
        np.testing.assert_allclose(found["rows"], expected[file], atol=1e-5)
        assert found["about"]["classes"] == ["a", "b"]
        assert found["about"]["preprocessing"]["resize"] == "bilinear"


def test_a_program_names_no_folder_of_the_machine_it_was_made_on(data_dir, tmp_path):
    adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4")).save(tmp_path / "mine.pt2")
    content = (tmp_path / "mine.pt2").read_bytes()
    assert b"about.json" in content
    assert b"metalearn_cli/" not in content
    assert b"site-packages" not in content


def test_weights_load_into_the_layers_that_they_name(data_dir, tmp_path):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4"))
    classifier.save(tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    assert about["classes"] == ["a", "b"]
    assert about["input_shape"] == [1, 28, 28]
    assert about["preprocessing"]["invert"] is True
    assert about["versions"]["torch"] == torch.__version__

    def block(channels):
        return [nn.Conv2d(channels, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]

    body = nn.Sequential(*block(1), *block(4), *block(4), *block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential()
    network.add_module("body", body)
    network.add_module("head", nn.Linear(4, 2))
    network.load_state_dict(tensors)
    queries = pictures(5, 1)
    mean, std = (torch.tensor(about["preprocessing"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    inputs = ((255 - torch.from_numpy(queries).permute(0, 3, 1, 2).float()) / 255 - mean) / std
    with torch.no_grad():
        found = network.eval()(inputs).softmax(-1)
    np.testing.assert_allclose(found, classifier.predict_proba(queries), atol=1e-5)


def test_the_initialisation_keeps_the_names_of_the_backbone(data_dir, tmp_path):
    path = checkpoint_of(tmp_path / "best.pt", data_dir, "meta_sgd", "conv4")
    save_initialisation(checkpoints.read_checkpoint(path), path, tmp_path / "init.safetensors")
    stored = checkpoints.read_checkpoint(path)
    with safe_open(tmp_path / "init.safetensors", "np") as file:
        assert json.loads(file.metadata()["kind"]) == "meta"
        names = set(file.keys())
        np.testing.assert_array_equal(file.get_tensor("head.weight"), stored.tensors["params.head.weight"])
    assert names == set(stored.below("params.")) | {f"coefficients.{name}" for name in stored.below("coefficients.")}


def test_a_saved_classifier_can_be_saved_in_another_form(data_dir, tmp_path):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "cavia", "conv4"))
    classifier.save(tmp_path / "mine.pt")
    load_classifier(tmp_path / "mine.pt").save(tmp_path / "mine.safetensors")
    classifier.save(tmp_path / "direct.safetensors")
    first, second = (load_file(tmp_path / name) for name in ("mine.safetensors", "direct.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("labels", [["007", "1", "10", "2"], [7, 1, 10, 2], [0.5, -3, "2", 10**30]], ids=repr)
def test_labels_like_numbers_stay_what_they_are_in_every_form(data_dir, tmp_path, labels):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "protonet", "mlp"), labels)
    queries, expected = pictures(5, 1), [*map(repr, classifier.classes)]
    assert sorted(expected) == sorted(map(repr, labels))
    classifier.save(tmp_path / "mine.pt")
    again = load_classifier(tmp_path / "mine.pt")
    assert [*map(repr, again.classes)] == expected
    assert [*map(repr, again.predict(queries))] == [*map(repr, classifier.predict(queries))]
    again.save(tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert [*map(repr, json.loads(file.metadata()["classes"]))] == expected
    again.save(tmp_path / "mine.pt2")
    program = {"about.json": ""}
    logits = torch.export.load(tmp_path / "mine.pt2", extra_files=program).module()(torch.from_numpy(queries))
    classes = json.loads(program["about.json"])["classes"]
    assert [*map(repr, classes)] == expected
    assert [repr(classes[best]) for best in logits.argmax(1)] == [*map(repr, classifier.predict(queries))]


def test_more_classes_than_in_training_are_exported_where_the_algorithm_learns_them(data_dir, tmp_path):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "proto_maml", "conv4"), ["a", "b", "c", "d"])
    assert classifier.module()(torch.zeros(3, 1, 28, 28)).shape == (3, 4)


def test_another_suffix_is_refused_with_those_that_there_are(data_dir, tmp_path):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4"))
    with pytest.raises(ConfigError, match=r"ends in '.onnx', expected one of .pt .*\.safetensors .*\.pt2"):
        classifier.save(tmp_path / "mine.onnx")


def test_what_torch_cannot_export_is_one_error(data_dir, tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise RuntimeError("no such operator\nand a page of advice")

    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4"))
    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(ConfigError, match=r"torch cannot export this network: no such operator$"):
        classifier.save(tmp_path / "mine.pt2")
    assert not (tmp_path / "mine.pt2").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: nn.Sequential(network), "no plain form"),
        (lambda network: network.body.append(nn.Tanh()) and network, "would answer otherwise"),
    ],
)
def test_a_network_that_is_not_the_learners_is_refused_and_not_exported_wrongly(
    change, message, data_dir, tmp_path, monkeypatch
):
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4"))
    as_built = assembly.backbone_for
    monkeypatch.setattr("metalearn_cli.runtime.use.classifier.backbone_for", lambda *about: change(as_built(*about)))
    with pytest.raises(ConfigError, match=message):
        classifier.module()


def test_the_script_of_the_docs_answers_for_any_picture_as_finetune_does(data_dir, tmp_path):
    [script] = re.findall(
        r"<!-- classify.py -->\n```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL
    )
    (tmp_path / "classify.py").write_text(script)
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., :3]).save(tmp_path / "turned.jpg", exif=turned)
    Image.fromarray(pixels).save(tmp_path / "transparent.png")
    classifier = adapted(checkpoint_of(tmp_path / "best.pt", data_dir, "maml", "conv4"))
    classifier.save(tmp_path / "mine.pt2")
    files = ["turned.jpg", "transparent.png"]
    command = [sys.executable, "-I", "classify.py", *files]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout
    queries = [Image.open(tmp_path / file) for file in files]
    rows = zip(files, classifier.predict(queries), classifier.predict_proba(queries).max(1), strict=True)
    expected = [f"{file} {name} {probability:.4f}" for file, name, probability in rows]
    assert told.splitlines() == expected
