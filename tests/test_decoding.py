"""JPEG to pixels and crops, against Pillow and torchvision."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as v2

from nestlib.data import decoding
from nestlib.data.decoding import CROP_AREA, decode_image, decode_pixels, draw_crop, random_crop

skimage_data = pytest.importorskip("skimage.data")


def encode(image: Image.Image, kind: str = "jpeg", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(skimage_data.coffee())  # 600 x 400


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_pillows(photo, quality, subsampling, progressive):
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    data = encode(photo, **options)
    expected = np.asarray(decode_image(data, "x")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode_pixels(data, "x"), expected)


def test_other_kinds_are_read_as_pillow_reads_them(photo):
    assert decoding.simplejpeg is not None
    for data in (encode(photo.convert("L")), encode(photo, "png"), encode(photo, "webp")):
        expected = np.asarray(decode_image(data, "x")).transpose(2, 0, 1)
        np.testing.assert_array_equal(decode_pixels(data, "x"), expected)
    cmyk = encode(photo.convert("CMYK"), quality=95)
    expected = np.asarray(decode_image(cmyk, "x"), dtype=int).transpose(2, 0, 1)
    assert np.abs(decode_pixels(cmyk, "x").numpy() - expected).max() <= 1


def test_without_simplejpeg_the_pixels_are_the_same(photo, monkeypatch):
    data = encode(photo, quality=90)
    sooner = decode_pixels(data, "x")
    monkeypatch.setattr(decoding, "simplejpeg", None)
    assert torch.equal(decode_pixels(data, "x"), sooner)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8 no more", "half"])
def test_damaged_bytes_are_named(photo, data):
    whole = encode(photo)
    with pytest.raises(OSError, match=r"cannot read image here\.jpg .*fetch the file again"):
        decode_pixels(whole[: len(whole) // 2] if data == "half" else data, "here.jpg")


def test_crops_are_distributed_as_torchvisions():
    width, height, count = 500, 375, 4000
    rng = np.random.Generator(np.random.PCG64(0))
    ours = np.array([draw_crop(width, height, rng) for _ in range(count)])
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    ratio = (3 / 4, 4 / 3)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, CROP_AREA, ratio) for _ in range(count)]
    )[:, [1, 0, 3, 2]]  # top, left, height, width
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    areas = [(boxes[:, 2] * boxes[:, 3]) / (width * height) for boxes in (ours, theirs)]
    aspects = [np.log(boxes[:, 2] / boxes[:, 3]) for boxes in (ours, theirs)]
    assert ks_2samp(*areas).pvalue > 0.001 and ks_2samp(*aspects).pvalue > 0.001
    assert areas[0].min() < 0.06 and abs(aspects[0]).max() == pytest.approx(math.log(4 / 3), 0.02)
    assert (ours[:, 0] + ours[:, 2] <= width).all() and (ours[:, 1] + ours[:, 3] <= height).all()


def test_the_distributions_test_can_fail():
    """A crop of torchvision's default area, 8 % and more, is told from the recipe's."""
    rng = np.random.Generator(np.random.PCG64(0))
    ours = [math.prod(draw_crop(500, 375, rng)[2:]) for _ in range(20_000)]
    image = torch.empty(3, 375, 500)
    drawn = [RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(20_000)]
    assert ks_2samp(ours, [height * width for _, _, height, width in drawn]).pvalue < 0.001


def test_crop_is_resized_as_torchvision_and_pillow_do(photo):
    pixels = decode_pixels(encode(photo, quality=95), "x")
    for seed in range(20):
        cut = random_crop(pixels, 224, np.random.Generator(np.random.PCG64(seed)))
        rng = np.random.Generator(np.random.PCG64(seed))
        left, top, width, height = draw_crop(photo.width, photo.height, rng)
        assert cut.shape == (3, 224, 224) and cut.is_contiguous()
        box = (top, left, height, width)
        theirs = v2.resized_crop(pixels.contiguous(), *box, [224, 224], antialias=True)
        assert (cut.int() - theirs.int()).abs().max() <= 1
        whole = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        pillow = v2.resized_crop(whole, *box, [224, 224])  # what ImageFolder users get
        difference = np.abs(np.asarray(pillow, dtype=int).transpose(2, 0, 1) - cut.numpy())
        assert difference.max() <= 1


def test_a_narrow_image_gives_its_centre():
    pixels = torch.randint(0, 256, (3, 10, 400), dtype=torch.uint8)
    rng = np.random.Generator(np.random.PCG64(0))
    assert draw_crop(2000, 2, rng) is None
    assert random_crop(pixels[:, :2], 16, rng).shape == (3, 16, 16)
