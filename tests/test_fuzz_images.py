"""Image files of every kind, whole and damaged, and crops of images of any shape."""

import io

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from nestbook.explorer.uploads import UploadError, read_upload
from nestlib.data.decoding import (
    centre_crop,
    count_channels,
    decode_image,
    decode_pixels,
    random_crop,
    squeeze,
)
from nestlib.data.opening import FORMATS, MOST_DECODED

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFFs

MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WebP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "P", "1"),
    "TIFF": ("RGB", "RGBA", "CMYK", "L", "LA", "P", "1", "I;16", "I"),
}
PLAIN = ("RGB", "L", "1", "CMYK")  # modes that Pillow's own `convert` turns into RGB as they are


def draw_image(mode: str, width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if mode.startswith("I"):
        return Image.fromarray(pixels[..., 0].astype(np.uint16 if ";" in mode else np.int32) * 256)
    image = Image.fromarray(pixels)
    return image.quantize(8) if mode == "P" else image.convert(mode)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@st.composite
def files(draw) -> tuple[str, Image.Image, bytes]:
    """A format, an image that it can hold, and the file."""
    kind = draw(st.sampled_from(FORMATS))
    mode = draw(st.sampled_from(MODES[kind]))
    image = draw_image(mode, *(draw(st.integers(1, 40)) for _ in range(2)), draw(st.integers(0, 9)))
    options = {}
    if kind == "JPEG":
        options = {"progressive": draw(st.booleans()), "subsampling": draw(st.integers(0, 2))}
    if kind == "TIFF" and mode in ("RGB", "L"):
        options = {"compression": draw(st.sampled_from(["raw", "tiff_lzw", "tiff_deflate"]))}
    return kind, image, encode(image, kind, **options)


@st.composite
def damaged_files(draw) -> bytes:
    """The first bytes tell most, so half of the places are among them."""
    *_, data = draw(files())
    for _ in range(draw(st.integers(1, 6))):
        last = max(0, len(data) - 1)
        place = draw(st.integers(0, last) | st.integers(0, min(last, 80)))
        how = draw(st.sampled_from(["change", "insert", "cut", "end"]))
        new = draw(st.binary(min_size=1, max_size=4)) if how in ("change", "insert") else b""
        kept = {"change": place + len(new), "insert": place, "cut": place + 1, "end": len(data)}
        data = data[:place] + new + data[kept[how] :]
    return data


@given(files())
def test_whole_files_give_pillows_pixels_in_every_way(drawn):
    _, image, data = drawn
    found = decode_image(data, "x.img")
    assert (found.mode, found.size) == ("RGB", image.size)
    pixels = decode_pixels(data, "x.img").permute(1, 2, 0).numpy()
    near = 1 if image.mode == "CMYK" else 0
    assert np.abs(pixels.astype(int) - np.asarray(found, dtype=int)).max() <= near
    with Image.open(io.BytesIO(data)) as stored:
        assert count_channels(data, "x.img") == len(stored.getbands())
        if stored.mode in PLAIN:
            np.testing.assert_array_equal(found, stored.convert("RGB"))
    np.testing.assert_array_equal(read_upload(data, "x.img").image, found)


def test_files_of_other_modes_are_those_pixels():
    grey = draw_image("I;16", 30, 20, 0)
    expected = np.repeat((np.asarray(grey) >> 8).astype(np.uint8)[..., None], 3, 2)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode_image(encode(grey, kind), "x"), expected)


@given(damaged_files())
@example(b"")
@settings(max_examples=settings.default.max_examples * 2)
def test_damaged_files_give_an_image_or_an_error_with_their_name(data):
    try:
        found = decode_image(data, "here/x.img")
    except OSError as error:
        assert str(error).startswith("cannot read image here/x.img (")
        assert str(error).endswith(("fetch the file again, or remove it", "is not progressive"))
        found = None
    else:
        assert found.mode == "RGB" and 1 <= found.width * found.height <= MOST_DECODED
        assert len(found.tobytes()) == 3 * found.width * found.height
    try:
        pixels = decode_pixels(data, "here/x.img")
    except OSError as error:
        assert "here/x.img" in str(error) and found is None
    else:
        assert found is not None and tuple(pixels.shape) == (3, found.height, found.width)
    try:
        read_upload(data, "x.img")
    except UploadError as error:
        assert str(error).startswith("x.img")


@given(
    st.integers(1, 90) | st.integers(1, 3000), st.integers(1, 90), st.booleans(),
    st.integers(1, 40), st.floats(0.01, 1), st.sampled_from(["bilinear", "bicubic"]),
    st.integers(0, 2**31),
)  # fmt: skip
def test_crops_of_any_shape_are_squares_of_the_images_own_colours(
    long, short, upright, size, share, interpolation, seed
):
    width, height = (short, long) if upright else (long, short)
    image = Image.new("RGB", (width, height), (250, 120, 10))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for cut in (
        centre_crop(image, size, share, interpolation),
        squeeze(image, size, interpolation),
        random_crop(pixels, size, np.random.default_rng(seed)),
    ):
        assert cut.shape == (3, size, size) and cut.dtype == torch.uint8
        assert (cut.flatten(1) == torch.tensor([[250], [120], [10]])).all()
