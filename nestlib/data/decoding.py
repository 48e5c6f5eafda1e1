"""Decode images, and crop or resize them to the squares that models take.

`nest bench loader` measures this against torchvision's own pipeline, and other decoders against
the one that was taken. H x W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, exp, floor, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from nestlib.data.opening import (
    KINDS,
    MOST_DECODED,
    MOST_KEPT,
    REDUCE,
    jpeg_factor,
    make_ready,
    open_image,
)

try:
    import simplejpeg
except ImportError:  # Pillow gives the same pixels, later
    simplejpeg = None

CROP_AREA = (0.05, 1.0)  # of the image's, uniform
CROP_ASPECT = (3 / 4, 4 / 3)  # width over height, log-uniform

BAND = 2**18  # pixels that are converted at a time
MOST_RESIZED = 16  # times the pixels that are cut out; an ordinary photo takes two

Box = tuple[int, int, int, int]  # left, top, width, height


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode an RGB image; `to_rgb` converts other modes.

    EXIF's orientation is left alone, as the published code and torchvision leave it. A JPEG of more
    than MOST_DECODED pixels comes at a half, a quarter or an eighth of its size, another image of
    more than MOST_KEPT at a half.

    Raises:
        OSError: bytes that are no image or break off; one that would take too much memory or time
            (see `open_image`), or of more than 16 bits a channel.
    """
    with _named(where):
        return to_rgb(make_ready(open_image(data), data))


def count_channels(data: bytes, where: str) -> int:
    """How many channels an image is stored with; its pixels are not decoded.

    Raises:
        OSError: as `decode_image`.
    """
    with _named(where):
        return len(open_image(data).getbands())


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        reason, remedy = str(error) or type(error).__name__, "fetch the file again, or remove it"
        if isinstance(error, UnidentifiedImageError):  # its words name an object in memory
            reason = f"it is not a {KINDS}"
        if isinstance(error, Image.DecompressionBombError):
            remedy = REDUCE
        raise OSError(f"cannot read image {where} ({reason}); {remedy}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: the upper eight of 16 bits per channel, transparent parts over white.

    Grey of 32 bits (a TIFF) is taken for 16, or for 8 if no value is above 255.

    Raises:
        ValueError: values of more than 16 bits.
    """
    image.load()
    width, height = image.size
    factor = 2 if width * height > MOST_KEPT and not isinstance(image, JpegImageFile) else 1
    plain = image.mode == "RGB" and not image.has_transparency_data
    if plain and factor == 1:
        return image
    shift = _shift(image)
    if width * height <= BAND:
        return _convert(image, shift)
    found = Image.new("RGB", (ceil(width / factor), ceil(height / factor)))
    rows = 2 * max(1, BAND // width // 2)
    for top in range(0, height, rows):  # in bands: each conversion makes up to three copies
        band = image.crop((0, top, width, min(top + rows, height)))
        found.paste(_convert(band, shift).reduce(factor), (0, top // factor))
    return found


def _convert(image: Image.Image, shift: int) -> Image.Image:
    if image.mode[0] in "IF":  # "I", "I;16", "I;16B"
        image = _upper_bits(image, shift)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _shift(image: Image.Image) -> int:
    """By how many bits values are shifted to have eight.

    Raises:
        ValueError: values of more than 16 bits.
    """
    if image.mode not in ("I", "F"):
        return 8
    least, greatest = image.getextrema()
    if image.mode == "F" or least < 0 or greatest >= 2**16:
        kind = "int32" if image.mode == "I" else "float32"
        raise ValueError(
            f"it holds {kind} values from {least:g} to {greatest:g}, but only 8 or 16 bits per "
            "channel can be read"
        )
    return 8 if greatest > 255 else 0


def _upper_bits(image: Image.Image, shift: int) -> Image.Image:
    """Convert 16-bit grey to 8-bit grey.

    Its own `convert` (Pillow 13) turns all above 255 white, though it cuts 16-bit colours to their
    upper eight bits. torchvision's `to_tensor` (0.29.1) makes int16 of such an image, which is
    negative from 32,768 on.
    """
    values = np.asarray(image)
    grey = Image.fromarray((values >> shift).astype(np.uint8))
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
        if jpeg_factor(data, width, height) == 1:
            return torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)
    # AttributeError: it is not installed
    except (AttributeError, ValueError, Image.DecompressionBombError):
        pass
    return torch.from_numpy(_to_array(decode_image(data, where))).permute(2, 0, 1)


def _to_array(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, in bands: Pillow hands pixels over in two more copies."""
    width, height = image.size
    if width * height <= BAND:
        return np.array(image)
    pixels, rows = np.empty((height, width, 3), np.uint8), max(1, BAND // width)
    for top in range(0, height, rows):
        pixels[top : top + rows] = image.crop((0, top, width, min(top + rows, height)))
    return pixels


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
    mode = InterpolationMode(interpolation)
    if size * image.height > MOST_DECODED:  # Pillow resizes across first, which would take this
        image = image.resize((image.width, size), Image.Resampling[mode.name])
    return _to_pixels(resize(image, (size, size), mode))


def _to_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
