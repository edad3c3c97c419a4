"""One's own pictures take the way that `prepare` took, and as many classes as the learner can tell apart."""

import numpy as np
import pytest
import torch
from PIL import Image

from metalearn_cli import load
from metalearn_cli.core.objectives import classification
from metalearn_cli.datasets import folder
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.pixels import normalised
from metalearn_cli.runtime.use.finetuning import queries_in, support_in
from metalearn_cli.storage.prepared.dataset import open_prepared
from metalearn_cli.storage.prepared.preparation import prepare
from tests import untrained

ANY_NUMBER = {"nearest", "protonet", "proto_maml", "unicorn_maml", "r2d2", "baseline", "baseline_plus_plus"}
ANY_NUMBER |= {"prototypes", "metaqda"}


def odd_pictures(path):
    """Lying on its side, transparent, grey with 16 bits, with a palette, and a line one pixel high."""
    generator = np.random.default_rng([*path.name.encode()])
    pixels = generator.integers(0, 256, (30, 50, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    path.mkdir(parents=True)
    Image.fromarray(pixels[..., :3]).save(path / "turned.jpg", exif=turned)
    Image.fromarray(pixels).save(path / "transparent.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) << 8).save(path / "sixteen.png")
    Image.fromarray(pixels[..., :3]).quantize(7).save(path / "palette.png")
    Image.fromarray(pixels[:1, :, :3]).save(path / "line.bmp")


@pytest.mark.parametrize("channels", [1, 3])
def test_support_and_queries_become_exactly_what_prepare_stored(tmp_path, channels):
    for name in ("ant", "bee", "cow"):
        odd_pictures(tmp_path / "mine" / name)
    archive = folder.build(folder.Config(image_size=16, channels=channels))
    _, store = prepare("folder", archive, tmp_path / "data", tmp_path / "mine", False, lambda *_: None)
    prepared = open_prepared(store)
    seen = prepared.manifest.preprocessing_for("classes", "dataset")
    interface = Interface((channels, 16, 16), 2, classification, seen)
    stored = normalised(torch.from_numpy(np.array(prepared.images)), seen.mean, seen.std)
    support = support_in(tmp_path / "mine", interface)
    assert len(stored) == 15
    assert torch.equal(support.inputs, stored)
    queries = queries_in([tmp_path / "mine/ant", tmp_path / "mine/bee/turned.jpg"], support.classes, interface)
    assert torch.equal(queries.inputs[:5], stored[:5])
    assert torch.equal(queries.inputs[5], stored[support.files.index(f"{tmp_path / 'mine'}/bee/turned.jpg")])


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [*((name, {}) for name in names_in("algorithms")), ("maml", {"zero_head": True}), ("anil", {"zero_head": True})],
)
def test_fewer_or_more_classes_are_learned_or_the_message_says_what_to_do(algorithm, settings, data_dir, tmp_path):
    task = {"ways": 3, "shots": 1, "queries": 2}
    own = {"name": algorithm, **settings}
    learner = load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir, task=task, algorithm=own))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    for count in (2, 5):
        labels = [f"class {number}" for number in range(count)]
        if algorithm in ANY_NUMBER or settings:
            assert learner.adapt(pictures[:count], labels).predict_proba(pictures).shape == (5, count)
            continue
        with pytest.raises(ConfigError) as refused:
            learner.adapt(pictures[:count], labels)
        assert f"has {count} classes, the checkpoint was trained for 3: give 3 classes" in str(refused.value)
        assert f"--set task.ways={count}" in str(refused.value)
        assert "protonet" in str(refused.value)
