"""A stranger's picture file as the square of RGB pixels that a model takes.

Nothing is done silently: every conversion is told in words.
"""

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from nestlib.data.views import View

MAX_PIXELS = 64 * 10**6  # 200 MB decoded
FORMATS = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_16_BITS = 2**16
_MODES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette"}


class UploadError(ValueError):
    """A file that is no picture to work with; the message says what it is and what would do."""


class Upload(NamedTuple):
    """image: RGB, upright, of its own size; said: what was done to it, a clause each."""

    image: Image.Image
    said: list[str]


def read_upload(data: bytes, name: str) -> Upload:
    """Decode a picture of any mode that Pillow knows.

    Transparency is laid over white, EXIF's orientation applied, 16 bits cut to 8, grey, palette and
    CMYK turned into RGB; of an animation the first frame is taken.

    Raises:
        UploadError: an empty file, no picture, a damaged one, one of more than MAX_PIXELS, or
            values of more than 16 bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what is told below
        image = _open(data, name)
        try:
            frames = getattr(image, "n_frames", 1)
            # Asked first: Pillow turns a TIFF upright as it loads it.
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.load()
            image = ImageOps.exif_transpose(image)
        except Exception as error:
            raise UploadError(
                f"{name} is damaged ({error}); open and save it anew in an image program, or "
                "choose another file"
            ) from error
    said = [f"the first of {frames} frames"] if frames > 1 else []
    if orientation != 1:
        said.append(f"turned upright (EXIF orientation {orientation})")
    return Upload(_to_rgb(image, name, said), said)


def fit_to_view(upload: Upload, view: View) -> tuple[np.ndarray, list[str]]:
    """The middle square, resized as test images are: (s, s, 3) uint8, and what was done.

    s is view.image_size. The square is cut first, so that a strip of paper does not become one of
    kilometres; view.crop_pct then trims its edges.
    """
    image, said = upload.image, [*upload.said]
    width, height = image.size
    short = min(width, height)
    if width != height:
        left, top = (width - short) // 2, (height - short) // 2
        image = image.crop((left, top, left + short, top + short))
        said.append(f"the middle square of {width} x {height} pixels")
    if view.crop_pct < 1:
        said.append(f"its middle {100 * view.crop_pct:g} %")
    if round(short * view.crop_pct) != view.image_size:
        word = "shrunk" if short * view.crop_pct > view.image_size else "enlarged"
        said.append(f"{word} to {view.image_size} x {view.image_size} ({view.interpolation})")
    pixels = view.crop(image).permute(1, 2, 0).numpy()
    return pixels, said


def _open(data: bytes, name: str) -> Image.Image:
    """The picture's header read, no pixel decoded."""
    if not data:
        raise UploadError(f"{name} is empty (0 bytes); choose a {FORMATS} file")
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UploadError(f"{name} is too large ({error}); {_remedy()}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types
        raise UploadError(
            f"{name} ({len(data):,} bytes) is no picture that can be read; choose a {FORMATS} file"
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise UploadError(f"{name} has {image.width} x {image.height} pixels; {_remedy()}")
    return image


def _to_rgb(image: Image.Image, name: str, said: list[str]) -> Image.Image:
    mode = image.mode
    if mode[0] in "IF":  # "I", "I;16", "I;16B", "F"
        image = _to_8_bits(image, name, said)
    if image.has_transparency_data:
        said.append("transparency laid over white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode != "RGB":
        said.append(f"{_MODES.get(image.mode, image.mode)} turned into RGB")
    return image.convert("RGB")


def _to_8_bits(image: Image.Image, name: str, said: list[str]) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= _16_BITS:
        raise UploadError(
            f"{name} holds {values.dtype} values from {values.min():g} to {values.max():g}; give a "
            "picture of 8 or 16 bits a channel"
        )
    said.append("16 bits a channel cut to 8")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _remedy() -> str:
    return f"choose one of at most {MAX_PIXELS // 10**6} million pixels, or shrink it first"
