"""Pictures of every kind become the pixels that their author saw, and what was done is said."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from nestbook.explorer.uploads import UploadError, fit_to_view, read_upload
from nestlib.data.views import View

VIEW = View(32, 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
QUARTERS = np.zeros((40, 40, 3), np.uint8)  # red, green, blue and white quarters
QUARTERS[:20, :20, 0] = QUARTERS[:20, 20:, 1] = QUARTERS[20:, :20, 2] = QUARTERS[20:, 20:] = 255
RGB = Image.fromarray(QUARTERS)
GREY = np.linspace(0, 255, 1600).reshape(40, 40)


def encode(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    whole = name + data
    return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))


def png_of(values: np.ndarray, kind: int, depth: int = 16, extra: bytes = b"") -> bytes:
    """A PNG written by hand from (H, W, C): Pillow writes no 16 bits but grey ones."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


def transparent(mode="RGBA"):
    image = RGB.convert("RGBA")
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:, :20] = 0  # the left half is not seen
    image.putalpha(Image.fromarray(alpha))
    return image.convert(mode)


def turned(kind, orientation=6):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation  # 6 is shown after a quarter turn clockwise
    return encode(RGB.rotate(90), kind, exif=exif)


OVER_WHITE = np.asarray(RGB).copy()
OVER_WHITE[:, :20] = 255
ALREADY = [  # bytes, what must be said, the pixels that must come out
    ("rgb", encode(RGB), [], QUARTERS),
    ("grey", encode(Image.fromarray(GREY.astype(np.uint8))), ["grey turned into RGB"],
     np.repeat(GREY.astype(np.uint8)[..., None], 3, 2)),
    ("black and white", encode(Image.fromarray(GREY > 128)), ["black and white turned into RGB"],
     np.repeat((255 * (GREY > 128)).astype(np.uint8)[..., None], 3, 2)),
    ("palette", encode(RGB.quantize(4)), ["palette turned into RGB"], QUARTERS),
    ("rgba", encode(transparent()), ["transparency laid over white"], OVER_WHITE),
    ("grey and alpha", encode(transparent("LA")), ["transparency laid over white"], None),
    ("16 bits", encode(Image.fromarray((GREY * 257).astype(np.uint16))),
     ["16 bits per channel cut to 8", "grey turned into RGB"], None),
    ("opaque rgba", encode(RGB.convert("RGBA")), ["RGBA turned into RGB"], QUARTERS),
    ("grey of 32 bits, 16 used", encode(Image.fromarray((GREY * 257).astype(np.int32)), "TIFF"),
     ["16 bits per channel cut to 8", "grey turned into RGB"], None),
    ("colours of 16 bits", png_of((GREY * 257).astype(np.uint16)[..., None].repeat(3, 2), 2),
     ["16 bits per channel cut to 8"],
     np.repeat((GREY * 257 // 256).astype(np.uint8)[..., None], 3, 2)),
    ("orientation unknown", turned("PNG", 0), [], np.asarray(RGB.rotate(90))),
    ("cmyk", encode(RGB.convert("CMYK"), "TIFF"), ["CMYK turned into RGB"], QUARTERS),
    ("exif", turned("PNG"), ["turned upright (EXIF orientation 6)"], QUARTERS),
    ("exif of a tiff", turned("TIFF"), ["turned upright (EXIF orientation 6)"], QUARTERS),
    ("animation", encode(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]),
     ["the first of its frames", "palette turned into RGB"], QUARTERS),
]  # fmt: skip


@pytest.mark.parametrize(("data", "said", "pixels"), [c[1:] for c in ALREADY],
                         ids=[c[0] for c in ALREADY])  # fmt: skip
def test_every_kind_becomes_rgb_and_what_was_done_is_said(data, said, pixels):
    upload = read_upload(data, "x.png")
    assert upload.image.mode == "RGB"
    assert upload.said == said
    if pixels is not None:
        assert np.array_equal(np.asarray(upload.image), pixels)


def test_16_bits_keep_their_brightness():
    image = read_upload(ALREADY[6][1], "x.png").image
    np.testing.assert_allclose(np.asarray(image)[..., 0], GREY, atol=1)


JPEG = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)),
              "JPEG")  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            encode(RGB, "EPS"),
            r"x\.png \([\d,]+ bytes\) cannot be read as an image; choose a PNG",
        ),
        (b"", r"x\.png is empty \(0 bytes\); choose a PNG"),
        (b"%PDF-1.7 no picture", r"x\.png \(19 bytes\) cannot be read as an image; choose a"),
        (encode(RGB)[:30], r"x\.png"),
        (
            JPEG[: len(JPEG) // 2],
            r"x\.png cannot be decoded \(.*truncated.*\); open it in an image program and save it",
        ),
        (
            encode(Image.new("1", (9000, 9000))),
            r"x\.png is too large \(it has 9000 x 9000 pixels; the limit is 4,194,304 .* resize",
        ),
        (
            encode(Image.new("1", (14_000, 14_000))),
            r"x\.png is too large .*; resize it",
        ),
        (
            encode(Image.fromarray(np.float32(GREY)), "TIFF"),
            r"holds float32 values .* 8 or 16 bits",
        ),
        (encode(Image.fromarray(np.int32(GREY) * 999), "TIFF"), "holds int32 values from 0 to"),
    ],
    ids=["eps", "empty", "pdf", "cut header", "cut jpeg", "huge", "bomb", "float", "32 bits"],
)
def test_what_is_no_picture_is_refused_in_words(data, message):
    with pytest.raises(UploadError, match=message):
        read_upload(data, "x.png")


def test_a_picture_of_the_models_size_is_not_touched():
    pixels, said = fit_to_view(read_upload(encode(RGB.resize((32, 32), 0)), "x"), VIEW)
    assert said == [] and np.array_equal(pixels, np.asarray(RGB.resize((32, 32), 0)))


def test_the_middle_square_is_cut_and_resized_as_torchvision_does():
    from torchvision.transforms import v2

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (100, 150, 3), np.uint8))
    pixels, said = fit_to_view(read_upload(encode(image), "x"), VIEW)
    assert said == ["the middle square of 150 x 100 pixels", "shrunk to 32 x 32 (bilinear)"]
    expected = v2.Compose([v2.CenterCrop(100), v2.Resize(32)])(image)
    assert np.array_equal(pixels, np.asarray(expected))


def test_crops_and_enlargements_are_said():
    view = View(224, 0.875, "bicubic", (0.5,) * 3, (0.25,) * 3)
    pixels, said = fit_to_view(read_upload(encode(RGB), "x"), view)
    assert pixels.shape == (224, 224, 3)
    assert said == ["its middle 87.5 %", "enlarged to 224 x 224 (bicubic)"]


@pytest.mark.parametrize(
    ("size", "said"), [(248, []), (249, ["shrunk to 224 x 224 (bilinear)"]),
                       (247, ["enlarged to 224 x 224 (bilinear)"])],
)  # fmt: skip
def test_a_change_of_size_is_said_where_there_is_one(size, said):
    """A share of 0.9 takes the middle of 248 pixels."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))
    view = View(224, 0.9, "bilinear", (0.5,) * 3, (0.25,) * 3)
    pixels, found = fit_to_view(read_upload(encode(image), "x"), view)
    assert found == ["its middle 90 %", *said]
    untouched = np.array_equal(pixels, np.asarray(image)[12:236, 12:236])
    assert untouched == (not said)


def test_a_strip_of_paper_does_not_become_kilometres():
    pixels, _ = fit_to_view(read_upload(encode(Image.new("RGB", (30_000, 1), "red")), "x"), VIEW)
    assert pixels.shape == (32, 32, 3) and (pixels == (255, 0, 0)).all()
