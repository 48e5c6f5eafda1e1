"""Augment a training batch on its own device, with every random draw from one generator.

The order is the published NesT code's (libml/preprocess.py, augment/augment_utils.py): pad and
crop, flip, RandAugment, colour jitter, normalise, random erasing, MixUp or CutMix. Each image draws
its own crop, flip, operations and erased box; whether a batch gets MixUp or CutMix is one draw.
Nothing depends on a value read back from the device, so that a GPU is never waited for.

B images, H x W pixels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nestlib.data.augmentation import Augmentation
from nestlib.data.containers import check_batch
from nestlib.data.rand_augment import color_jitter, gather_pixels, rand_augment
from nestlib.processor import one_thread

# Random erasing's box, as drawn before clipping (published code, random_erasing): its share of
# the image's area is uniform, its height over width log-uniform.
ERASE_AREA = (0.02, 1 / 3)
ERASE_ASPECT = (0.3, 1 / 0.3)


@one_thread()
def augment(
    images: Tensor, labels: Tensor, augmentation: Augmentation, *, num_classes: int,
    mean: Sequence[float], std: Sequence[float], generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Augment a batch: uint8 (B, 3, H, W), int64 (B,) to float32 images and soft targets.

    Returns the normalised images (B, 3, H, W) and targets (B, num_classes) that sum to 1. `mean`
    and `std` are per channel, for pixel values in [0, 1]. The generator, on the images' device, is
    the only source of randomness: the same state gives bit-identical results on the same device.
    A CPU does it on one thread: the steps are many and small, and two threads took longer.

    Raises:
        ValueError: the batch has another shape or dtype, or the generator is on another device.
    """
    check_batch(images, labels)
    devices = {place.device.type for place in (images, labels, generator)}
    if len(devices) > 1:
        raise ValueError(
            f"images are on {images.device}, labels on {labels.device}, the generator on "
            f"{generator.device}; all three must be on one device"
        )
    if augmentation.crop_padding or augmentation.flip:
        images = crop_and_flip(images, augmentation.crop_padding, augmentation.flip, generator)
    images = rand_augment(images, augmentation, generator)
    if augmentation.color_jitter:
        images = color_jitter(images, augmentation.color_jitter, generator)
    images = normalize(images, mean, std)
    if augmentation.erase_prob:
        images = erase(images, augmentation.erase_prob, generator)
    off = augmentation.label_smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    targets.scatter_(1, labels[:, None], 1 - augmentation.label_smoothing + off)
    if augmentation.mix_prob and (augmentation.mixup_alpha or augmentation.cutmix_alpha):
        images, targets = mix(images, targets, augmentation, generator)
    return images, targets


@one_thread()
def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (B, 3, H, W) to (pixel / 255 - mean) / std in float32."""
    # Channel by channel with Python numbers: a tensor of constants would have to be copied to the
    # device, and that copy waits for it. In place: fresh memory takes a CPU as long as the rest.
    normal = torch.empty(images.shape, device=images.device)
    for out, channel, m, s in zip(normal.unbind(1), images.unbind(1), mean, std, strict=True):
        out.copy_(channel).div_(255).sub_(m).div_(s)
    return normal


@one_thread()
def crop_and_flip(
    images: Tensor, padding: int, flip_prob: float, generator: torch.Generator
) -> Tensor:
    """Pad by `padding` black pixels on each side, crop back at random, flip left-right at random.

    (B, C, H, W) to the same. Source: published code, train_cifar_preprocess (32 to 36 to 32).
    """
    shape, place = (len(images), 1, 1), {"generator": generator, "device": images.device}
    top, left = torch.randint(-padding, padding + 1, (2, *shape), **place)
    flipped = torch.rand(shape, **place) < flip_prob
    if not padding:  # whole images are picked, no pixels gathered
        index = torch.arange(len(images), device=images.device)
        picked = index + len(images) * flipped.flatten()
        return torch.cat((images, images.flip(-1))).index_select(0, picked)
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None]
    cols = torch.arange(width, device=images.device)
    cols = torch.where(flipped, width - 1 - cols, cols)
    return gather_pixels(images, rows + top, cols + left, fill=0)


def erase(images: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Replace a box in each image, with probability `prob`, by standard normal noise per pixel.

    Normalised float images (B, C, H, W) to the same. The box is centred anywhere and clipped at the
    border, so that it covers less than its drawn area. Source: published code, random_erasing.
    """
    height, width = images.shape[-2:]
    shape, place = (len(images), 1, 1), {"generator": generator, "device": images.device}
    draws = torch.rand(5, *shape, **place)
    area = ERASE_AREA[0] + (ERASE_AREA[1] - ERASE_AREA[0]) * draws[0]
    low, high = (math.log(aspect) for aspect in ERASE_ASPECT)
    aspect = (low + (high - low) * draws[1]).exp()
    half_height = height * (area * aspect).sqrt() / 2
    half_width = width * (area / aspect).sqrt() / 2
    rows = torch.arange(height, device=images.device)[:, None]
    cols = torch.arange(width, device=images.device)
    in_rows = (rows - height * draws[2]).abs() < half_height  # (B, H, 1)
    in_cols = (cols - width * draws[3]).abs() < half_width  # (B, 1, W)
    erased = in_rows & in_cols & (draws[4] < prob)
    noise = torch.randn(images.shape, dtype=images.dtype, **place)
    return torch.where(erased[:, None], noise, images)


def mix(
    images: Tensor, targets: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image and target with a partner's, by MixUp or by CutMix for the whole batch.

    Float images (B, C, H, W) and targets (B, num_classes) to the same. MixUp's partner is a random
    one, CutMix's the image at the mirrored place in the batch. A target's weight is the mean of its
    image's weights over pixels, hence for CutMix the area that is really there. Source: published
    code, batch_mixup and batch_cutmix, which weights CutMix's targets by the area before its sides
    are rounded down to pixels.
    """
    place = {"generator": generator, "device": images.device}
    mixup_alpha, cutmix_alpha = augmentation.mixup_alpha, augmentation.cutmix_alpha
    cutmix_prob = 0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0)
    is_mixed, is_cutmix = torch.rand(2, **place).unbind()
    is_mixed, is_cutmix = is_mixed < augmentation.mix_prob, is_cutmix < cutmix_prob
    # The partner's share, for both kinds: which one it is stays on the device.
    shares = [
        torch.rand(len(images), **place) ** (1 / (alpha or 1.0)) / 2  # (B,), at most one half
        for alpha in (mixup_alpha, cutmix_alpha)
    ]
    box = _cutmix_box(shares[1], images.shape[-2:], generator)
    weights = torch.where(is_cutmix, (~box).float(), 1 - shares[0][:, None, None])
    weights = weights.masked_fill(~is_mixed, 1.0)  # of the image itself, (B, H, W)
    mirrored = torch.arange(len(images) - 1, -1, -1, device=images.device)
    shuffled = torch.rand(len(images), **place).argsort()
    partner = torch.where(is_cutmix, mirrored, shuffled)
    images = torch.lerp(images[partner], images, weights[:, None])
    return images, torch.lerp(targets[partner], targets, weights.mean((1, 2))[:, None])


def _cutmix_box(shares: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Boxes of the image's proportions that cover about `shares` of it: (B, H, W) bool."""
    places = torch.rand(2, *shares.shape, generator=generator, device=shares.device)
    inside = []
    for side, place in zip(size, places.unbind(), strict=True):
        length = (side * shares.sqrt()).floor()
        start = ((side - length + 1) * place).floor()
        pixel = torch.arange(side, device=shares.device)
        inside.append((pixel >= start[:, None]) & (pixel < (start + length)[:, None]))
    rows, cols = inside
    return rows[:, :, None] & cols[:, None, :]
