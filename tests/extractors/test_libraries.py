"""Networks of timm and transformers: tiny ones with random weights in a local folder, nothing from a hub.

Where a library is not installed, a stand-in with the few functions that are called takes its place.
"""

import json
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import timm as of_timm
from metalearn_cli.extractors import transformers as of_transformers

SIDE = 16


class Small(nn.Module):
    """Four features of a picture; what timm calls a network without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pretrained_cfg = {"architecture": "small"}

    def forward(self, inputs):
        return self.conv(inputs).mean((2, 3))


@pytest.fixture
def stand_in(monkeypatch):
    """timm with a single network, called small."""
    library = ModuleType("timm")

    def create_model(name, pretrained, num_classes):
        assert num_classes == 0
        if name.startswith("local-dir:"):
            network = Small()
            network.load_state_dict(
                safetensors.torch.load_file(name.removeprefix("local-dir:") + "/model.safetensors"), strict=False
            )
            return network
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        if pretrained:
            raise OSError("no route to the hub")
        return Small()

    facts = {"input_size": (3, SIDE, SIDE), "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    library.create_model = create_model
    library.data = SimpleNamespace(resolve_model_data_config=lambda _network: facts)
    monkeypatch.setitem(sys.modules, "timm", library)


def weights(path, seed=0):
    torch.manual_seed(seed)
    path.mkdir(exist_ok=True)
    safetensors.torch.save_file(
        Small().state_dict() | {"classifier.weight": torch.rand(2, 4)}, path / "model.safetensors"
    )
    return path


def test_a_network_of_timm_says_what_its_module_does_and_sees_what_timm_says(stand_in, tmp_path):
    folder = weights(tmp_path / "a")
    found = of_timm.build(of_timm.Config(model=str(folder)))
    given = of_timm.build(of_timm.Config(model="small", weights=str(folder / "model.safetensors")))
    inputs = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(found.module(inputs), given.module(inputs))
    assert (found.features, found.preprocessing.height, found.preprocessing.resize) == (4, SIDE, "bilinear")
    assert found.identity == given.identity
    assert found.identity != of_timm.build(of_timm.Config(model=str(weights(tmp_path / "b", 1)))).identity


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"model": "smal"}, r"Unknown model \(smal\); where there is a network, type: python -c "),
        ({"model": "small"}, r'no route to the hub; where .*create_model\("small", pretrained=True\)'),
        ({"model": "EMPTY"}, "has no model.safetensors; expected a folder that timm saved"),
        ({"model": "small", "weights": "EMPTY/none"}, "weights: .*none cannot be read: No such file"),
        ({"model": "small", "weights": "EMPTY/other"}, r"has no conv\.weight, which this network needs, nor 1 more"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(stand_in, tmp_path, keys, said):
    (tmp_path / "empty").mkdir()
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "empty" / "other")
    given = {name: value.replace("EMPTY", str(tmp_path / "empty")) for name, value in keys.items()}
    with pytest.raises(ConfigError, match=said) as refused:
        of_timm.build(of_timm.Config(**given))
    assert "\n" not in str(refused.value)


def test_the_repositories_of_others_are_not_read():
    with pytest.raises(ValueError, match="model"):
        of_timm.Config(model="hf_hub:somebody/something")


@pytest.mark.parametrize(("extractor", "name"), [(of_timm, "timm"), (of_transformers, "transformers")])
def test_a_library_that_is_not_installed_names_the_command(monkeypatch, extractor, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{name} cannot be used: .*; type: pip install 'metalearn-cli\[{name}\]'"):
        extractor.build(extractor.Config())


FACTS = {
    "size": {"shortest_edge": 20}, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3,
    "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2],
}  # fmt: skip


class Vision(nn.Module):
    """A model as transformers has them: patches, and what it makes of them for a whole picture."""

    def __init__(self, projects: bool = False) -> None:
        super().__init__()
        self.conv, self.config = nn.Conv2d(3, 4, 4, stride=4), SimpleNamespace(image_size=SIDE)
        if projects:
            self.get_image_features = lambda pixel_values: self(pixel_values).pooler_output * 2

    def forward(self, pixel_values):
        patches = self.conv(pixel_values).flatten(2).mT
        return SimpleNamespace(last_hidden_state=patches, pooler_output=patches.amax(1))


@pytest.fixture
def hub(monkeypatch):
    """transformers with two models, of which one projects its features as CLIP does."""
    library = ModuleType("transformers")

    def model(name, use_safetensors):
        assert use_safetensors
        if name not in ("plain", "projects"):
            raise OSError(f"{name} is no folder,\nand no name on the hub")
        torch.manual_seed(0)
        return Vision(name == "projects")

    library.AutoModel = SimpleNamespace(from_pretrained=model)
    library.image_processing_base = SimpleNamespace(
        ImageProcessingMixin=SimpleNamespace(get_image_processor_dict=lambda _name: (FACTS, {}))
    )
    monkeypatch.setitem(sys.modules, "transformers", library)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"model": "plain"}, lambda patches: patches.amax(1)),
        ({"model": "plain", "pool": "first"}, lambda patches: patches[:, 0]),
        ({"model": "plain", "pool": "mean"}, lambda patches: patches.mean(1)),
        ({"model": "projects"}, lambda patches: 2 * patches.amax(1)),
    ],
)
def test_a_model_of_transformers_gives_a_row_of_features_for_each_picture(hub, keys, expected):
    found, inputs = of_transformers.build(of_transformers.Config(**keys)), torch.rand(2, 3, SIDE, SIDE)
    patches = found.module.model.conv(inputs).flatten(2).mT
    assert torch.equal(found.module(inputs), expected(patches))
    seen = found.preprocessing
    assert (found.features, seen.height, seen.resize, seen.mean) == (4, SIDE, "bicubic", (0.4, 0.5, 0.6))


def test_what_a_model_gives_for_a_picture_is_part_of_its_identity(hub):
    configs = [of_transformers.Config(model="plain", pool=pool) for pool in ("pooled", "mean")]
    pooled, mean = map(of_transformers.build, configs)
    assert pooled.identity != mean.identity


def test_a_model_that_is_not_there_is_one_line_with_the_command(hub):
    with pytest.raises(ConfigError, match=r"model: nowhere: .*type, where there is a network: hf download") as refused:
        of_transformers.build(of_transformers.Config(model="nowhere"))
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed: pip install transformers")
def test_the_real_library_reads_a_tiny_model_from_a_local_folder(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=SIDE, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(FACTS))
    found = of_transformers.build(of_transformers.Config(model=str(tmp_path), pool="mean"))
    assert (found.features, found.preprocessing.height) == (8, SIDE)


@pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None,
    reason="needs timm, and a torchvision for this torch",
)
def test_the_real_timm_reads_weights_from_a_file(tmp_path):
    import timm

    network = timm.create_model("resnet10t", pretrained=False)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found = of_timm.build(of_timm.Config(model="resnet10t", weights=str(tmp_path / "weights.safetensors")))
    assert found.features == network.num_features
