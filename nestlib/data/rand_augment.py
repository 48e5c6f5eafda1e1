"""RandAugment and SimCLR's colour jitter for a whole uint8 batch, on the batch's own device.

Each image has its own operation, magnitude and sign, yet nothing loops over images and nothing
waits for the device: an image gets one operation a layer, and an operation is one of three kinds.

  lookup  a 256-entry table for each image and channel: AutoContrast, Equalize, Posterize,
          Solarize, SolarizeAdd, Invert, Brightness, Contrast
  blend   towards a degenerate image: Color, Sharpness
  warp    a map of source pixels: Rotate, ShearX, ShearY, TranslateX, TranslateY

Each is exactly the identity for an image of another kind. So on a GPU a layer runs all three on all
images, and on a CPU, where it costs nothing to know what was drawn, on those that drew the kind.

Source: the published NesT code, augment/rand_augment.py, augment_ops.py and color_util.py. Its
TensorFlow operations imitate PIL; where the two round differently, by one grey level (grey value,
smoothing, AutoContrast), we take the exactly rounded value. Pixel values are 0 to 255 throughout.
"""

import math

import torch
from torch import Tensor

from nestlib.data.augmentation import MAX_MAGNITUDE, Augmentation

# Argument of each operation, for a level = magnitude / 10 in [0, 1]; +- is a fair coin:
#
# AutoContrast    none; stretches each channel to 0..255
# Equalize        none; flattens each channel's histogram
# Rotate          +-30 level degrees about the centre
# Posterize       keeps the int(4 level) highest bits
# Solarize        inverts values >= min(int(256 level), 255)
# Color           1.8 level + 0.1 times the difference from the grey image (1: unchanged)
# Contrast        1.8 level + 0.1 times the difference from the mean grey value
# Brightness      1.8 level + 0.1 times the value
# Sharpness       1.8 level + 0.1 times the difference from the image smoothed by
#                 [1 1 1; 1 5 1; 1 1 1] / 13, whose border stays as it is
# ShearX, ShearY  +-0.3 level, about pixel (0, 0) and not the centre
# TranslateX, Y   +-level times 10, 30, 40, 100 pixels at sides of 32, 96, 128, 224,
#                 int(0.3 side) at others
# Identity        none
# SolarizeAdd     adds int(110 level) to values < 128
# Invert          none; 255 - value
#
# At the recipe's magnitude of 9 Solarize inverts only values above about 230, and the four
# enhancing operations always strengthen (factor about 1.7): none draws a sign, unlike timm's
# "inc" set. Warps are nearest-neighbour.
OPS = (
    "AutoContrast", "Equalize", "Rotate", "Posterize", "Solarize", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Identity",
    "SolarizeAdd", "Invert",
)  # fmt: skip
WARP_FILL = 128  # grey of pixels that a warp draws from outside the image
_MAX_TRANSLATION = {32: 10, 96: 30, 128: 40, 224: 100}  # pixels, by image side


def rand_augment(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:  # fmt: skip
    """Apply the recipe's layers of RandAugment: uint8 (B, 3, H, W) to uint8 (B, 3, H, W).

    Source: published code, RandAugment.__call__ without its cutout, which the recipes switch off.
    """
    for _ in range(augmentation.rand_augment_ops):
        images = apply_ops(images, *draw_ops(len(images), augmentation, generator))
    return images


def draw_ops(
    batch_size: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's draw for each image: `op` into OPS, `level` in [0, 1] and `sign`, all (B,).

    `op` is uniform over OPS with probability rand_augment_prob, else Identity; `level` is normal
    about rand_augment_magnitude (of 10), clipped to 0..10, over 10; `sign` is -1 or 1. Source:
    published code, RandAugment._get_level and _apply_one_layer.
    """
    shape, place = (batch_size,), {"generator": generator, "device": generator.device}
    op = torch.randint(len(OPS), shape, **place)
    skipped = torch.rand(shape, **place) >= augmentation.rand_augment_prob
    op = op.masked_fill(skipped, OPS.index("Identity"))
    deviation = augmentation.rand_augment_magnitude_std * torch.randn(shape, **place)
    magnitude = augmentation.rand_augment_magnitude + deviation
    level = magnitude.clamp(0, MAX_MAGNITUDE) / MAX_MAGNITUDE
    sign = 2.0 * torch.randint(2, shape, **place) - 1
    return op, level, sign


def apply_ops(images: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Apply to each image its own operation: uint8 (B, 3, H, W) to uint8 (B, 3, H, W).

    `op` (B,) indexes OPS; `level` (B,) in [0, 1] and `sign` (B,) give its argument, see OPS.
    """
    for kind, names in KINDS.items():
        if not _sees_draws(images):
            images = kind(images, op, level, sign)
            continue
        drew = torch.isin(op, torch.tensor([OPS.index(name) for name in names]))
        chosen = drew.nonzero().flatten()
        if len(chosen):
            changed = kind(images[chosen], op[chosen], level[chosen], sign[chosen])
            images = images.index_copy(0, chosen, changed)
    return images


def _sees_draws(images: Tensor) -> bool:
    """Whether the host can look at what was drawn without waiting for a device."""
    return images.device.type == "cpu"


def gather_pixels(images: Tensor, rows: Tensor, cols: Tensor, *, fill: int) -> Tensor:
    """Pixel (y, x) of output b is pixel (rows[b, y, x], cols[b, y, x]) of image b, outside `fill`.

    `images` (B, C, H, W); `rows` and `cols` int64, broadcasting to (B, H', W'), the output's size.
    """
    height, width = images.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)  # (B, H', W')
    index = rows.clamp(0, height - 1) * width + cols.clamp(0, width - 1)
    index = index[:, None].flatten(2).expand(-1, images.shape[1], -1)  # (B, C, H'W')
    pixels = images.flatten(2).gather(2, index).unflatten(2, inside.shape[1:])
    return pixels.masked_fill(~inside[:, None], fill)


def _drew(op: Tensor, name: str) -> Tensor:
    """Which images drew the operation, (B, 1, 1)."""
    return (op == OPS.index(name))[:, None, None]


def _grey(images: Tensor) -> Tensor:
    """(B, H, W) int32: ITU-R 601 luma in 16-bit fixed point, as PIL's convert("L")."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _enhance_factor(level: Tensor) -> Tensor:
    return 1.8 * level + 0.1


def _lookup(images: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    pixels = images.flatten(2).long()  # (B, 3, HW), the index type that gather asks for
    value = torch.arange(256, device=images.device, dtype=torch.int32)
    level = level[:, None, None]
    shift = 8 - (4 * level).int()
    threshold = (256 * level).int().clamp(max=255)
    factor = _enhance_factor(level)
    mean = _grey(images).float().mean((1, 2)).add(0.5).floor()[:, None, None]
    candidates = {
        "AutoContrast": _autocontrast_table(pixels, value),
        "Equalize": _equalize_table(pixels, value),
        "Posterize": (value >> shift) << shift,
        "Solarize": torch.where(value < threshold, value, 255 - value),
        "Contrast": mean + factor * (value - mean),
        "Brightness": factor * value,
        "SolarizeAdd": torch.where(value < 128, value + (110 * level).int(), value),
        "Invert": 255 - value,
    }
    table = value.float().expand(*images.shape[:2], 256)
    for name, candidate in candidates.items():
        table = torch.where(_drew(op, name), candidate.float(), table)
    table = table.clamp(0, 255).to(torch.uint8)  # truncated, as PIL and TensorFlow do
    return table.gather(2, pixels).view_as(images)


def _autocontrast_table(pixels: Tensor, value: Tensor) -> Tensor:
    low = pixels.amin(2, keepdim=True)
    span = pixels.amax(2, keepdim=True) - low
    stretched = (255 * (value - low)).div(span.clamp(min=1), rounding_mode="floor")
    return torch.where(span > 0, stretched, value)  # (B, 3, 256)


def _equalize_table(pixels: Tensor, value: Tensor) -> Tensor:
    histogram = pixels.new_zeros(*pixels.shape[:2], 256)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    brightest = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - brightest).div(255, rounding_mode="floor")
    below = histogram.cumsum(2) - histogram
    flattened = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor")
    return torch.where(step > 0, flattened, value)  # (B, 3, 256)


def _blend(images: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    original = images.float()
    grey = _grey(images).float()[:, None]
    is_color, is_sharpness = (_drew(op, name)[..., None] for name in ("Color", "Sharpness"))
    degenerate = torch.where(is_color, grey, _smooth(original))
    factor = _enhance_factor(level)[:, None, None, None]
    blended = degenerate + factor * (original - degenerate)
    blended = blended.clamp(0, 255).to(torch.uint8)
    return torch.where(is_color | is_sharpness, blended, images)


def _smooth(images: Tensor) -> Tensor:
    """PIL's SMOOTH filter, by shifted sums: a convolution may run in TF32 and lose exactness."""
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = images.clone()
    inner = smooth[..., 1:-1, 1:-1]
    inner.copy_(((box + 4 * inner) / 13 + 0.5).floor())
    return smooth


def _warp(images: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Pixel centres are whole numbers, so that unmoved images map exactly to themselves."""
    height, width = images.shape[-2:]
    amount = (sign * level)[:, None, None]

    def argument(name: str, scale: float) -> Tensor:
        return scale * amount.masked_fill(~_drew(op, name), 0)

    x = torch.arange(width, device=images.device, dtype=torch.float32)
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    angle = argument("Rotate", math.radians(30))
    x_mid, y_mid = (width - 1) / 2, (height - 1) / 2
    x_turned = torch.cos(angle) * (x - x_mid) - torch.sin(angle) * (y - y_mid) + x_mid
    y_turned = torch.sin(angle) * (x - x_mid) + torch.cos(angle) * (y - y_mid) + y_mid
    x_max, y_max = (_MAX_TRANSLATION.get(side, int(0.3 * side)) for side in (width, height))
    x_source = x_turned + argument("ShearX", 0.3) * y + argument("TranslateX", x_max)
    y_source = y_turned + argument("ShearY", 0.3) * x + argument("TranslateY", y_max)
    rows, cols = ((source + 0.5).floor().long() for source in (y_source, x_source))
    return gather_pixels(images, rows, cols, fill=WARP_FILL)


KINDS = {
    _lookup: (
        "AutoContrast", "Equalize", "Posterize", "Solarize", "SolarizeAdd", "Invert", "Brightness",
        "Contrast",
    ),
    _blend: ("Color", "Sharpness"),
    _warp: ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"),
}  # fmt: skip


def color_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """SimCLR's colour distortion: uint8 (B, 3, H, W) to uint8 (B, 3, H, W).

    With probability 0.8 an image's brightness, contrast and saturation are scaled by factors
    uniform in 1 +- 0.8 `strength` and its hue is turned by up to 0.2 `strength` of a full turn,
    in random order; then, with probability 0.2, it turns grey. Source: published code,
    color_util.random_color_jitter, "simclrv2".
    """
    place = {"generator": generator, "device": generator.device}
    batch_size = len(images)
    delta = strength * (2 * torch.rand(batch_size, 4, **place) - 1)
    order = torch.rand(batch_size, 4, **place).argsort(1)
    is_jittered, is_grey = torch.rand(2, batch_size, 1, 1, 1, **place)
    jittered = images.float()
    for slot in order.unbind(1):
        chosen = delta.gather(1, slot[:, None])[:, :, None, None]
        jittered = _jitter_once(jittered, slot[:, None, None, None], chosen).clamp(0, 255)
    images = torch.where(is_jittered < 0.8, jittered.to(torch.uint8), images)
    return torch.where(is_grey < 0.2, _grey(images).to(torch.uint8)[:, None], images)


def _jitter_once(images: Tensor, kind: Tensor, delta: Tensor) -> Tensor:
    """`kind` (B, 1, 1, 1) of change: 0 brightness, 1 contrast, 2 saturation, 3 hue."""
    top, bottom = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    factor = 1 + 0.8 * delta
    # In HSV terms saturation is (top - bottom) / top and cannot exceed 1.
    saturation = torch.minimum(factor, top / (top - bottom).clamp(min=1e-6))
    mean = images.mean((2, 3), keepdim=True)  # for each channel
    anchor = torch.where(kind == 2, top, mean.masked_fill(kind == 0, 0))
    scaled = anchor + torch.where(kind == 2, saturation, factor) * (images - anchor)
    return torch.where(kind == 3, _turn_hue(images, top, bottom, 0.2 * delta), scaled)


def _turn_hue(images: Tensor, top: Tensor, bottom: Tensor, turn: Tensor) -> Tensor:
    """Turn the HSV hue by `turn` of a full turn; value and chroma stay."""
    red, green, blue = images.split(1, 1)
    chroma = top - bottom
    safe = chroma.clamp(min=1e-6)  # hue is free where chroma is 0
    sextant = torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sextant = torch.where(top == red, (green - blue) / safe, sextant) + 6 * turn
    # HSV to RGB in closed form: k = (5, 3, 1) + hue in sextants for red, green, blue.
    offsets = torch.arange(5, 0, -2, device=images.device)[:, None, None]
    k = torch.remainder(offsets + sextant, 6)  # (B, 3, H, W)
    return top - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
