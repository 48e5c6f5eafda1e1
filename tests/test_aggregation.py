"""Every block aggregation of figures 5 and A1: what it computes, and who hears whom."""

from functools import partial

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import PatchMerging
from torch.utils._python_dispatch import TorchDispatchMode

from nestbook.architecture import count_heard, crosses
from nestbook.report.aggregations import aggregations_table
from nestlib.models import create_model
from nestlib.models.aggregation import (
    AGGREGATIONS,
    DEFAULT,
    PADDINGS,
    PLANES,
    BlockAggregation,
)
from nestlib.models.blocks import block, unblock
from nestlib.models.nest import NesT, TransformerLayer

GRID, N = (4, 2), 16  # 16x8 patches


def aggregation(design, dim=6, out_dim=6, plane="image", padding="same"):
    torch.manual_seed(0)
    made = BlockAggregation(dim, out_dim, padding, design, plane)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def patches(dim=6):
    return torch.randn(2, GRID[0] * GRID[1], N, dim, generator=torch.Generator().manual_seed(1))


class _PooledPlanes(TorchDispatchMode):
    """Notes of each plane that a pool is given whether its channels lie last in memory."""

    def __init__(self):
        super().__init__()
        self.last = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "pool" in func.overloadpacket.__name__:
            self.last.append(args[0].is_contiguous(memory_format=torch.channels_last))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("plane", PLANES)
def test_every_pool_meets_channels_last(plane, padding):
    """So no design is timed with a slow pool: with channels first torch 2.14's max-pool takes more
    than ten times as long on a CPU."""
    for design in AGGREGATIONS:
        merge = aggregation(design, 6, 12, plane, padding)
        for dtype in (torch.float32, torch.bfloat16):
            with _PooledPlanes() as planes:
                merge.to(dtype)(patches().to(dtype), GRID)
            pools = [step for step in merge.steps if step.kind in ("max", "average")]
            assert planes.last == [True] * len(pools), design


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("design", AGGREGATIONS)
def test_information_flows_as_stated(design, plane):
    """Between groups that do not merge: on the image plane where the design says so, never on the
    block plane; within a group always."""
    expected = AGGREGATIONS[design].crosses and plane == "image"
    assert crosses(design, plane) == expected
    assert count_heard(design, plane).diagonal().all()


@pytest.mark.parametrize("design", AGGREGATIONS)
def test_one_step_halves_the_plane(design):
    halving = [step for step in AGGREGATIONS[design].steps if step.stride == 2]
    assert len(halving) == 1


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("design", AGGREGATIONS)
def test_planes_are_one_function_just_where_nothing_crosses(design, padding):
    image, group = (aggregation(design, plane=plane, padding=padding) for plane in PLANES)
    group.load_state_dict(image.state_dict())
    x = patches()
    difference = (image(x, GRID) - group(x, GRID)).abs().max()
    assert (difference > 1e-2) if AGGREGATIONS[design].crosses else (difference < 1e-5)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("design", AGGREGATIONS)
def test_a_patch_beside_the_border_is_heard_beyond_it_in_nest(design, plane):
    """By perturbation, through a whole NesT: level 1's neighbour of the block changed at level 0.

    The patch lies at the left edge of the right half, the side that SAME windows look over to.
    """
    torch.manual_seed(0)
    model = NesT(16, 1, (12, 12), (2, 2), (1, 1), block_size=4, aggregation=design,
                 aggregation_plane=plane).eval()  # fmt: skip
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 0, 8] += 3
    with torch.no_grad():
        moved = (model.features(images)[1] - model.features(changed)[1]).abs().amax(1)[0] > 0
    assert moved[:4, 4:].any()
    assert moved[:4, :4].any() == (AGGREGATIONS[design].crosses and plane == "image")


@pytest.mark.parametrize("out_dim", [6, 10])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("design", AGGREGATIONS)
def test_widths_may_change_or_not(design, plane, out_dim):
    made = aggregation(design, out_dim=out_dim, plane=plane)
    x = patches().requires_grad_()
    y = made(x, GRID)
    assert y.shape == (2, 2, N, out_dim)
    y.pow(3).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_default_is_the_convolution_norm_and_pool_of_before():
    """The published one, written out as it stood before there were others; bit for bit."""
    made = aggregation(DEFAULT, out_dim=10)
    assert list(made.state_dict()) == ["conv.weight", "conv.bias", "norm.weight", "norm.bias"]
    x = unblock(patches(), GRID).permute(0, 3, 1, 2)
    x = made.norm(made.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True).permute(0, 2, 3, 1)
    assert torch.equal(made(patches(), GRID), block(x, 4))


def test_patch_merge_is_swins():
    ours = aggregation("patch_merge", out_dim=12)
    theirs = PatchMerging(6, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    theirs.norm.load_state_dict(ours.norm.state_dict())
    theirs.reduction.weight.data = ours.conv.weight.data.flatten(1)
    expected = theirs(unblock(patches(), GRID))
    torch.testing.assert_close(unblock(ours(patches(), GRID), (2, 1)), expected)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("design", "pool"), [("avgpool3x3", "avg"), ("maxpool3x3", "max")])
def test_pools_are_timms(design, pool, padding):
    """timm's SAME is TensorFlow's, as flax's is; a mean counts the padding as noughts."""
    theirs = timm.layers.create_pool2d(pool, 3, 2, padding="same" if padding == "same" else 1)
    plane = unblock(patches(), GRID).permute(0, 3, 1, 2)
    ours = unblock(aggregation(design, padding=padding)(patches(), GRID), (2, 1))
    torch.testing.assert_close(ours.permute(0, 3, 1, 2), theirs(plane))


def test_strided_convolution_is_timms_same():
    ours = aggregation("conv3x3_stride2")
    theirs = timm.layers.Conv2dSame(6, 6, 3, stride=2)
    theirs.load_state_dict(ours.conv.state_dict())
    plane = unblock(patches(), GRID).permute(0, 3, 1, 2)
    expected = theirs(plane).permute(0, 2, 3, 1)
    torch.testing.assert_close(unblock(ours(patches(), GRID), (2, 1)), expected)


def test_query_sampling_is_attention_with_fewer_queries():
    """HaloNet's, written out: queries and skip of every second patch, keys and values of all."""
    torch.manual_seed(0)
    layer = TransformerLayer(12, 3, "multi_head", 2.0, "gelu", 0.0)
    x = patches(12)
    ours = aggregation("query_sampling2x2", 12, 12)(layer(x), GRID)
    B, T = x.shape[:2]
    keep = torch.tensor([0, 2, 8, 10])  # of a 4x4 block
    q, k, v = layer.attn.split_heads(layer.attn.qkv(layer.norm1(x).reshape(B * T, N, 12)))
    out = F.scaled_dot_product_attention(q[:, :, keep], k, v)
    y = x[:, :, keep] + layer.attn.proj(out.transpose(1, 2).reshape(B, T, 4, 12))
    y = y + layer.fc2(layer.act(layer.fc1(layer.norm2(y))))
    expected = block(unblock(y, GRID), 4)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("design", AGGREGATIONS)
def test_every_design_trains_in_a_wide_nest(design):
    """Widths double, as in the ImageNet models; the default's names are timm's and the code's."""
    torch.manual_seed(0)
    model = create_model("nest_tiny_imagenet", img_size=32, patch_size=2, embed_dim=12, num_heads=2,
                         top_depth=1, num_classes=5, aggregation=design)  # fmt: skip
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert name.endswith("qkv.bias") or parameter.grad.abs().sum() > 0, name


def test_unknown_designs_and_planes_list_the_known():
    with pytest.raises(ValueError, match=r"no aggregation 'maxpool'; .*valid: conv3x3_ln_maxpool3"):
        BlockAggregation(6, 6, design="maxpool")
    with pytest.raises(ValueError, match=r"no aggregation_plane 'blocks'; .*valid: image, block"):
        BlockAggregation(6, 6, plane="blocks")


def test_table_counts_by_hand_and_states_what_it_measures():
    """Three aggregations of d = 192; a 3x3 convolution has 9 d^2 + d parameters, a norm 2 d."""
    rows = {row[1]: row for row in aggregations_table().rows}
    assert list(rows) == list(AGGREGATIONS)
    d = 192
    ours = 9 * d**2 + d + 2 * d
    for name, count in {
        DEFAULT: ours, "conv3x3_stride2": 9 * d**2 + d, "avgpool3x3": 0, "query_sampling2x2": 0,
        "patch_merge": 8 * d + 4 * d * d, "conv5x5_ln_maxpool3x3": 25 * d**2 + 3 * d,
    }.items():  # fmt: skip
        assert rows[name][3].value == pytest.approx((6_006_730 + 3 * (count - ours)) / 1e6)
    for name, (*_, stated, image, group) in rows.items():
        assert stated == image and group == "no"
        assert AGGREGATIONS[name].crosses == (image == "yes")
