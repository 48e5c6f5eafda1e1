"""Decode images, and crop or resize them to the squares that models take.

`nest bench loader` measures this against torchvision's own pipeline, and other decoders against
the one that was taken. H x W pixels.
"""

import io
from math import ceil, exp, floor, log, sqrt

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

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")  # others may start programs, as EPS does
KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
MAX_PIXELS = 64 * 10**6  # of an image; 256 MB decoded
MOST_RESIZED = 16  # times the pixels that are cut out; an ordinary photo takes two

Box = tuple[int, int, int, int]  # left, top, width, height


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode an RGB image; `to_rgb` converts other modes.

    EXIF's orientation is left alone, as the published code and torchvision leave it.

    Raises:
        OSError: bytes that are no image or break off, one of more than MAX_PIXELS, or of more than
            16 bits a channel.
    """
    try:
        return to_rgb(open_image(data))
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        reason = str(error) or type(error).__name__  # a MemoryError has no words
        if isinstance(error, UnidentifiedImageError):  # its words name an object in memory
            reason = f"it is not a {KINDS}"
        raise OSError(
            f"cannot read image {where} ({reason}); fetch the file again, or remove it"
        ) from error


def open_image(data: bytes) -> Image.Image:
    """Open an image of FORMATS: its header is read, its pixels are not decoded yet.

    Raises:
        Image.DecompressionBombError: it has more than MAX_PIXELS.
        Exception: any of Pillow's; the bytes are no image.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_pixels(*image.size)
    return image


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError(
            f"it has {width} x {height} pixels; the limit is {MAX_PIXELS:,}"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: the upper eight of 16 bits per channel, transparent parts over white.

    Raises:
        ValueError: values of more than 16 bits.
    """
    if image.mode[0] in "IF":  # "I", "I;16", "I;16B", "F"
        image = _upper_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8-bit grey.

    Its own `convert` (Pillow 13) turns all above 255 white, though it cuts 16-bit colours to their
    upper eight bits. torchvision's `to_tensor` (0.29.1) makes int16 of such an image, which is
    negative from 32,768 on.
    """
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(
            f"it holds {values.dtype} values from {values.min():g} to {values.max():g}, but only 8 "
            "or 16 bits per channel can be read"
        )
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")  # one of the values of 16 bits
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def decode_pixels(data: bytes, where: str) -> Tensor:
    """Decode to (3, H, W) uint8, channels last in memory: as `decode_image`, but faster.

    Both use libjpeg-turbo with the same settings, so the pixels are equal (of CMYK within one
    level). This saves Pillow's own rows of four bytes per pixel and their copies. Pillow judges
    every file in which simplejpeg finds a fault: one of ImageNet's files is a PNG.

    Raises:
        OSError: as `decode_image`.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(width, height)
        pixels = simplejpeg.decode_jpeg(data)
    # AttributeError: it is not installed
    except (AttributeError, ValueError, Image.DecompressionBombError):
        pixels = np.array(decode_image(data, where))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def draw_crop(width: int, height: int, rng: np.random.Generator) -> Box | None:
    """A random part of an image, as the published NesT code trains (libml/preprocess.py,
    decode_and_random_resized_crop); None if ten draws do not fit, as in very narrow images.

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

    The defaults are the test protocol of ImageNet. Equal to timm's evaluation, bit for bit; very
    narrow images, of which more than MOST_RESIZED times what is cut out would be resized, are equal
    within one level (bilinear).
    """
    edge, mode = floor(size / crop_pct), InterpolationMode(interpolation)
    width, height = (edge * length // min(image.size) for length in image.size)
    if width * height <= MOST_RESIZED * size**2:
        return _to_pixels(center_crop(resize(image, edge, mode), size))
    return _to_pixels(_resize_middle(image, (width, height), size, mode))


def _resize_middle(
    image: Image.Image, whole: tuple[int, int], size: int, mode: InterpolationMode
) -> Image.Image:
    """The middle square of an image resized to `whole`, cut out before it is resized."""
    (left, right, x0, x1), (top, bottom, y0, y1) = (
        _middle_part(length, resized, size) for length, resized in zip(image.size, whole)
    )
    part = image.crop((left, top, right, bottom))
    return part.resize((size, size), Image.Resampling[mode.name], box=(x0, y0, x1, y1))


def _middle_part(length: int, resized: int, size: int) -> tuple[int, int, float, float]:
    """Along one edge: the pixels that the middle is made of, and the middle's ends in them."""
    scale = length / resized
    start = round((resized - size) / 2) * scale
    reach = ceil(3 * max(scale, 1))  # of the filters: 2, bicubic
    first, last = max(0, floor(start) - reach), min(length, ceil(start + size * scale) + reach)
    return first, last, start - first, min(start + size * scale, length) - first


def squeeze(image: Image.Image, size: int, interpolation: str = "bilinear") -> Tensor:
    """Resize a whole RGB image to (3, size, size) uint8, whatever its aspect ratio.

    For boxes, which a crop would cut; as wsolevaluation does (torchvision's Resize((s, s))).
    """
    return _to_pixels(resize(image, (size, size), InterpolationMode(interpolation)))


def _to_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
