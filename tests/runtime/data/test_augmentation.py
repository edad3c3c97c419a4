import math
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from metalearn_cli.runtime.data.augmentation import augmented, chances_for, grey, resized_to

KINDS = ("crop", "flip", "affine", "jitter")
COSINE, SINE = math.cos(math.radians(15)), math.sin(math.radians(15))


def pictures(number=6, channels=3, size=16) -> torch.Tensor:
    return torch.rand(number, channels, size, size, generator=torch.Generator().manual_seed(0))


def chances(number=6, **given) -> torch.Tensor:
    """Numbers that leave a picture alone, except for those given by place."""
    found = torch.full((number, chances_for(KINDS)), 0.5)
    found[:, 2] = 0.9
    for name, value in given.items():
        found[:, int(name[1:])] = value
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_the_middle_of_all_chances_changes_nothing(channels):
    found = augmented(pictures(channels=channels), chances(), KINDS)
    assert torch.allclose(found, pictures(channels=channels), atol=1e-5)


def test_without_kinds_nothing_changes():
    assert torch.equal(augmented(pictures(), torch.rand(6, chances_for(())), ()), pictures())


def test_flip_mirrors_left_to_right():
    assert torch.equal(augmented(pictures(), chances(_2=0.1), {"flip"}), pictures().flip(-1))


@pytest.mark.parametrize(("chance", "shift"), [(0.0, -2), (0.3, -1), (0.5, 0), (0.999, 2)])
def test_crop_moves_by_up_to_an_eighth_and_repeats_the_edge(chance, shift):
    found = augmented(pictures(), chances(_0=chance), {"crop"})
    rows = (torch.arange(16) + shift).clamp(0, 15)
    assert torch.equal(found, pictures()[:, :, rows])


def test_each_picture_has_a_change_of_its_own():
    mixed = chances()
    mixed[::2, 2] = 0.1
    found = augmented(pictures(), mixed, {"flip"})
    assert torch.equal(found[::2], pictures()[::2].flip(-1))
    assert torch.equal(found[1::2], pictures()[1::2])


@pytest.mark.parametrize(
    ("place", "matrix"),
    [
        (6, [[COSINE, -SINE], [SINE, COSINE]]),
        (7, [[1.15, 0], [0, 1]]),
        (8, [[1, 0], [0, 1.15]]),
        (9, [[1, 0.2], [0, 1]]),
    ],
    ids=["turn", "width", "height", "slant"],
)
def test_affine_takes_each_pixel_from_its_place_about_the_middle(place, matrix):
    """On a slope, bilinear sampling is exact; the picture is wide, so that an angle is not one of a square."""
    height, width = 20, 32
    across, down = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    there = np.stack([across, down], -1) @ np.array(matrix).T
    slope = 0.5 + 0.011 * across + 0.017 * down
    expected = 0.5 + 0.011 * there[..., 0] + 0.017 * there[..., 1]
    changed = chances(1, **{f"_{place}": 1.0})
    found = augmented(torch.from_numpy(slope).float()[None, None], changed, {"affine"})[0, 0].numpy()
    inside = (abs(there[..., 0]) <= (width - 1) / 2) & (abs(there[..., 1]) <= (height - 1) / 2)
    assert inside.mean() > 0.7
    assert np.allclose(found[inside], expected[inside], atol=1e-5)
    assert slope.min() - 1e-5 <= found.min() <= found.max() <= slope.max() + 1e-5  # filled by the edge


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_draws_its_numbers_where_no_other_kind_draws(kind):
    """Otherwise a picture moved to the left would always be a bright one."""
    read = {one: _read(one) for one in KINDS}
    assert read[kind]
    assert all(not one & other for one, other in combinations(read.values(), 2))
    assert max(read[kind]) < chances_for([kind])


def _read(kind: str) -> set[int]:
    plain = augmented(pictures(), chances(), {kind})
    places = range(chances_for(KINDS))
    return {
        place
        for place in places
        if not torch.equal(augmented(pictures(), chances(**{f"_{place}": 0.1}), {kind}), plain)
    }


def test_brightness_multiplies():
    found = augmented(pictures() / 2, chances(_3=1.0), {"jitter"})
    assert torch.allclose(found, pictures() / 2 * 1.4, atol=1e-6)


def test_contrast_leaves_the_mean_brightness():
    soft = 0.4 + 0.2 * pictures()
    found = augmented(soft, chances(_4=0.0), {"jitter"})
    assert torch.allclose(grey(found).mean((1, 2, 3)), grey(soft).mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(grey(found).std((1, 2, 3)), 0.6 * grey(soft).std((1, 2, 3)), atol=1e-6)


def test_saturation_leaves_the_brightness_of_every_pixel():
    soft = 0.4 + 0.2 * pictures()
    found = augmented(soft, chances(_5=0.0), {"jitter"})
    assert torch.allclose(grey(found), grey(soft), atol=1e-6)
    assert not torch.allclose(found, soft, atol=0.01)


def test_values_stay_between_0_and_1():
    found = augmented(pictures(200), torch.rand(200, chances_for(KINDS)), KINDS)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16), (3, 8, 8), (1, 20, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_fitted_to_a_shape(channels, shape):
    assert resized_to(pictures(channels=channels), shape).shape == (6, *shape)


def test_what_fits_already_is_left_alone():
    assert resized_to(pictures(), (3, 16, 16)) is not None
    assert torch.equal(resized_to(pictures(), (3, 16, 16)), pictures())


def test_grey_is_pillows_grey():
    pixels = (pictures(1)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    ours = grey(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255.0)[0, 0] * 255
    assert np.abs(ours.numpy() - np.asarray(Image.fromarray(pixels).convert("L"))).max() <= 1


def test_resizing_down_is_pillows_bilinear():
    pixels = (pictures(1, 1, 30)[0, 0] * 255).round().byte().numpy()
    ours = resized_to(torch.from_numpy(pixels)[None, None] / 255.0, (1, 12, 12))[0, 0] * 255
    theirs = np.asarray(Image.fromarray(pixels).resize((12, 12), Image.Resampling.BILINEAR))
    assert np.abs(ours.numpy() - theirs).max() <= 1
