"""Differentiable augmentation for GANs (DiffAugment, Zhao et al., arXiv 2006.10738).

Real and generated images go through the same random changes before the discriminator, and the
generator's gradient passes back through them. The three policies are the paper's (its section 4):
color (brightness, saturation, contrast), translation (by up to an eighth of the edge, zeros move
in) and cutout (a square of half the edge set to zero). Each image draws its own.

Shapes: (B, 3, H, W), values in -1..1; results may leave that range, as in the paper's code. Nothing
here waits for the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nestlib.choices import check_choice

Policy = Callable[[Tensor, torch.Generator], Tensor]

TRANSLATION = 1 / 8  # of the edge, at most, each way
CUTOUT = 1 / 2  # of the edge


def parse_policy(text: str) -> list[str]:
    """ "color,cutout" -> ["color", "cutout"]; "" -> [].

    Raises:
        ValueError: a policy that there is not (the message lists those there are), or one twice.
    """
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        check_choice("augmentation", name, POLICIES, "(the field diff_augment, joined by commas)")
    if len(set(names)) < len(names):
        raise ValueError(f"diff_augment {text[:100]!r} names a policy twice; name each once")
    return names


def diff_augment(images: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Change each image at random, in the order that `policy` names.

    The draws depend on `generator` and the images' shape alone: equal generators give real and
    generated images of one shape the same changes.

    Raises:
        ValueError: an unknown policy.
    """
    for name in parse_policy(policy):
        images = POLICIES[name](images, generator)
    return images


def change_colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness by -0.5..0.5, saturation times 0..2, contrast times 0.5..1.5."""
    brightness, saturation, contrast = (
        _uniform(images, generator)[:, None, None, None] for _ in range(3)
    )
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def translate(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by whole pixels; what moves in is zero, the middle of -1..1."""
    B, C, H, W = images.shape
    for axis, edge in ((2, H), (3, W)):
        most = int(edge * TRANSLATION + 0.5)
        shift = (_uniform(images, generator) * (2 * most + 1)).floor().long() - most
        source = torch.arange(edge, device=images.device) - shift[:, None]  # (B, edge)
        inside = (source >= 0) & (source < edge)
        shape = (B, 1, edge, 1) if axis == 2 else (B, 1, 1, edge)
        index = source.clamp(0, edge - 1).view(shape).expand(B, C, H, W)
        images = images.gather(axis, index) * inside.view(shape)
    return images


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """Set a square to zero; its middle is anywhere, so it may lie partly outside."""
    H, W = images.shape[2:]
    inside = []
    for edge in (H, W):
        width = int(edge * CUTOUT + 0.5)
        # The first pixel covered, from half a square before the plane's first to its last.
        start = (_uniform(images, generator) * (edge + 1 - width % 2)).floor() - width // 2
        place = torch.arange(edge, device=images.device)
        inside.append((place >= start[:, None]) & (place < start[:, None] + width))  # (B, edge)
    return images * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) in 0..1, in float32 whatever the images are, so that all precisions draw alike."""
    return torch.rand(len(images), generator=generator, device=images.device)


POLICIES: dict[str, Policy] = {
    "color": change_colour, "translation": translate, "cutout": cut_out,
}  # fmt: skip
