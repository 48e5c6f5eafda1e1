"""The discriminator: its sizes, its blur and its standard deviation against plain definitions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from nestlib.models import Discriminator
from nestlib.models.discriminator import Downsample, spread_over_groups


def narrow(**options):
    torch.manual_seed(0)
    return Discriminator(16, channel_base=128, max_channels=16, **options)


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


@pytest.mark.parametrize("options", [{}, {"blur": False}, {"equalized_lr": True},
                                     {"minibatch_std": True}])  # fmt: skip
def test_every_parameter_gets_gradient_twice(options):
    """From the score, and from R1, which differentiates the score's gradient."""
    model = narrow(**options)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    scores = model(images)
    assert scores.shape == (4,)
    (grad,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    assert all((row.abs().sum() > 0) for row in grad)
    (scores.square().sum() + grad.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_images_are_scored_apart_but_for_the_minibatch_deviation():
    images = torch.randn(4, 3, 16, 16)
    changed = images.clone()
    changed[3] = 0
    for minibatch_std in (False, True):
        model = narrow(minibatch_std=minibatch_std)
        with torch.no_grad():
            others_equal = torch.equal(model(images)[:3], model(changed)[:3])
        assert others_equal != minibatch_std


def test_blur_is_scipys():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    out = Downsample(blur=True).double()(x)
    for image, got in zip(x.reshape(-1, 8, 8).numpy(), out.reshape(-1, 4, 4).numpy()):
        # Windows begin one pixel outside the plane: scipy's begin two before their place, moved
        # by origin to one.
        expected = correlate(image, kernel, mode="constant", origin=-1)[::2, ::2]
        np.testing.assert_allclose(got, expected, atol=1e-12)
    flat = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Downsample(blur=True)(flat)[:, :, 1:3, 1:3], torch.ones(1, 2, 2, 2))
    torch.testing.assert_close(
        Downsample(blur=False)(x.float()), torch.nn.functional.avg_pool2d(x.float(), 2)
    )


def test_minibatch_deviation_is_numpys():
    x = torch.randn(8, 3, 2, 2)
    out = spread_over_groups(x)
    assert out.shape == (8, 1, 2, 2)
    for first in range(2):  # groups are every other image: 0, 2, 4, 6 and 1, 3, 5, 7
        members = x[first::2].numpy()
        expected = np.sqrt(members.var(0) + 1e-8).mean()
        np.testing.assert_allclose(out[first::2].numpy(), expected, rtol=1e-5)
    assert spread_over_groups(x[:6]).shape == (6, 1, 2, 2)  # groups of two
    torch.testing.assert_close(spread_over_groups(x[:1]), torch.full((1, 1, 2, 2), 1e-4))


def test_equalised_weights_act_as_if_drawn_by_he():
    """Trained weights have unit variance; those used have 1 / fan-in."""
    torch.manual_seed(0)
    model = Discriminator(8, channel_base=512, max_channels=64, equalized_lr=True)
    conv = model.blocks[0].conv1
    trained = conv.parametrizations.weight.original
    assert trained.std().item() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(conv.weight, trained / (9 * 64) ** 0.5)


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
