"""An uploaded image file as the square of RGB pixels that a model takes.

Nothing is done silently: every conversion is told in words.
"""

import warnings
from math import floor
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from nestlib.data.decoding import to_rgb
from nestlib.data.opening import KINDS, REDUCE, make_ready, open_image
from nestlib.data.views import View

_ORIENTATION = ExifTags.Base.Orientation
_TURNED = range(2, 9)  # 1 is upright; others, which some programs write, say nothing
_MODES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette"}


class UploadError(ValueError):
    """A file that cannot be used as an image; the message says why, and what can be used."""


class Upload(NamedTuple):
    """image: RGB, upright, of its own size; said: what was done to it, one clause per step."""

    image: Image.Image
    said: list[str]


def read_upload(data: bytes, name: str) -> Upload:
    """Decode a picture of any mode that Pillow knows, as `nestlib.data.decoding.to_rgb` does.

    Transparency is laid over white, EXIF's orientation applied, 16 bits cut to 8, grey, palette and
    CMYK turned into RGB; of an animation the first frame is taken.

    Raises:
        UploadError: an empty file, no picture, a damaged one, one that is too large (see
            `nestlib.data.opening.open_image`), or values of more than 16 bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what is told below
        image = _open(data, name)
        try:
            # Asked first: as it loads an image, Pillow forgets its bits, and turns a TIFF upright.
            deep, frames = ";16" in str(image.tile), getattr(image, "is_animated", False)
            size, orientation = image.size, image.getexif().get(_ORIENTATION, 1)
            rgb = to_rgb(make_ready(image, data))
            deep |= image.mode[0] == "I" and image.getextrema()[1] > 255
            said = _say_frames(frames) + _say_size(rgb.size, size)
            left = image.getexif().get(_ORIENTATION, 1)
            if left in _TURNED:
                rgb.getexif()[_ORIENTATION] = left
                rgb = ImageOps.exif_transpose(rgb)
        except Exception as error:
            raise UploadError(
                f"{name} cannot be decoded ({str(error) or type(error).__name__}); open "
                "it in an image program and save it again, or choose another file"
            ) from error
    if orientation in _TURNED:
        said.append(f"turned upright (EXIF orientation {orientation})")
    if deep:
        said.append("16 bits per channel cut to 8")
    return Upload(rgb, said + _say_mode(image))


def _say_frames(several: bool) -> list[str]:
    return ["the first of its frames"] if several else []


def _say_size(read: tuple[int, int], stored: tuple[int, int]) -> list[str]:
    (width, height), (w, h) = stored, read
    if {w, h} == {width, height}:
        return []
    return [f"{width} x {height} pixels read as {w} x {h}"]


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
    edge = floor(view.image_size / view.crop_pct)
    if short != edge:
        word = "shrunk" if short > edge else "enlarged"
        said.append(f"{word} to {view.image_size} x {view.image_size} ({view.interpolation})")
    pixels = view.crop(image).permute(1, 2, 0).numpy()
    return pixels, said


def _open(data: bytes, name: str) -> Image.Image:
    """The picture's header read, no pixel decoded."""
    if not data:
        raise UploadError(f"{name} is empty (0 bytes); choose a {KINDS} file")
    try:
        return open_image(data)
    except Image.DecompressionBombError as error:
        raise UploadError(f"{name} is too large ({error}); {REDUCE}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types
        raise UploadError(
            f"{name} ({len(data):,} bytes) cannot be read as an image; choose a {KINDS} file"
        ) from error


def _say_mode(image: Image.Image) -> list[str]:
    opaque = image.getbands()[-1] == "A" and image.getextrema()[-1][0] == 255
    if image.has_transparency_data and not opaque:
        return ["transparency laid over white"]
    if image.mode == "RGB":
        return []
    mode = "grey" if image.mode[0] == "I" else _MODES.get(image.mode, image.mode)
    return [f"{mode} turned into RGB"]
