"""Differentiable augmentation: each policy against a plain loop, gradients, equal draws."""

import pytest
import torch

from nestlib.data.diff_augment import POLICIES, diff_augment, parse_policy

ALL = "color,translation,cutout"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", [*POLICIES, ALL])
def test_equal_generators_change_real_and_generated_images_alike(policy):
    """The change is affine in the image: what it does to one image it does to the other."""
    real, fake = torch.rand(6, 3, 16, 16) - 0.5, torch.rand(6, 3, 16, 16) - 0.5
    out = [diff_augment(x, policy, seeded()) for x in (real, fake, (real + fake) / 2)]
    torch.testing.assert_close((out[0] + out[1]) / 2, out[2])
    assert out[0].shape == real.shape and not torch.equal(out[0], real)
    assert not torch.allclose(diff_augment(real, policy, seeded(1)), out[0])


@pytest.mark.parametrize("policy", [*POLICIES, ALL])
def test_gradients_are_those_of_finite_differences(policy):
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: diff_augment(x, policy, seeded()), images)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros():
    images = torch.rand(64, 3, 16, 16) + 0.1
    out = diff_augment(images, "translation", seeded())
    seen = set()
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for image, moved in zip(padded, out):
        found = [
            (y, x) for y in range(5) for x in range(5)
            if torch.equal(image[:, y : y + 16, x : x + 16], moved)
        ]  # fmt: skip
        assert len(found) == 1
        seen.add(found[0])
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_cutout_is_one_square_of_half_the_edge():
    out = diff_augment(torch.ones(200, 3, 16, 16), "cutout", seeded())
    areas = set()
    for image in out:
        gone = image[0] == 0
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        rows, columns = gone.any(1).sum().item(), gone.any(0).sum().item()
        assert gone.sum() == rows * columns  # a rectangle, cut by the plane's edge at most
        assert 4 <= rows <= 8 and 4 <= columns <= 8
        areas.add((rows, columns))
    assert (8, 8) in areas and (4, 8) in areas


def test_colour_changes_lie_in_the_papers_ranges():
    grey = torch.zeros(500, 3, 4, 4)
    brightness = diff_augment(grey, "color", seeded())[:, 0, 0, 0]
    assert -0.5 <= brightness.min() < -0.45 and 0.45 < brightness.max() <= 0.5
    images = torch.zeros(500, 3, 2, 2)
    images[:, 0], images[:, 2] = 1, -1  # red at full saturation, grey level 0 everywhere
    out = diff_augment(images, "color", seeded())
    spread = (out[:, 0] - out[:, 2]).mean((1, 2)) / 2  # saturation times contrast
    assert 0 <= spread.min() < 0.1 and 2 < spread.max() <= 3


def test_policies_by_name():
    assert parse_policy("") == [] and parse_policy("cutout, color") == ["cutout", "color"]
    image = torch.rand(1, 3, 4, 4)
    assert diff_augment(image, "", seeded()) is image
    with pytest.raises(ValueError, match=r"no augmentation 'flip'; .*color, translation.*commas"):
        parse_policy("color,flip")
