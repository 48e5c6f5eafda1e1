"""Properties of nestlib.data.augment and rand_augment, with PIL and timm as references."""

import colorsys
import random
from dataclasses import replace

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_images
from timm.data import auto_augment
from timm.data.random_erasing import RandomErasing
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import RandAugment

from nestlib.data import rand_augment as rand_augment_module
from nestlib.data.augment import augment, crop_and_flip, erase, mix, normalize
from nestlib.data.augmentation import Augmentation
from nestlib.data.rand_augment import OPS, apply_ops, color_jitter, draw_ops, rand_augment

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
LEVEL = 0.87  # of 1; the argument of every operation below is worked out from it by hand
FACTOR = 1.8 * LEVEL + 0.1
# Seeds are fixed, so that a test never fails by chance; of some thirty p-values in this file one
# below 0.01 is to be expected, and the samples are large enough to tell errors at this level.
P_MIN = 1e-3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """1,040 patches of 32 x 32 pixels from scikit-learn's two photographs, uint8 (B, 3, 32, 32)."""
    planes = torch.stack([torch.tensor(image) for image in load_sample_images().images])
    patches = planes.unfold(1, 32, 16).unfold(2, 32, 16).flatten(0, 2)  # (B, 3, 32, 32)
    return patches[torch.randperm(len(patches), generator=generator())[:1040]].contiguous()


@pytest.fixture(scope="module")
def samples(photos) -> torch.Tensor:
    """Photographs, noise, and images with few or one value, where tables degenerate."""
    noise = torch.randint(0, 256, (8, 3, 32, 32), generator=generator(), dtype=torch.uint8)
    few = (noise // 128) * 100 + 20
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    one_off = flat.clone()
    one_off[0, :, 3, 4] = 78
    return torch.cat([photos[:48], noise, few, flat, one_off])


def apply_one(images: torch.Tensor, name: str, level: float = LEVEL, sign: int = 1) -> torch.Tensor:
    batch = len(images)
    op = torch.full((batch,), OPS.index(name))
    return apply_ops(images, op, torch.full((batch,), level), torch.full((batch,), float(sign)))


def to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)


def run_pil(images: torch.Tensor, operation) -> torch.Tensor:
    return torch.stack([from_pil(operation(to_pil(image))) for image in images])


def run_augment(images, augmentation, seed=0, num_classes=10):
    labels = torch.arange(len(images)) % num_classes
    return augment(
        images,
        labels,
        augmentation,
        num_classes=num_classes,
        mean=MEAN,
        std=STD,
        generator=generator(seed),
    )


# RandAugment's operations against PIL


@pytest.mark.parametrize(
    ("name", "operation", "bound"),
    [
        ("Identity", lambda image: image, 0),
        ("Equalize", ImageOps.equalize, 0),
        ("Invert", ImageOps.invert, 0),
        ("Posterize", lambda image: ImageOps.posterize(image, 3), 0),  # int(4 * 0.87) bits
        ("Solarize", lambda image: ImageOps.solarize(image, 222), 0),  # int(256 * 0.87)
        ("SolarizeAdd", lambda image: auto_augment.solarize_add(image, 95), 0),  # int(110 * 0.87)
        # PIL truncates lo * scale + offset in floating point, which can fall short of the whole
        # number that it stands for; the enhancers may be compiled with fused multiply-adds.
        ("AutoContrast", ImageOps.autocontrast, 1),
        ("Color", lambda image: ImageEnhance.Color(image).enhance(FACTOR), 1),
        ("Contrast", lambda image: ImageEnhance.Contrast(image).enhance(FACTOR), 1),
        ("Brightness", lambda image: ImageEnhance.Brightness(image).enhance(FACTOR), 1),
        ("Sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(FACTOR), 1),
    ],
)
def test_operation_equals_pil(samples, name, operation, bound):
    ours, pil = apply_one(samples, name), run_pil(samples, operation)
    off = (ours.int() - pil.int()).abs()
    assert off.max() <= bound
    assert (off > 0).float().mean() < 0.005  # and such pixels are rare


@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 1.0])
def test_enhancement_equals_pil_at_other_levels(samples, level):
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        enhancers = [getattr(ImageEnhance, name)(to_pil(image)) for image in samples]
        pil = torch.stack([from_pil(one.enhance(1.8 * level + 0.1)) for one in enhancers])
        assert (apply_one(samples, name, level).int() - pil.int()).abs().max() <= 1


def test_levels_at_the_ends_of_the_scale(samples):
    assert torch.equal(apply_one(samples, "Posterize", 1.0), samples & 0xF0)
    assert not apply_one(samples, "Posterize", 0.0).any()
    inverted = torch.where(samples < 255, samples, 0)  # the threshold saturates at 255
    assert torch.equal(apply_one(samples, "Solarize", 1.0), inverted)
    for name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "SolarizeAdd"):
        assert torch.equal(apply_one(samples, name, 0.0), samples)


def affine(a, b, c, d, e, f):
    """PIL's nearest affine warp, with whole numbers instead of halves as pixel centres."""
    centred = (a, b, c + (1 - a - b) / 2, d, e, f + (1 - d - e) / 2)
    return lambda image: image.transform(
        image.size, Image.AFFINE, centred, resample=Image.NEAREST, fillcolor=(128,) * 3
    )


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ShearX", lambda amount: affine(1, 0.3 * amount, 0, 0, 1, 0)),
        ("ShearY", lambda amount: affine(1, 0, 0, 0.3 * amount, 1, 0)),
        ("TranslateX", lambda amount: affine(1, 0, 10 * amount, 0, 1, 0)),
        ("TranslateY", lambda amount: affine(1, 0, 0, 0, 1, 10 * amount)),
        (
            "Rotate",
            lambda amount: lambda image: image.rotate(30 * amount, fillcolor=(128,) * 3),
        ),
    ],
)
def test_warp_equals_pil(samples, name, make, sign):
    ours, pil = apply_one(samples, name, sign=sign), run_pil(samples, make(sign * LEVEL))
    # PIL's affine map has 16 fractional bits, and source pixels on an edge may fall either way.
    assert (ours != pil).float().mean() < 0.005


# What magnitudes 9 and 10 stand for, in images 32 pixels wide: here and in the published code; in
# DeiT's set, timm's "inc"; in torchvision's RandAugment. Factors are those that strengthen.
MAGNITUDES = {
    "Rotate": ((27, 30), (27, 30), (9, 10)),  # degrees, either way
    "ShearX": ((0.27, 0.3), (0.27, 0.3), (0.09, 0.1)),  # either way
    "TranslateX": ((9, 10), (12.96, 14.4), (4.35, 4.83)),  # pixels, either way
    "Posterize": ((3, 4), (1, 0), (7, 7)),  # bits kept
    "Solarize": ((230, 255), (26, 0), (178.5, 170)),  # values from here on are inverted
    "Color": ((1.72, 1.9), (1.81, 1.9), (1.27, 1.3)),  # here always; theirs weaken as often
}
TIMMS_INC = {"Rotate": ("Rotate", 1), "ShearX": ("ShearX", 1), "TranslateX": ("TranslateXRel", 32)}
BY_PIL = {
    "Rotate": lambda x: lambda image: image.rotate(x, fillcolor=(128,) * 3),
    "ShearX": lambda x: affine(1, x, 0, 0, 1, 0),
    "TranslateX": lambda x: affine(1, 0, x, 0, 1, 0),
    "Posterize": lambda x: lambda image: ImageOps.posterize(image, x),
    "Solarize": lambda x: lambda image: ImageOps.solarize(image, x),
    "Color": lambda x: lambda image: ImageEnhance.Color(image).enhance(x),
}


@pytest.mark.parametrize("name", MAGNITUDES)
@pytest.mark.parametrize("magnitude", [9, 10])
def test_magnitudes_here_and_in_other_libraries(samples, name, magnitude):
    ours, timms, torchvisions = (column[magnitude - 9] for column in MAGNITUDES[name])
    changed = apply_one(samples, name, magnitude / 10)
    off = (changed.int() - run_pil(samples, BY_PIL[name](ours)).int()).abs() > 1
    assert off.float().mean() < 0.005

    timms_name, unit = TIMMS_INC.get(name, (f"{name}Increasing", 1))
    (found,) = auto_augment.LEVEL_TO_ARG[timms_name](magnitude, {})  # of either sign
    found = 1 + abs(found - 1) if name == "Color" else abs(found) * unit
    assert found == pytest.approx(timms)

    space = RandAugment(magnitude=magnitude)._augmentation_space(31, (32, 32))
    found = space[name][0][magnitude].item() + (name == "Color")
    assert found == pytest.approx(torchvisions, rel=2e-3)


def test_deits_set_of_timm_can_ask_pillow_for_no_bits():
    """book/reference.md warns of it, and names a set that asks for one bit at least."""
    image, hparams = Image.new("RGB", (4, 4), (200, 90, 7)), {"magnitude_std": 0.0}
    keep_none = auto_augment.AugmentOp("PosterizeIncreasing", 1.0, 10, dict(hparams))
    if int(PIL.__version__.split(".")[0]) >= 13:
        with pytest.raises(ValueError, match="bits must be between"):
            keep_none(image)
    else:
        assert keep_none(image).getextrema() == ((0, 0),) * 3
    capped = auto_augment.rand_augment_transform("rand-m9-mmax9-mstd0.5-inc1", {})
    (posterize,) = (op for op in capped.ops if op.name == "PosterizeIncreasing")
    assert posterize.magnitude_max == 9 and posterize.level_fn(9, {}) == (1,)
    assert Augmentation().rand_augment_magnitude == 9


def test_translation_scales_with_the_side():
    for side, pixels in ((32, 10), (64, 19), (96, 30), (128, 40), (224, 100)):
        columns = torch.arange(side, dtype=torch.uint8).expand(1, 3, side, side)
        moved = apply_one(columns, "TranslateX", 1.0)
        assert torch.equal(moved[..., : side - pixels], columns[..., pixels:])
        assert (moved[..., side - pixels :] == 128).all()


def test_each_image_gets_its_own_operation(samples):
    op = torch.arange(len(samples)) % len(OPS)
    level = torch.linspace(0, 1, len(samples))
    sign = torch.where(op % 3 == 0, -1.0, 1.0)
    together = apply_ops(samples, op, level, sign)
    for i in range(len(samples)):
        alone = apply_ops(samples[i : i + 1], op[i : i + 1], level[i : i + 1], sign[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


# What RandAugment draws


def test_operations_are_uniform():
    num_draws = 40_000
    op, _, sign = draw_ops(num_draws, Augmentation(), generator())
    observed = torch.bincount(op, minlength=len(OPS)).numpy()
    expected = np.full(len(OPS), 0.5 * num_draws / len(OPS))
    expected[OPS.index("Identity")] += 0.5 * num_draws
    assert stats.chisquare(observed, expected).pvalue > P_MIN
    assert stats.binomtest(int((sign > 0).sum()), num_draws).pvalue > P_MIN
    assert set(sign.unique().tolist()) == {-1.0, 1.0}


def test_levels_follow_the_clipped_normal_distribution():
    _, level, _ = draw_ops(40_000, Augmentation(), generator())
    inner = level[level < 1].numpy()
    cut = stats.truncnorm(-18, 2, loc=0.9, scale=0.05)  # 9 +- 0.5 of 10, cut at 2 deviations
    assert stats.kstest(inner, cut.cdf).pvalue > P_MIN
    clipped = 1 - len(inner) / len(level)
    assert clipped == pytest.approx(stats.norm.sf(2), abs=0.003)
    steady = Augmentation(rand_augment_magnitude_std=0.0, rand_augment_prob=1.0)
    fixed = draw_ops(8, steady, generator())[1]
    assert torch.allclose(fixed, torch.tensor(0.9))


@pytest.mark.parametrize("name", [name for name in OPS if name != "Identity"])
def test_operation_changes_photos_as_timm_does(photos, name):
    """The same operation, each photo at its own drawn level: statistics over 520 photos."""
    random.seed(0)
    hparams = {"magnitude_std": 0.5, "translate_const": 10, "img_mean": (128,) * 3}
    hparams["interpolation"] = Image.NEAREST  # timm's own default draws bilinear or bicubic
    timm_op = auto_augment.AugmentOp(name, prob=1.0, magnitude=9, hparams=hparams)
    half = photos[:520]
    theirs = run_pil(half, timm_op)
    op = torch.full((len(half),), OPS.index(name))
    _, level, sign = draw_ops(len(half), Augmentation(), generator())
    ours = apply_ops(half, op, level, sign)
    for statistic in (
        lambda out: out.float().mean((1, 2, 3)),
        lambda out: out.float().std((1, 2, 3)),
        lambda out: (out.float() - half.float()).abs().mean((1, 2, 3)),
    ):
        off = statistic(ours) - statistic(theirs)
        # Paired by photo. 0.2 grey levels are for PIL's rounding, and for timm's shear, which has
        # its fixed point half a pixel off ours.
        assert off.mean().abs() < 4 * off.std() / len(off) ** 0.5 + 0.2


def test_whole_stage_matches_timm(photos):
    """Two layers of all operations; timm has no Identity, hence 15 / 16 of our probability."""
    random.seed(0)
    np.random.seed(0)
    hparams = {"magnitude_std": 0.5, "translate_const": 10, "img_mean": (128,) * 3}
    hparams["interpolation"] = Image.NEAREST
    ops = [
        auto_augment.AugmentOp(name, prob=0.5 * 15 / 16, magnitude=9, hparams=hparams)
        for name in OPS
        if name != "Identity"
    ]
    theirs = run_pil(photos, auto_augment.RandAugment(ops, num_layers=2))
    ours = rand_augment(photos, Augmentation(), generator())
    unchanged = [(out == photos).flatten(1).all(1).numpy().mean() for out in (ours, theirs)]
    assert unchanged[0] == pytest.approx(unchanged[1], abs=0.06)  # 3 standard errors
    for statistic in (
        lambda out: out.float().mean((1, 2, 3)),
        lambda out: out.float().std((1, 2, 3)),
        lambda out: (out.float() - photos.float()).abs().mean((1, 2, 3)),
    ):
        off = statistic(ours) - statistic(theirs)
        assert off.mean().abs() < 3 * off.std() / len(off) ** 0.5
    one_pixel = [out[:, 1, 8, 8].numpy() for out in (ours, theirs)]
    assert stats.ks_2samp(*one_pixel).pvalue > P_MIN


# Crop, flip, jitter, erasing


def test_without_padding_whole_images_are_flipped_and_torch_keeps_its_threads():
    batch = torch.randint(0, 256, (1000, 3, 5, 7), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        out = crop_and_flip(batch, 0, 0.5, generator())
        normal = normalize(out, MEAN, STD)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    flipped = (out == batch.flip(-1)).flatten(1).all(1)
    same = (out == batch).flatten(1).all(1)
    assert (flipped ^ same).all() and normal.shape == batch.shape
    assert stats.binomtest(int(flipped.sum()), len(out)).pvalue > P_MIN


def test_crops_and_flips_are_uniform():
    rows = torch.arange(1, 33, dtype=torch.uint8)[:, None].expand(32, 32)
    image = torch.stack([rows, rows.T, rows.T])
    batch = image.expand(20_000, -1, -1, -1)
    out = crop_and_flip(batch, 2, 0.5, generator())
    top = out[:, 0, 16, 16].int() - 17
    left, right = out[:, 1, 16, 15].int(), out[:, 1, 16, 16].int()
    flipped = left > right
    shift = torch.where(flipped, right, left) - 16
    counts = torch.bincount((top + 2) * 5 + (shift + 2), minlength=25)
    assert len(counts) == 25 and stats.chisquare(counts.numpy()).pvalue > P_MIN
    assert stats.binomtest(int(flipped.sum()), len(out)).pvalue > P_MIN
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    for i in range(200):
        y, x = 2 + top[i], 2 + shift[i]
        crop = padded[:, y : y + 32, x : x + 32]
        assert torch.equal(out[i], crop.flip(2) if flipped[i] else crop)


def test_color_jitter_changes_hue_and_saturation_as_hsv():
    """A single flat image: contrast then does nothing, so that HSV tells what was drawn."""
    image = torch.tensor([120, 60, 90], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    out = color_jitter(image.expand(4000, -1, -1, -1), 0.3, generator())
    assert (out == out[:, :, :1, :1]).all()  # flat images stay flat
    colors = out[:, :, 0, 0]
    is_grey = (colors == colors[:, :1]).all(1)
    same = (colors == image[:, 0, 0]).all(1)
    assert is_grey.float().mean() == pytest.approx(0.2, abs=0.02)
    assert same.float().mean() == pytest.approx(0.2 * 0.8, abs=0.02)
    hue, saturation, value = (
        np.array([colorsys.rgb_to_hsv(*(color / 255)) for color in colors[~is_grey].numpy()])
    ).T
    turn = hue - colorsys.rgb_to_hsv(120, 60, 90)[0]
    # Uniform within +-0.06 of a turn and 1 +- 0.24, up to one grey level of truncation.
    assert 0.055 < np.abs(turn).max() < 0.065 and abs(turn.mean()) < 0.003
    assert saturation.min() == pytest.approx(0.5 * 0.76, abs=0.02)
    assert saturation.max() == pytest.approx(0.5 * 1.24, abs=0.02)
    assert value.min() * 255 == pytest.approx(120 * 0.76, abs=2)
    assert value.max() * 255 == pytest.approx(120 * 1.24, abs=2)


def test_color_jitter_of_strength_zero_only_turns_grey(samples):
    out = color_jitter(samples, 0.0, generator())
    is_grey = (out == out[:, :1]).flatten(1).all(1)
    # A change by nothing may still lose a level where float32 truncates just below the value.
    assert (out[~is_grey].int() - samples[~is_grey].int()).abs().max() <= 1
    grey = run_pil(samples, lambda image: image.convert("L").convert("RGB"))
    assert (out[is_grey].int() - grey[is_grey].int()).abs().max() <= 1


def erased_boxes(erased: torch.Tensor):
    """Heights, widths, and whether the border is free, of the boxes of the (B, H, W) masks."""
    height, width = erased.any(2).sum(1), erased.any(1).sum(1)
    assert torch.equal(height * width, erased.sum((1, 2)))  # one full box each
    edge = erased[:, 0].any(1) | erased[:, -1].any(1)
    edge |= erased[:, :, 0].any(1) | erased[:, :, -1].any(1)
    return height, width, ~edge


def test_erasing_probability_and_noise():
    images = torch.full((4000, 3, 16, 16), 99.0)
    out = erase(images, 0.25, generator())
    erased = (out != 99).any(1)
    assert torch.equal(erased, (out != 99).all(1))  # all channels of a pixel together
    assert erased.flatten(1).any(1).float().mean() == pytest.approx(0.25, abs=0.02)
    noise = out[out != 99]
    assert stats.kstest(noise[:20_000].numpy(), "norm").pvalue > P_MIN
    pixels = out.movedim(1, -1)[erased]  # (pixels, 3): each channel draws its own
    assert torch.corrcoef(pixels.T).sub(torch.eye(3)).abs().max() < 0.02


def test_erased_areas_follow_the_published_rule():
    """Against a scalar simulation: box centred anywhere, clipped at the border."""
    erased = (erase(torch.zeros(4000, 1, 32, 32), 1.0, generator()) != 0)[:, 0]
    rng, areas = np.random.default_rng(0), []
    for _ in range(4000):
        area, aspect = rng.uniform(0.02, 1 / 3), np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))
        sides = 32 * np.sqrt(area * aspect), 32 * np.sqrt(area / aspect)
        covered = [
            sum(abs(pixel - middle) < side / 2 for pixel in range(32))
            for side, middle in zip(sides, rng.uniform(0, 32, 2), strict=True)
        ]
        areas.append(covered[0] * covered[1])
    ours = erased.sum((1, 2)).numpy()
    assert stats.ks_2samp(ours, areas).pvalue > P_MIN
    assert ours.mean() / 1024 == pytest.approx(0.13, abs=0.01)  # clipped; 0.177 as drawn


def test_unclipped_erased_boxes_match_timm():
    """timm redraws until the box fits, so ours are weighted by one over their chance to fit."""
    random.seed(0)
    torch.manual_seed(0)
    timm_erase = RandomErasing(probability=1.0, mode="pixel", device="cpu")
    theirs = (timm_erase(torch.zeros(3000, 1, 64, 64)) != 0)[:, 0]
    ours = (erase(torch.zeros(6000, 1, 64, 64), 1.0, generator()) != 0)[:, 0]
    height, width, free = erased_boxes(ours)
    free &= (height < 48) & (width < 48)  # larger ones hardly ever fit, and weigh too much
    weight = free / ((63.0 - height) * (63.0 - width)).clamp(min=1)
    their_height, their_width, _ = erased_boxes(theirs)
    kept = (their_height < 48) & (their_width < 48)
    for measure in (lambda h, w: h * w / 4096, lambda h, w: (h / w).log().abs()):
        our_mean = (weight * measure(height, width).nan_to_num(0, 0, 0)).sum() / weight.sum()
        their_mean = measure(their_height, their_width)[kept].float().mean()
        assert our_mean == pytest.approx(their_mean.item(), rel=0.04)


# MixUp and CutMix

BATCH = 64
# Image i is i everywhere, so that a mixed pixel tells where it is from.
TELL_TALE = torch.arange(float(BATCH))[:, None, None, None].expand(-1, 3, 32, 32)


def run_mix(draws: torch.Generator, **changes):
    augmentation = replace(Augmentation(), **changes)
    return mix(TELL_TALE, torch.eye(BATCH), augmentation, draws)


def is_cutmix(images: torch.Tensor) -> bool:
    return bool((images == images.round()).all())


def test_cutmix_target_is_the_area_really_there():
    draws = generator()
    for _ in range(20):
        images, targets = run_mix(draws, mixup_alpha=0.0)
        assert torch.allclose(targets.sum(1), torch.ones(BATCH))
        for i in range(BATCH):
            own = (images[i] == i).float().mean()
            assert targets[i, i] == pytest.approx(own.item(), abs=1e-6)
            partner = BATCH - 1 - i
            assert targets[i, partner] == pytest.approx(1 - own.item(), abs=1e-6)
            assert ((images[i] == i) | (images[i] == partner)).all()
        erased_boxes((images != torch.arange(BATCH)[:, None, None, None])[:, 0])  # are full boxes


def test_mixup_target_is_the_share_of_the_image():
    images, targets = run_mix(generator(), cutmix_alpha=0.0)
    assert torch.allclose(targets.sum(1), torch.ones(BATCH))
    assert (images == images[:, :1, :1, :1]).all()
    assert torch.allclose(images[:, 0, 0, 0], targets @ torch.arange(float(BATCH)), atol=1e-4)
    partners = (targets - torch.diag(targets.diag())).bool()
    assert (partners.sum(0) <= 1).all() and (partners.sum(1) <= 1).all()  # a permutation


def test_mix_weights_are_distributed_as_documented():
    draws = generator()
    published = torch.cat([run_mix(draws, cutmix_alpha=0.0)[1].diag() for _ in range(40)])
    others = published[published < 1]  # 1: an image that met itself
    # The partner's share is u^(1 / alpha) / 2, whose distribution function is (2 s)^alpha.
    assert stats.kstest(1 - others.numpy(), lambda s: (2 * s) ** 0.8).pvalue > P_MIN


def test_kind_and_probability_of_mixing():
    kinds = {"cutmix": 0, "mixup": 0, "none": 0}
    draws = generator()
    for _ in range(600):
        images, targets = run_mix(draws, mix_prob=0.7)
        if torch.equal(images, TELL_TALE):
            assert torch.equal(targets, torch.eye(BATCH))
            kinds["none"] += 1
        else:
            kinds["cutmix" if is_cutmix(images) else "mixup"] += 1
    assert stats.chisquare(list(kinds.values()), [210, 210, 180]).pvalue > P_MIN
    assert all(is_cutmix(run_mix(draws, mixup_alpha=0.0)[0]) for _ in range(10))
    assert not any(is_cutmix(run_mix(draws, cutmix_alpha=0.0)[0]) for _ in range(10))


# The whole


def test_none_is_normalisation_and_one_hot(samples):
    images, targets = run_augment(samples, Augmentation.none())
    assert torch.equal(images, normalize(samples, MEAN, STD))
    labels = torch.arange(len(samples)) % 10
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 10).float())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    assert torch.allclose(images, (samples / 255 - mean) / std, atol=1e-6)


def test_targets_are_smoothed_evenly(samples):
    _, targets = run_augment(samples, replace(Augmentation.none(), label_smoothing=0.1))
    assert torch.allclose(targets.amax(1), torch.tensor(0.91))
    assert torch.allclose(targets.amin(1), torch.tensor(0.01))
    _, mixed = run_augment(samples, Augmentation())
    assert torch.allclose(mixed.sum(1), torch.ones(len(samples)), atol=1e-6)


FULL = Augmentation(color_jitter=0.3)


def test_only_the_generator_decides(samples):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run_augment(samples, FULL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, third = run_augment(samples, FULL), run_augment(samples, FULL, seed=1)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_each_image_draws_its_own(photos):
    copies = photos[:1].expand(256, -1, -1, -1)
    unmixed = replace(Augmentation(), mix_prob=0.0)
    for augmentation, at_least in (
        (unmixed, 200),
        (replace(Augmentation.none(), crop_padding=2, flip=0.5), 45),  # of 50 possible
        (replace(Augmentation.none(), rand_augment_ops=2), 90),  # many ops have no level
        (replace(Augmentation.none(), color_jitter=0.3), 200),
        (replace(Augmentation.none(), erase_prob=0.25), 40),
    ):
        images, _ = run_augment(copies, augmentation)
        assert len(images.flatten(1).unique(dim=0)) >= at_least


def test_inputs_are_left_alone(samples):
    before = samples.clone()
    run_augment(samples, FULL)
    assert torch.equal(samples, before)


@pytest.mark.parametrize("size", [(1, 32, 32), (7, 24, 40), (2, 224, 224), (3, 8, 8)])
def test_any_size_and_batch(size):
    batch, height, width = size
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    out, targets = run_augment(images, FULL)
    assert out.shape == images.shape and out.dtype == torch.float32 and out.isfinite().all()
    assert targets.shape == (batch, 10) and targets.dtype == torch.float32


def test_no_value_is_read_back(samples, monkeypatch):
    """Fake tensors hold no values: .item(), .nonzero() or a mask as index would raise."""
    monkeypatch.setattr(rand_augment_module, "_sees_draws", lambda images: False)  # as on a GPU
    arguments = {"num_classes": 10, "mean": MEAN, "std": STD, "generator": torch.Generator()}
    with FakeTensorMode() as mode:
        labels = torch.zeros(len(samples), dtype=torch.int64)
        out, targets = augment(mode.from_tensor(samples), labels, FULL, **arguments)
    assert out.shape == samples.shape and targets.shape == (len(samples), 10)


def test_those_that_drew_a_kind_are_changed_as_if_all_were_run(samples, monkeypatch):
    """Every operation, on all images (as on a GPU) and on the chosen ones, bit for bit."""
    op = torch.arange(len(samples)) % len(OPS)
    level = torch.linspace(0, 1, len(samples))
    sign = 1.0 - 2 * (torch.arange(len(samples)) // len(OPS) % 2)
    chosen = apply_ops(samples, op, level, sign)
    kept = apply_ops(samples, torch.full_like(op, OPS.index("Identity")), level, sign)
    monkeypatch.setattr(rand_augment_module, "_sees_draws", lambda images: False)
    assert torch.equal(chosen, apply_ops(samples, op, level, sign))
    assert torch.equal(kept, samples) and not torch.equal(chosen, samples)
    named = [name for names in rand_augment_module.KINDS.values() for name in names]
    assert sorted([*named, "Identity"]) == sorted(OPS)  # each operation is of one kind


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_is_never_waited_for(samples):
    images, labels = samples.cuda(), torch.zeros(len(samples), dtype=torch.int64, device="cuda")
    cuda_generator = torch.Generator("cuda").manual_seed(0)
    arguments = {"num_classes": 10, "mean": MEAN, "std": STD, "generator": cuda_generator}
    augment(images, labels, FULL, **arguments)  # loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(images, labels, FULL, **arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    op, level, sign = draw_ops(len(samples), Augmentation(), generator())
    on_gpu = apply_ops(images, op.cuda(), level.cuda(), sign.cuda()).cpu()
    assert (on_gpu != apply_ops(samples, op, level, sign)).float().mean() < 0.001


# Errors


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_padding", -1),
        ("crop_padding", 1.5),
        ("crop_padding", True),
        ("flip", 1.1),
        ("flip", float("nan")),
        ("rand_augment_ops", 2.0),
        ("rand_augment_magnitude", 11),
        ("rand_augment_magnitude_std", float("inf")),
        ("rand_augment_prob", -0.5),
        ("color_jitter", 2),
        ("erase_prob", "often"),
        ("mixup_alpha", -1),
        ("cutmix_alpha", None),
        ("mix_prob", 2),
        ("mix_weights", "gamma"),
        ("mix_weights", "beta"),
        ("label_smoothing", 1.5),
    ],
)
def test_invalid_field_raises_with_its_name_and_value(field, value):
    with pytest.raises(ValueError) as error:
        Augmentation(**{field: value})
    message = str(error.value)
    assert message.startswith(f"augmentation: {field} is {value!r}, must be ")


def test_invalid_batches_raise(samples):
    labels = torch.zeros(len(samples), dtype=torch.int64)
    arguments = {"num_classes": 10, "mean": MEAN, "std": STD, "generator": generator()}
    with pytest.raises(ValueError, match=r"torch.float32.*must be uint8"):
        augment(samples.float(), labels, FULL, **arguments)
    with pytest.raises(ValueError, match=r"\(5,\).*one for each image"):
        augment(samples, labels[:5], FULL, **arguments)
    with pytest.raises(ValueError, match="on one device"):
        augment(samples.to("meta"), labels, FULL, **arguments)
