"""Features beside the pictures: computed once, of the right pictures, and found again whole."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from metalearn_cli.errors import CheckpointError, ConfigError, DataError
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.experiment.registry import module_of
from metalearn_cli.runtime.data import featured
from metalearn_cli.runtime.data.extraction import extracted_features, extractor_for
from metalearn_cli.storage.pictures.conversion import decode
from metalearn_cli.storage.prepared import features as stores
from metalearn_cli.storage.prepared.dataset import open_prepared
from metalearn_cli.storage.prepared.preparation import prepare
from tests.tiny_extractor import features, write_pictures, write_program


def silent(*_moved):
    pass


class Collection:
    """Pictures of one's own, prepared at 16 x 16 from originals of 20 x 20."""

    def __init__(self, path, *more):
        self.source = write_pictures(path / "mine") if not (path / "mine").exists() else path / "mine"
        block = features(path / "look.pt2" if (path / "look.pt2").exists() else write_program(path / "look.pt2"))
        given = [f"dataset.features={block}".replace("'", '"'), "dataset.image_size=16", *more]
        self.settings = dataset_settings("folder", given)
        self.dataset = module_of(self.settings).build(self.settings)
        self.data_dir = path / "data"
        self.folder = self.data_dir / self.dataset.store
        prepare("folder", self.dataset, self.data_dir, self.source, False, silent)

    def stored(self, progress=silent):
        return featured.features_beside(self.settings, self.dataset, open_prepared(self.folder), self.folder, progress)

    def expected(self, rows=None):
        """Features computed in one go, straight from the files or from these pictures."""
        extractor = extractor_for(self.settings.features)
        given = [file.read_bytes() for file in sorted(self.source.glob("*/*.png"))] if rows is None else rows
        pictures = [decode(one, extractor.preprocessing, "") for one in given]
        return extracted_features(np.stack(pictures), extractor)


def test_features_are_those_of_the_originals_in_the_order_of_the_pictures(tmp_path):
    mine = Collection(tmp_path)
    stored = mine.stored()
    assert stored.manifest.read_from == "originals"
    assert torch.allclose(torch.from_numpy(stored.rows.whole().astype(np.float32)), mine.expected(), atol=0.01)


def test_without_the_originals_the_stored_pictures_do_and_it_says_so(tmp_path):
    mine = Collection(tmp_path)
    shutil.move(mine.source, tmp_path / "elsewhere")
    stored = mine.stored()
    assert stored.manifest.read_from == "stored"
    assert "no longer at" in stored.manifest.why
    features_of_stored = open_prepared(mine.folder).images.whole()
    extractor = extractor_for(mine.settings.features)
    expected = extracted_features(
        np.stack([decode(one, extractor.preprocessing, "") for one in features_of_stored]), extractor
    )
    assert torch.allclose(torch.from_numpy(stored.rows.whole().astype(np.float32)), expected, atol=0.01)


def test_originals_that_have_changed_are_not_taken(tmp_path):
    mine = Collection(tmp_path)
    Image.new("RGB", (20, 20), "red").save(mine.source / "kind0/0.png")
    stored = mine.stored()
    assert (stored.manifest.read_from, stored.manifest.why.endswith("have changed since")) == ("stored", True)


def test_a_picture_that_cannot_be_read_is_left_out_of_both(tmp_path):
    write_pictures(tmp_path / "mine")
    (tmp_path / "mine/kind1/3.png").write_bytes((tmp_path / "mine/kind1/3.png").read_bytes()[:60])
    data_dir = tmp_path / "data"
    settings = dataset_settings(
        "folder", [f"dataset.features={features(write_program(tmp_path / 'look.pt2'))}".replace("'", '"')]
    )
    dataset = module_of(settings).build(settings)
    _manifest, folder = prepare("folder", dataset, data_dir, tmp_path / "mine", False, silent, skip_damaged=True)
    stored = featured.features_beside(settings, dataset, open_prepared(folder), folder, silent)
    assert stored.manifest.read_from == "originals"
    assert stored.manifest.count == open_prepared(folder).images.shape[0] == 71


def test_an_interrupted_computation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "PART", 16)
    mine, seen = Collection(tmp_path), list[int]()
    whole = Collection(tmp_path).expected()

    def interrupt(label, done, _total):
        if "features" in label and done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine.stored(interrupt)
    original = featured.views_of
    monkeypatch.setattr(featured, "views_of", lambda pictures, numbers, *rest: seen.extend(numbers) or original(
        pictures, numbers, *rest))  # fmt: skip
    stored = mine.stored()
    assert seen == list(range(32, 72))
    assert torch.allclose(torch.from_numpy(stored.rows.whole().astype(np.float32)), whole, atol=0.01)
    assert [path.name for path in mine.folder.glob(".*unfinished")] == []


def test_they_are_computed_once(tmp_path, monkeypatch):
    mine = Collection(tmp_path)
    first = mine.stored()
    monkeypatch.setattr(featured, "write_features", lambda *_: pytest.fail("they were there"))
    assert mine.stored().manifest == first.manifest


def test_a_single_changed_byte_is_found(tmp_path):
    mine = Collection(tmp_path)
    mine.stored()
    path = next(mine.folder.glob("features-*/features.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not as it was written; remove the folder"):
        mine.stored()
    with pytest.raises(DataError, match="not as it was written"):
        stores.verify_all(mine.folder, silent)


def test_an_edited_manifest_is_found(tmp_path):
    mine = Collection(tmp_path)
    mine.stored()
    path = next(mine.folder.glob("features-*/features.json"))
    path.write_text(path.read_text().replace('"originals"', '"stored"'))
    with pytest.raises(DataError, match="was edited"):
        mine.stored()


def test_views_are_the_picture_and_changed_copies_of_it(tmp_path):
    plain = Collection(tmp_path).stored().rows.whole()
    mine = Collection(tmp_path, "dataset.features.views=3", "dataset.augmentation=[jitter]")
    views = mine.stored().rows.whole().reshape(72, 3, -1)
    assert np.array_equal(views[:, 0], plain)
    assert not np.allclose(views[:, 1], views[:, 2], atol=0.01)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["dataset.augmentation=[flip]", "dataset.features.views=1"], r"found 1 with augmentation \[flip\]"),
        (["dataset.augmentation=[]", "dataset.features.views=2"], r"found 2 with augmentation \[\]"),
    ],
)
def test_augmentation_and_views_go_together(given, said):
    with pytest.raises(ConfigError, match=said):
        dataset_settings("folder", ["dataset.features.name=efficientnet_lite", *given])


def test_an_unknown_extractor_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"features.name: found 'efficientnet' .*did you mean efficientnet_lite"):
        dataset_settings("folder", ["dataset.features.name=efficientnet"])


def test_another_identity_is_refused_by_name(tmp_path):
    from metalearn_cli.runtime.data.view import view_of

    mine = Collection(tmp_path)
    view = view_of(mine.settings, mine.stored(), open_prepared(mine.folder), "classes")
    other = view._replace(identity="0" * 64)
    with pytest.raises(CheckpointError, match="has other weights here"):
        other.extractor()
    with pytest.raises(CheckpointError, match=r"was trained on features of look\.pt2"):
        view.require_same(other, tmp_path / "best.pt")
