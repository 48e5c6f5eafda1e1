"""The discriminator: its sizes and its blur against plain definitions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from nestlib.models import Discriminator
from nestlib.models.discriminator import Downsample


def narrow():
    torch.manual_seed(0)
    return Discriminator(16, channel_base=128, max_channels=16)


@pytest.mark.parametrize(("img_size", "widths"), [(64, (256, 512, 512, 512, 512)),
                                                  (32, (512, 512, 512, 512))])  # fmt: skip
def test_parameters(img_size, widths):
    """StyleGAN2's widths (16384 / edge, at most 512), counted layer by layer."""
    with torch.device("meta"):
        model = Discriminator(img_size)
    total = 28 * widths[0]
    for a, b in pairwise(widths):
        total += (9 * a * a + a) + (9 * a * b + b) + a * b
    total += (9 * 512 * 512 + 512) + (16 * 512 * 512 + 512) + 513
    assert sum(p.numel() for p in model.parameters()) == total


def test_every_parameter_gets_gradient_twice():
    """From the score, and from R1, which differentiates the score's gradient."""
    model = narrow()
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    scores = model(images)
    assert scores.shape == (4,)
    (grad,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    assert all((row.abs().sum() > 0) for row in grad)
    (scores.square().sum() + grad.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_images_are_scored_apart():
    images = torch.randn(4, 3, 16, 16)
    changed = images.clone()
    changed[3] = 0
    model = narrow()
    with torch.no_grad():
        assert torch.equal(model(images)[:3], model(changed)[:3])


def test_blur_is_scipys():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    out = Downsample().double()(x)
    for image, got in zip(x.reshape(-1, 8, 8).numpy(), out.reshape(-1, 4, 4).numpy()):
        # Windows begin one pixel outside the plane: scipy's begin two before their place, moved
        # by origin to one.
        expected = correlate(image, kernel, mode="constant", origin=-1)[::2, ::2]
        np.testing.assert_allclose(got, expected, atol=1e-12)
    flat = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Downsample()(flat)[:, :, 1:3, 1:3], torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 48}, "img_size 48 does not halve down to 4; nearest: 64"),
        ({"img_size": 4}, "img_size 4 does not halve down to 4; nearest: 8"),
        ({"img_size": 64, "channel_base": 32}, "channel_base 32 must be at least img_size 64"),
    ],
)
def test_bad_options_say_what_would_be_valid(options, message):
    with pytest.raises(ValueError, match=message):
        Discriminator(**options)
