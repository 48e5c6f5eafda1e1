"""Generators: the shapes and sizes of Table A4, what hears of what, and torch's own un-sampling."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from nestlib.models import create_generator, list_generators
from nestlib.models.blocks import block, unblock
from nestlib.models.deaggregation import UNSAMPLINGS, BlockDeAggregation
from nestlib.models.generator import NesTDecoder

NARROW = {
    "nest_decoder": {"embed_dim": 64, "depths": (1, 1, 1), "latent_dim": None},
    "transgan": {"embed_dim": 64, "depths": (1, 1, 1), "latent_dim": 16},
    "sagan_convnet": {"base_channels": 4, "latent_dim": 16},
}


def narrow(name="nest_decoder", **options):
    torch.manual_seed(0)
    return create_generator(name, img_size=32, **{**NARROW[name], **options})


def count(model):
    return sum(p.numel() for p in model.parameters())


def transformer_layers(dim, depth):
    """Norms, queries, keys, values, projection and an MLP of four times the width, with biases."""
    return depth * (2 * 2 * dim + 3 * (dim * dim + dim) + dim * dim + dim + 8 * dim * dim + 5 * dim)


# Table A4 from the input: width, layers, blocks.
TABLE_A4 = ((1024, 5, 1), (256, 3, 4), (64, 3, 16), (16, 2, 64))


def test_table_a4():
    with torch.device("meta"):
        model = create_generator("nest_decoder", img_size=64, latent_dim=None)
        outputs = model.features(torch.empty(2, 8 * 8 * 1024))
        images = model(torch.empty(2, 8 * 8 * 1024))
    assert list(outputs) == [3, 2, 1, 0]  # "forward direction is 4 to 1"
    for (width, layers, blocks), (level, out) in zip(TABLE_A4, outputs.items(), strict=True):
        assert out.shape == (2, blocks, 64, width)
        assert len(model.hierarchies[level]) == layers
        assert all(layer.attn.num_heads == 4 for layer in model.hierarchies[level])
    assert images.shape == (2, 3, 64, 64)
    expected = sum(transformer_layers(d, depth) + t * 64 * d for d, depth, t in TABLE_A4)
    assert count(model) == expected + 2 * 16 + (3 * 16 + 3)  # LayerNorm, Conv1x1; PS has no weights


def test_fewer_hierarchies_make_smaller_images():
    """Blocks grow by four a hierarchy and their length stays; 32x32 has one hierarchy fewer."""
    for img_size, widths in ((16, (1024, 256)), (32, (1024, 256, 64))):
        with torch.device("meta"):
            model = create_generator("nest_decoder", img_size=img_size)
            outputs = model.features(torch.empty(1, model.latent_dim)).values()
        assert [out.shape[1:] for out in outputs] == [
            (4**i, 64, width) for i, width in enumerate(widths)
        ]


def test_capacities_match():
    """NesT has the weights of TransGAN and one LayerNorm more, the layer at the noise included."""
    with torch.device("meta"):
        transgan = create_generator("transgan", img_size=64)
        nest = create_generator("nest_decoder", img_size=64)
        plain = create_generator("nest_decoder", img_size=64, latent_dim=None)
    assert count(nest) == count(transgan) + 2 * 16
    assert count(nest) - count(plain) == (256 + 1) * 8 * 8 * 1024
    layers = sum(transformer_layers(d, depth) for d, depth, _ in TABLE_A4)
    positions = sum((8 * 2**i) ** 2 * d for i, (d, _, _) in enumerate(TABLE_A4))
    assert count(transgan) == 257 * 65536 + layers + positions + 3 * 16 + 3


def test_sagan_convnet_parameters():
    """Counted from the table of its public code: blocks of Conv3x3, Conv3x3 and Conv1x1."""
    with torch.device("meta"):
        model = create_generator("sagan_convnet", img_size=64)
    total = 129 * 4 * 4 * 1024
    for a, b in pairwise((1024, 1024, 512, 256, 128)):
        total += (9 * a * b + b) + (9 * b * b + b) + (a * b + b) + 2 * (a + b)
    assert count(model) == total + 2 * 128 + (9 * 128 * 3 + 3)


@pytest.mark.parametrize("name", list_generators())
def test_in_eval_mode_an_image_follows_from_its_own_noise(name):
    model = narrow(name).eval()
    noise = torch.randn(3, model.latent_dim)
    changed = noise.clone()
    changed[1] = torch.randn(model.latent_dim)
    with torch.no_grad():
        before, after = model(noise), model(changed)
    assert before.shape == (3, 3, 32, 32)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] - after[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in list_generators()), ("nest_decoder", {"latent_dim": 8}),
     *(("nest_decoder", {"unsampling": unsampling}) for unsampling in UNSAMPLINGS)],
)  # fmt: skip
def test_every_parameter_gets_gradient(name, options):
    model = narrow(name, **options)
    out = model(torch.randn(4, model.latent_dim))
    (out * torch.randn_like(out)).sum().backward()  # spectral norm: a plain sum may be blind
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("qkv.bias"):
            continue  # the key's part of it cancels in the softmax
        if name == "sagan_convnet" and parameter_name.endswith(("bias", "embed.bias")):
            continue  # a batch norm that follows takes a bias out again
        grad = parameter.grad
        assert grad is not None and grad.abs().sum() > 0, parameter_name


def test_blocks_hear_of_each_other_only_through_convolutions():
    """A change of one block of the middle hierarchy: by PS it stays in its quarter of the image."""
    for unsampling, reach in (("PS", 0), ("NN", 0), ("PS-C3", 1), ("C3-NN", 2)):
        model = narrow(unsampling=unsampling).eval()
        x = torch.randn(1, 4, 64, 16)  # (B, T, N, C), the input of level 1
        changed = x.clone()
        changed[:, 0] += torch.randn(64, 16)
        with torch.no_grad():
            first, second = (run_from(model, 1, y) for y in (x, changed))
        moved = (first - second).abs().amax((0, 1)) > 0
        assert moved[:16, :16].all()
        # What C3 carries over the edge then moves the whole block of 8x8 that it falls into.
        edge = 16 if reach == 0 else 24
        assert not moved[edge:].any() and not moved[:, edge:].any()
        assert moved[16:24, :16].any() == (reach > 0)


def run_from(model, level, x):
    """The image that `x`, as the input of `level`, becomes."""
    for at in range(level, -1, -1):
        y = model.hierarchies[at](x + model.pos_embeds[at])
        x = model.deaggregations[at - 1](y, model.grids[at]) if at else y
    return model.head(unblock(model.norm(x), model.grids[0]).permute(0, 3, 1, 2))


def test_positions_of_a_block_all_hear_of_each_other():
    """The top hierarchy has one block: one changed position of the noise moves the whole image."""
    model = narrow().double().eval()
    noise = torch.randn(1, model.latent_dim, dtype=torch.float64)
    changed = noise.clone()
    changed[:, :64] = torch.randn(64)  # the first position's values
    with torch.no_grad():
        assert ((model(noise) - model(changed)).abs().amax(1) > 0).all()


@pytest.mark.parametrize("unsampling", UNSAMPLINGS)
def test_deaggregation_is_torchs_unsampling_of_the_plane(unsampling):
    torch.manual_seed(0)
    module, grid = BlockDeAggregation(16, 4, unsampling), (2, 2)
    x = torch.randn(2, 4, 9, 16)
    plane = unblock(x, grid).permute(0, 3, 1, 2)  # (B, 16, 6, 6)
    steps = {
        "PS": lambda y: F.pixel_shuffle(y, 2),
        "NN": lambda y: y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3),
        "C3": lambda y: F.conv2d(y, *parameters(module, 3), padding=1),
        "C1": lambda y: F.conv2d(y, *parameters(module, 1)),
    }
    expected = plane
    for step in [*unsampling.split("-"), *(["C1"] if unsampling == "NN" else [])]:
        expected = steps[step](expected)
    out = module(x, grid)
    assert out.shape == (2, 16, 9, 4)
    torch.testing.assert_close(unblock(out, (4, 4)), expected.permute(0, 2, 3, 1))
    assert torch.equal(block(unblock(out, (4, 4)), 3), out)


def parameters(module, kernel_size):
    (conv,) = (m for m in module.modules() if getattr(m, "kernel_size", 0) == (kernel_size,) * 2)
    return conv.weight, conv.bias


def test_transgan_attends_over_the_whole_image():
    """One block of all pixels at every stage: a changed position embedding at the image side moves
    every pixel, where NesT's moves its block alone."""
    moved = {}
    for name in ("transgan", "nest_decoder"):
        model = narrow(name).eval()
        noise = torch.randn(1, model.latent_dim)
        with torch.no_grad():
            before = model(noise)
            model.pos_embeds[0][0, 0, 0] += torch.randn(model.pos_embeds[0].shape[-1])
            moved[name] = ((model(noise) - before).abs().amax((0, 1)) > 0).sum().item()
    assert moved == {"transgan": 32 * 32, "nest_decoder": 8 * 8}


def test_noise_can_be_reshaped_alone():
    """Without `latent_dim` no weights come before the first layer."""
    model = narrow(latent_dim=None)
    assert model.latent_dim == 64 * 64 and not list(model.embed.parameters())
    assert narrow(latent_dim=8).embed.weight.shape == (64 * 64, 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: create_generator("gan", img_size=64), "no generator 'gan'; .*valid: nest_decoder"),
        (lambda: create_generator("nest_decoder", img_size=48), "make images of 16, 32, 64"),
        (lambda: narrow(unsampling="bilinear"), "no unsampling 'bilinear'; .*valid: PS, PS-C3"),
        (lambda: narrow(embed_dim=40), "embed_dim 40 does not fall by four 2 times.*of 16"),
        (lambda: narrow(depths=(1, 1)), "one entry per hierarchy each"),
        (lambda: narrow(latent_dim=0), "latent_dim is 0, must be .*at least 1 .*or None"),
        (lambda: narrow(num_heads=3), "width 4 does not divide into 3 heads"),
        (lambda: NesTDecoder(16, (8, 16), (2, 2), (1, 1)), "width 16 a quarter of it, not 8"),
        (lambda: NesTDecoder(31), "images of 31x31 pixels do not divide"),
        (lambda: create_generator("transgan", img_size=48), "img_size 48: choose 16, 32, 64"),
        (lambda: narrow("transgan", depths=(1,)), "32 pixels take 3 stages"),
        (lambda: create_generator("sagan_convnet", img_size=48), "choose 8, 16, 32, 64, 128"),
        (lambda: narrow("sagan_convnet", base_channels=0), "base_channels is 0, must be"),
    ],
)  # fmt: skip
def test_bad_options_say_what_would_be_valid(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="embed_dims"):
        create_generator("transgan", img_size=32, embed_dims=3)


def test_pixel_shuffle_takes_any_width_with_a_convolution():
    x = torch.randn(1, 1, 4, 12)
    assert BlockDeAggregation(12, 5, "C3-PS")(x, (1, 1)).shape == (1, 4, 4, 5)
    assert BlockDeAggregation(12, 5, "PS-C3")(x, (1, 1)).shape == (1, 4, 4, 5)
    assert math.prod(BlockDeAggregation(12, 5, "NN")(x, (1, 1)).shape) == 80
