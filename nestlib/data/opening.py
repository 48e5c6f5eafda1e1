"""Open image files: only expected formats, and what takes bounded memory and time.

Nothing is decoded here: the header alone decides, before nestlib.data.decoding reads the pixels.
"""

import io
from math import ceil

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")  # others may start programs, as EPS does
KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
# The memory of an image is about 20 times a normal photo's at most, whatever its file declares.
PHOTO = 500 * 375  # pixels
MAX_PIXELS = 64 * 10**6  # of a JPEG; NVIDIA's DALI takes 5980 x 6430 for ImageNet's largest
MOST_DECODED = 20 * PHOTO  # a larger JPEG is decoded at a half, a quarter or an eighth of its size
MOST_KEPT = 2_500_000  # any other image of more, or a progressive JPEG, is halved
MOST_PIXELS = {"WEBP": MOST_KEPT}  # Pillow takes 16 bytes for each
MOST_PIXELS_ELSE = 2**22
MOST_EDGE = 2**16  # pixels; a row costs a pointer
MAX_IMAGE_BYTES = 2**25  # of a file; a photo of 48 million pixels has 10 to 25 MB
COEFFICIENTS = 32  # bytes of them per byte of a progressive JPEG, which keeps all; a photo has 20
MOST_SCANS = 500  # of a progressive JPEG, each of which goes over all of the image; most have 10
MOST_TEXTS = 16  # of a PNG; Pillow unpacks up to a megabyte of each
_FRAMES = {bytes([0xC0 + k]) for k in range(16) if k not in (4, 8, 12)}
_ALONE = {bytes([marker]) for marker in (0, 1, *range(0xD0, 0xDA), 0xFF)}  # without a length
REDUCE = "resize it, or save it as a JPEG that is not progressive"


def open_image(data: bytes) -> Image.Image:
    """Open an image of FORMATS: its header is read, its pixels are not decoded yet.

    Raises:
        Image.DecompressionBombError: it would take too much memory or time; the message names what
            it has too many of: pixels, bytes, scans, texts.
        Exception: any of Pillow's; the bytes are no image.
    """
    _limit(len(data), MAX_IMAGE_BYTES, "bytes")
    if data.startswith(b"\x89PNG"):  # asked first: Pillow unpacks them as it opens the file
        _limit(_count_texts(data), MOST_TEXTS, "compressed texts")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if isinstance(image, JpegImageFile):
        jpeg_factor(data, *image.size)
    else:
        most = MOST_PIXELS.get(image.format, MOST_PIXELS_ELSE)
        _check_size(*image.size, most, image.format)
        _check_tiles(image)
    return image


def make_ready(image: Image.Image, data: bytes) -> Image.Image:
    """Have an opened image decoded in bounded memory: a large JPEG at a part of its size."""
    if isinstance(image, JpegImageFile) and (factor := jpeg_factor(data, *image.size)) > 1:
        image.draft(None, tuple(length // factor for length in image.size))
    return image


def _limit(found: int, most: int, what: str) -> None:
    if found > most:
        raise Image.DecompressionBombError(f"it has {found:,} {what}; the limit is {most:,}")


def _check_size(width: int, height: int, most: int, kind: str) -> None:
    _limit(max(width, height), MOST_EDGE, "pixels along an edge")
    if width * height > most:
        raise Image.DecompressionBombError(
            f"it has {width} x {height} pixels; the limit is {most:,} of a {kind}"
        )


def _check_tiles(image: Image.Image) -> None:
    """Tiles of a TIFF are decoded whole, though they may be larger than the image."""
    tags = getattr(image, "tag_v2", {})
    width, height = (tags.get(tag, 0) for tag in (322, 323))  # TileWidth, TileLength
    _check_size(width, height, MOST_PIXELS_ELSE, "tile")


def _count_texts(png: bytes) -> int:
    place, found = 8, 0
    while kind := png[place + 4 : place + 8]:
        found += kind in (b"zTXt", b"iTXt")
        place += 12 + int.from_bytes(png[place : place + 4])
    return found


def jpeg_factor(data: bytes, width: int, height: int) -> int:
    """By which of 1, 2, 4 and 8 a JPEG's edges are divided as it is decoded."""
    _check_size(width, height, MAX_PIXELS, "JPEG")
    most, size = MOST_DECODED, width * height
    if size > MOST_KEPT or size * len(data) > 2**36:  # else no number of scans takes long
        kept = 2 * _count_coefficients(data)
        if kept:
            _limit(data.count(b"\xff\xda"), MOST_SCANS, "scans")
            most = MOST_KEPT
        if kept > max(COEFFICIENTS * len(data), 6 * MOST_DECODED):
            raise Image.DecompressionBombError(
                f"it is a progressive JPEG of {width} x {height} pixels in {len(data):,} bytes"
            )
    return next(k for k in (1, 2, 4, 8) if ceil(width / k) * ceil(height / k) <= most)


def _count_coefficients(data: bytes) -> int:
    """How many coefficients libjpeg keeps of a JPEG in several scans, as progressive ones are; 0 if
    there is one scan. (ISO/IEC 10918-1, B.2)"""
    place, frame, kind = 0, b"", 0
    while (place := data.find(b"\xff", place)) >= 0:  # libjpeg too passes over what lies between
        marker, segment = data[place + 1 : place + 2], data[place + 2 : place + 64]
        if not marker or marker in _ALONE:
            place += 1
            continue
        if marker in _FRAMES:
            kind, frame = marker[0], segment[2:]
        if marker == b"\xda" and len(frame) > 5:  # a scan of all components, or of some
            if segment[2] == frame[5] and kind not in (0xC2, 0xC6, 0xCA, 0xCE):
                return 0
            sampling = [(byte >> 4) * (byte & 15) for byte in frame[7 : 6 + 3 * frame[5] : 3]]
            pixels = int.from_bytes(frame[1:3]) * int.from_bytes(frame[3:5])
            return pixels * sum(sampling) // max([1, *sampling])
        place += 2 + int.from_bytes(segment[:2])
    return 0
