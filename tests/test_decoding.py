"""JPEG to pixels and crops, against Pillow and torchvision."""

import io
import math
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from test_uploads import chunk, png_of
from torchvision.transforms import CenterCrop, Compose, RandomResizedCrop, Resize
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

from nestbook.explorer.uploads import read_upload
from nestlib.data import decoding, opening
from nestlib.data.datasets import load_dataset
from nestlib.data.decoding import (
    CROP_AREA,
    centre_crop,
    decode_image,
    decode_pixels,
    draw_crop,
    random_crop,
    squeeze,
)
from nestlib.data.folders import Entry, decode_entries
from nestlib.data.shard_maker import make_shards

BOOK = Path(__file__).parents[1] / "book"

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


# Every kind of file


DEEP = np.linspace(0, 65535, 64 * 64 * 4).reshape(64, 64, 4).astype(np.uint16)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.rint(255 + (colour - 255.0) * (alpha / 255.0)[..., None])


@pytest.mark.parametrize(
    "data",
    [
        png_of(DEEP[..., :1], 0),
        encode(Image.fromarray(DEEP[..., 0]), "tiff"),
        encode(Image.fromarray(DEEP[..., 0].astype(">u2")), "tiff"),
        encode(Image.fromarray(DEEP[..., 0].astype(np.int32)), "tiff"),
        png_of(np.stack([DEEP[..., 0], np.full((64, 64), 65535)], 2), 4),  # and opaque
    ],
    ids=["I;16 png", "I;16 tiff", "I;16B tiff", "I tiff", "grey and alpha"],
)
def test_of_16_bit_greys_the_upper_eight_are_kept(data):
    expected = np.repeat((DEEP[..., :1] >> 8).astype(np.uint8), 3, 2)
    np.testing.assert_array_equal(decode_image(data, "x"), expected)
    np.testing.assert_array_equal(decode_pixels(data, "x").permute(1, 2, 0), expected)


def test_of_16_bit_colours_the_upper_eight_are_kept():
    np.testing.assert_array_equal(decode_image(png_of(DEEP[..., :3], 2), "x"), DEEP[..., :3] >> 8)
    found = np.asarray(decode_image(png_of(DEEP, 6), "x"), dtype=int)
    expected = over_white((DEEP[..., :3] >> 8), (DEEP[..., 3] >> 8))
    assert np.abs(found - expected).max() <= 1


def test_of_16_bits_pillow_clips_grey_and_torchvision_makes_it_negative():
    """As the loader's page says; ours are the upper eight of both."""
    values = np.uint16([[[255], [256], [40_000]]])
    files = {"L": png_of(values, 0), "RGB": png_of(values.repeat(3, 2), 2)}
    images = {mode: Image.open(io.BytesIO(data)) for mode, data in files.items()}
    assert np.asarray(images["L"].convert("L")).tolist() == [[255, 255, 255]]
    assert np.asarray(images["RGB"])[0, :, 0].tolist() == [0, 1, 156]
    theirs = v1.to_tensor(images["L"])
    assert theirs.dtype == torch.int16 and theirs.flatten().tolist() == [255, 256, 40_000 - 2**16]
    for data in files.values():
        assert np.asarray(decode_image(data, "x"))[0, :, 0].tolist() == [0, 1, 156]


def test_a_transparent_value_of_16_bits_is_that_one_alone():
    values = np.uint16([[[1000], [1001], [40_000]]])
    found = decode_image(png_of(values, 0, extra=chunk(b"tRNS", struct.pack(">H", 1000))), "x")
    assert np.asarray(found)[0, :, 0].tolist() == [255, 1001 >> 8, 40_000 >> 8]


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_transparency_is_laid_over_white(photo, kind):
    colour = np.asarray(photo.crop((0, 0, 64, 64)))
    alpha = np.arange(4096).reshape(64, 64).astype(np.uint8)
    image = Image.fromarray(np.dstack([colour, alpha]))
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    found = np.asarray(decode_image(encode(image, kind, **options), "x"), dtype=int)
    assert np.abs(found - over_white(colour, alpha)).max() <= 1
    opaque = encode(image.convert("RGB").convert("RGBA"), kind, **options)
    np.testing.assert_array_equal(decode_image(opaque, "x"), colour)
    grey = np.asarray(decode_image(encode(image.convert("LA"), kind, **options), "x"), dtype=int)
    expected = over_white(np.asarray(image.convert("L"))[..., None], alpha)
    assert np.abs(grey - expected).max() <= 1


def test_a_transparent_entry_of_a_palette_is_white(photo):
    image = photo.crop((0, 0, 64, 64)).quantize(8)
    colours = np.asarray(image.convert("RGB"))
    expected = np.where((np.asarray(image) == 3)[..., None], 255, colours)
    for kind in ("png", "gif"):
        found = decode_image(encode(image, kind, transparency=3), "x")
        np.testing.assert_array_equal(found, expected)


def kinds_of(photo: Image.Image) -> dict[str, bytes]:
    image = photo.crop((0, 0, 64, 64))
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    return {
        "0.png": png_of(DEEP[..., :1], 0),
        "1.png": png_of(DEEP[..., :3], 2),
        "2.png": encode(image.quantize(8), "png", transparency=3),
        "3.png": encode(alpha.convert("LA"), "png"),
        "4.png": encode(alpha, "png"),
        "5.JPEG": encode(image.convert("CMYK")),
        "6.JPEG": encode(image.convert("L")),
        "7.JPEG": encode(image, "png"),  # as one of ImageNet's files
        "8.png": encode(image.convert("1"), "png"),
        "9.webp": encode(alpha, "webp"),
    }


def test_a_file_gives_the_same_pixels_by_every_way_in(photo, tmp_path):
    """Folders and shards, read for training and test; packs; uploads."""
    kinds, folder = kinds_of(photo), tmp_path / "tree"
    for split in ("train", "val"):
        (folder / split / "n1").mkdir(parents=True)
        for name, data in kinds.items():
            (folder / split / "n1" / name).write_bytes(data)
    make_shards("imagenet", folder, tmp_path / "shards", processes=1, progress=False)
    expected = np.stack([np.asarray(decode_image(data, "x")) for data in kinds.values()])
    uploads = np.stack([np.asarray(read_upload(data, name).image) for name, data in kinds.items()])
    np.testing.assert_array_equal(uploads, expected)
    entries = [Entry("n1", name, name, data) for name, data in kinds.items()]
    packed = decode_entries(entries, 64, len(entries), "x")["images"]
    np.testing.assert_array_equal(packed.transpose(0, 2, 3, 1), expected)
    for place in (folder, tmp_path / "shards"):
        for split, squeezed in (("train", True), ("test", True), ("test", False)):
            images = load_dataset(
                "imagenet", split, data_dir=place, partial=True, num_workers=0, image_size=64,
                squeeze=squeezed,
            )  # fmt: skip
            for index in range(len(kinds)):
                np.testing.assert_array_equal(images.read_image(index), expected[index])
            if squeezed:  # 64 x 64 as they are
                ((pixels, _),) = images.iterate(torch.arange(len(kinds)), len(kinds), seed=0)
                np.testing.assert_array_equal(pixels.permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(Image.fromarray(np.float32(DEEP[..., 0])), "tiff"), "float32 values from 0 to"),
        (encode(Image.fromarray(np.int32(DEEP[..., 0]) * 9), "tiff"), "int32 values from 0 to"),
        (encode(Image.fromarray(-np.int32(DEEP[..., 0])), "tiff"), "int32 values from -65522 to 0"),
    ],
)
def test_values_of_more_than_16_bits_are_refused(data, reason):
    with pytest.raises(OSError, match=rf"cannot read image x\.tiff \(it holds {reason}"):
        decode_image(data, "x.tiff")


@pytest.mark.parametrize("kind", ["eps", "ppm", "ico", "jpeg2000", "pdf", "tga"])
def test_other_formats_are_not_opened(photo, kind, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)  # calling it would fail otherwise
    with pytest.raises(OSError, match=r"cannot read image x\.jpg \(it is not a PNG, JPEG, WebP"):
        decode_pixels(encode(photo.resize((60, 40)), kind), "x.jpg")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    """A pipe's reader would wait for ever."""
    (tmp_path / "val" / "n1").mkdir(parents=True)
    os.mkfifo(tmp_path / "val" / "n1" / "a.png")
    images = load_dataset("imagenet", "test", data_dir=tmp_path, partial=True, num_workers=0)
    with pytest.raises(OSError, match=r"cannot read image .*a\.png .*not a regular file"):
        images.read_bytes(0)


# Bounds


def declare(jpeg: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its header."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def test_a_huge_image_is_refused_before_it_is_decoded(photo, monkeypatch):
    def decode(*_args, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    small = encode(photo.resize((60, 40)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 8000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")
    for data, most in ((declare(small, 9000, 8000), "64,000,000"), (png, "4,194,304")):
        for read in (decode_image, decode_pixels):
            with pytest.raises(
                OSError,
                match=rf"x\.jpg \(it has 9000 x 8000 pixels; the limit is {most} .*; resize it",
            ):
                read(data, "x.jpg")
    with pytest.raises(OSError, match=r"x\.jpg \(Image size \(4225000000 pixels\)"):
        decode_pixels(declare(small, 65_000, 65_000), "x.jpg")


def test_centre_crops_are_torchvisions():
    rng = np.random.default_rng(0)
    for _ in range(60):
        width, height = rng.integers(8, 300, 2)
        if max(width, height) > 10 * min(width, height):
            continue
        size, share = int(rng.choice([16, 64])), float(rng.choice([1, 224 / 256, 0.9]))
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        theirs = Compose([Resize(math.floor(size / share)), CenterCrop(size)])(image)
        found = centre_crop(image, size, share)
        np.testing.assert_array_equal(found.permute(1, 2, 0), theirs)


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (3, 401), (331, 7), (20, 999), (60, 60)])
def test_narrow_images_and_small_shares_are_cut_first_to_the_same_pixels(shape):
    """Nearly: the ends of the part that is resized are rounded to 32 bits."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
    size, share = 32, 0.2 if shape[0] == shape[1] else 224 / 256
    theirs = Compose([Resize(math.floor(size / share)), CenterCrop(size)])(image)
    found = centre_crop(image, size, share).permute(1, 2, 0)
    assert np.abs(found.int().numpy() - np.asarray(theirs, dtype=int)).max() <= 1


@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1), (3, 500_000), (800_000, 2)])
def test_narrow_images_need_no_more_memory_than_a_photo(shape, monkeypatch):
    """In pixels of the images that Pillow makes; the whole was once enlarged to 2.6 GB."""
    made = []
    whole = Image.Image._new
    monkeypatch.setattr(
        Image.Image,
        "_new",
        lambda self, core: made.append(math.prod(core.size)) or whole(self, core),
    )

    def most(image: Image.Image) -> int:
        made.clear()
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        for cut in (
            centre_crop(image, 224),
            centre_crop(image, 224, 0.9, "bicubic"),
            squeeze(image, 224),
            random_crop(pixels, 224, np.random.default_rng(0)),
        ):
            assert cut.shape == (3, 224, 224) and (cut == cut[:, :1, :1]).all()
        return max(made)

    photo = most(Image.new("RGB", (500, 375), "red"))
    assert most(Image.new("RGB", shape, "red")) <= 20 * photo


FLAT = Image.new("RGB", (2000, 1875), "red")  # 3.75 million pixels
LARGE = {
    "jpeg": encode(FLAT, quality=95, subsampling=0),
    "jpeg of 24 million": encode(Image.new("RGB", (6000, 4000), "red")),
    "progressive": encode(FLAT, quality=95, subsampling=0, progressive=True),
    "png": encode(FLAT.resize((2048, 2048)), "png"),
    "rgba": encode(FLAT.resize((2048, 2048)).convert("RGBA"), "png"),
    "grey, alpha": encode(FLAT.resize((2048, 2048)).convert("LA"), "png"),
    "tiff": encode(FLAT.resize((2048, 2048)).convert("CMYK"), "tiff", compression="tiff_deflate"),
    "narrow": encode(FLAT.resize((60, 62_000)), "png"),
}
MEASURE = """
import io, sys, pickle
import numpy as np, torch
from nestlib.data.decoding import *
torch.set_num_threads(1)
files = pickle.load(sys.stdin.buffer)
ways = (
    lambda d: random_crop(decode_pixels(d, "x"), 224, np.random.default_rng(1)),
    lambda d: centre_crop(decode_image(d, "x"), 224),
    lambda d: squeeze(decode_image(d, "x"), 224),
)
def status(key):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key))
def peak(way, data):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    way(data)
    return status("VmHWM") - before
for name, data in files.items():
    print(name, *(peak(way, data) for way in ways), sep="\\t")
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="asks Linux")
def test_no_image_takes_more_than_20_times_the_memory_of_a_photo(photo):
    """By the peak of resident memory, in a process that has read small images of each kind."""
    small = {f"small {k}": encode(photo.resize((40, 30)), k) for k in ("jpeg", "png", "tiff")}
    files = small | {"photo": encode(photo.resize((500, 375)), quality=95)} | LARGE
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "0"}
    out = subprocess.run(
        [sys.executable, "-c", MEASURE], input=pickle.dumps(files), env=environment,
        capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    peaks = {name: list(map(int, kb)) for name, *kb in (r.split("\t") for r in out.splitlines())}
    normal = max(peaks["photo"])  # kB
    assert 700 < normal < 4000
    worst = {name: max(peaks[name]) / normal for name in LARGE}
    assert max(worst.values()) <= 20, worst


def test_a_large_jpeg_is_decoded_at_a_half_and_an_ordinary_one_as_it_is(photo, monkeypatch):
    data = encode(photo, quality=95)
    with Image.open(io.BytesIO(data)) as half:
        half.draft(None, (300, 200))
        expected = np.asarray(half.convert("RGB"))
    monkeypatch.setattr(opening, "MOST_DECODED", 600 * 400 - 1)
    assert expected.shape == (200, 300, 3)
    np.testing.assert_array_equal(decode_image(data, "x"), expected)
    np.testing.assert_array_equal(decode_pixels(data, "x").permute(1, 2, 0), expected)
    monkeypatch.setattr(opening, "MOST_DECODED", 600 * 400)
    assert decode_image(data, "x").size == (600, 400)


def test_the_book_names_the_limits_that_are_kept():
    text = " ".join((BOOK / "differences.md").read_text().partition("\n## D40: ")[2].split())
    most = f"{opening.MOST_DECODED / 1e6:g} million pixels ({opening.MOST_DECODED // opening.PHOTO}"
    for said in (f"more than {most} photos of 500 x 375)", f"{opening.MOST_KEPT / 1e6:g} million."):
        assert said in text
    reference = " ".join((BOOK / "reference.md").read_text().split())
    assert f"more than {opening.MOST_DECODED / 1e6:g} million pixels" in reference
    assert f"halved above {opening.MOST_KEPT / 1e6:g} million pixels" in reference


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
def test_the_view_of_a_halved_photo_is_that_of_the_whole(name):
    """Less than a fifth of a grey level apart on average, as D40 says, with a camera's grain."""
    image = Image.fromarray(getattr(skimage_data, name)())
    image = image.resize((2400, 2400 * image.height // image.width), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 6, (image.height, image.width, 3))
    data = encode(Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8)))
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(data)) as half:
        half.draft(None, (image.width // 2, image.height // 2))
        views = [centre_crop(one.convert("RGB"), 224).int() for one in (whole, half)]
    assert half.size == (1200, image.height // 2)
    gap = (views[0] - views[1]).abs()
    assert 0 < gap.float().mean() < 0.2 and gap.max() <= 4


def test_images_in_bands_are_those_of_one_piece(photo, monkeypatch):
    image = photo.convert("RGBA")
    image.putalpha(photo.convert("L"))
    for data in (encode(image, "png"), encode(image.convert("LA"), "png")):
        whole = np.asarray(decode_image(data, "x"))
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "BAND", 7 * 600)
            np.testing.assert_array_equal(decode_image(data, "x"), whole)
            np.testing.assert_array_equal(decode_pixels(data, "x").permute(1, 2, 0), whole)
            patch.setattr(decoding, "MOST_KEPT", 1000)
            halved = Image.fromarray(whole).reduce(2)
            np.testing.assert_array_equal(decode_image(data, "x"), halved)


def test_what_would_take_too_long_or_too_much_is_refused_by_name(photo, monkeypatch):
    texts = b"".join(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b")) for _ in range(17))
    values = np.zeros((4, 4, 3), np.uint8)
    tiled = io.BytesIO(encode(photo, "tiff"))
    with Image.open(tiled) as image:
        image.tag_v2[322] = image.tag_v2[323] = 30_000
        image.tag_v2.tagtype |= {322: 4, 323: 4}
        with pytest.raises(Image.DecompressionBombError, match="30000 x 30000"):
            opening._check_tiles(image)
    monkeypatch.setattr(opening, "MOST_SCANS", 5)
    for data, reason in (
        (png_of(values, 2, 8, texts), "it has 17 compressed texts; the limit is 16"),
        (encode(FLAT, progressive=True), "it has 10 scans; the limit is 5"),
        (encode(Image.new("L", (70_000, 1)), "png"), "it has 70,000 pixels along an edge"),
        (bytes(2**25 + 1), "it has 33,554,433 bytes; the limit is 33,554,432"),
    ):
        for read in (decode_image, decode_pixels):
            with pytest.raises(OSError, match=rf"cannot read image x \({reason}.*\); resize it"):
                read(data, "x")
    monkeypatch.setattr(opening, "MOST_SCANS", 500)
    with pytest.raises(OSError, match=r"\(it is a progressive JPEG of 8000 x 8000 .*; resize it"):
        decode_pixels(declare_progressive(8000, 8000), "x")
    assert decode_image(encode(FLAT, progressive=True), "x").size == (1000, 938)


def declare_progressive(width: int, height: int) -> bytes:
    data = encode(Image.new("RGB", (60, 40)), progressive=True)
    frame = data.index(b"\xff\xc2")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def test_32_bit_greys_below_256_are_not_black():
    values = np.arange(256, dtype=np.int32).reshape(16, 16)
    data = encode(Image.fromarray(values), "tiff")
    np.testing.assert_array_equal(np.asarray(decode_image(data, "x"))[..., 0], values)
    assert read_upload(data, "x").said == ["grey turned into RGB"]


def test_an_upload_says_that_it_was_read_smaller():
    upload = read_upload(LARGE["jpeg of 24 million"], "x.jpg")
    assert upload.said == ["6000 x 4000 pixels read as 1500 x 1000"]
