"""Encoded bytes to images and pixels, and the squares that models are trained and tested on.

`nest bench loader` measures this against torchvision's own pipeline, and other decoders against
the one that was taken. H x W pixels.
"""

import io
from math import exp, floor, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

try:
    import simplejpeg
except ImportError:  # Pillow gives the same pixels, later
    simplejpeg = None

CROP_AREA = (0.05, 1.0)  # of the image's, uniform
CROP_ASPECT = (3 / 4, 4 / 3)  # width over height, log-uniform

Box = tuple[int, int, int, int]  # left, top, width, height


def decode_image(data: bytes, where: str) -> Image.Image:
    """An RGB image; grey and CMYK ones are converted.

    Raises:
        OSError: bytes that are no image, or break off.
    """
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        # The words of this one name an object in memory.
        reason = "of no known kind" if isinstance(error, UnidentifiedImageError) else error
        raise OSError(
            f"cannot read image {where} ({reason}); fetch the file again, or remove it"
        ) from error


def decode_pixels(data: bytes, where: str) -> Tensor:
    """(3, H, W) uint8, channels last in memory: what `decode_image` gives, sooner.

    Both use libjpeg-turbo with the same settings, so the pixels are equal (of CMYK within one
    level); saved are Pillow's own rows of four bytes a pixel and what copies them. What simplejpeg
    finds any fault with is left to Pillow to judge: one of ImageNet's files is a PNG.

    Raises:
        OSError: bytes that are no image, or break off.
    """
    try:
        pixels = simplejpeg.decode_jpeg(data)
    except (AttributeError, ValueError):  # AttributeError: it is not installed
        pixels = np.array(decode_image(data, where))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def draw_crop(width: int, height: int, rng: np.random.Generator) -> Box | None:
    """A random part of an image, as the published NesT code trains (libml/preprocess.py,
    decode_and_random_resized_crop); None where ten draws do not fit, as in very narrow images.

    torchvision's RandomResizedCrop(scale=CROP_AREA) draws alike.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*CROP_AREA)
        aspect = exp(rng.uniform(*map(log, CROP_ASPECT)))
        w, h = max(1, round(sqrt(area * aspect))), max(1, round(sqrt(area / aspect)))
        if w <= width and h <= height:
            left = int(rng.integers(width - w, endpoint=True))
            return left, int(rng.integers(height - h, endpoint=True)), w, h
    return None


def random_crop(pixels: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """A random part of (3, H, W) uint8, resized to (3, size, size).

    Cut out first, then resized, as the published code and torchvision's resized_crop do it. The
    bilinear filter averages where it shrinks, as Pillow's does and within one level of it; the
    published code's, TensorFlow's, does not.
    """
    box = draw_crop(pixels.shape[2], pixels.shape[1], rng)
    if box is None:
        return centre_crop(Image.fromarray(pixels.permute(1, 2, 0).numpy()), size)
    left, top, width, height = box
    part = pixels[None, :, top : top + height, left : left + width]
    # uint8 with the channels last in memory: torch's vectorised path
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


def centre_crop(
    image: Image.Image, size: int, crop_pct: float = 224 / 256, interpolation: str = "bilinear"
) -> Tensor:
    """Resize the short side to size / crop_pct, then cut out the middle: (3, size, size) uint8.

    The defaults are the test protocol of ImageNet. Equal to timm's evaluation, bit for bit.
    """
    image = resize(image, floor(size / crop_pct), InterpolationMode(interpolation))
    return _to_pixels(center_crop(image, size))


def squeeze(image: Image.Image, size: int, interpolation: str = "bilinear") -> Tensor:
    """A whole RGB image as (3, size, size) uint8; its aspect is not kept.

    For boxes, which a crop would cut; as wsolevaluation does (torchvision's Resize((s, s))).
    """
    return _to_pixels(resize(image, (size, size), InterpolationMode(interpolation)))


def _to_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
