"""Who hears whom: gradients agree with changing a patch and looking, and with arithmetic."""

import pytest
import torch

import nestlib
from nestbook.architecture import GRID, count_heard, heard_patches, heard_pixels
from nestbook.report.receptive_field import (
    flow_table,
    plot_flow,
    plot_reach,
    reach_table,
    say_flow,
)
from nestlib.models.aggregation import DEFAULT, BlockAggregation
from nestlib.models.blocks import block, unblock


def reach_of_windows(own: range, edge: int) -> range:
    """Rows that a 3x3 convolution and then a 3x3 pool of stride 2, padded behind, see of `own`."""
    first, last = own.start // 2, own.stop // 2 - 1  # rows of the halved plane
    return range(max(0, 2 * first - 1), min(edge, 2 * last + 2 + 2))


def test_patches_heard_are_those_in_the_windows():
    heard = heard_patches(DEFAULT, "image")
    halves = range(8), range(8, 16)
    for group in range(4):
        rows, columns = (reach_of_windows(halves[i], 16) for i in divmod(group, 2))
        expected = torch.zeros(16, 16, dtype=torch.bool)
        expected[rows.start : rows.stop, columns.start : columns.stop] = True
        assert torch.equal(heard[group], expected), group


@pytest.mark.parametrize("plane", ["image", "block"])
def test_a_changed_patch_changes_just_the_blocks_that_hear_it(plane):
    torch.manual_seed(3)
    aggregation = BlockAggregation(64, 64, design="conv3x3_ln_avgpool3x3", plane=plane)
    heard = heard_patches("conv3x3_ln_avgpool3x3", plane)
    x = torch.randn(1, GRID[0] * GRID[1], 16, 64)
    before = aggregation(x, GRID)
    for y, column in ((0, 0), (7, 7), (8, 8), (9, 3), (10, 12), (7, 15)):
        changed = unblock(x, GRID).clone()
        changed[0, y, column] += torch.randn(64)
        moved = (aggregation(block(changed, 4), GRID) - before).abs().amax((0, 2, 3)) > 1e-6
        assert torch.equal(moved, heard[:, y, column]), (y, column)


def test_groups_follow_from_patches():
    assert (count_heard(DEFAULT, "image") > 0).all()
    assert torch.equal(count_heard(DEFAULT, "block"), 64 * torch.eye(4, dtype=torch.int64))


def test_on_the_block_plane_a_block_hears_its_own_pixels_alone():
    for level, heard in enumerate(heard_pixels("block")):
        edge = 8 // 2**level
        own = torch.eye(edge * edge).reshape(edge * edge, edge, edge).bool()
        size = 32 // edge
        expected = own.repeat_interleave(size, 1).repeat_interleave(size, 2)
        assert torch.equal(heard, expected)


def test_on_the_image_plane_a_changed_pixel_is_heard_where_it_is_said_to_be():
    torch.manual_seed(1)
    model = nestlib.create_model("nest_tiny_cifar", embed_dim=16, num_heads=1).double().eval()
    heard = heard_pixels("image")
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    _, before = model.forward_with_features(images)
    for y, x in ((0, 0), (15, 16), (31, 8)):
        changed = images.clone()
        changed[0, :, y, x] += 1
        _, after = model.forward_with_features(changed)
        for level in range(4):
            moved = (after["outputs"][level] != before["outputs"][level]).any(-1).any(-1)[0]
            assert not (moved & ~heard[level][:, y, x]).any(), (level, y, x)
            assert moved.float().mean() > 0.5 * heard[level][:, y, x].float().mean()


def test_tables_and_pictures_say_the_same():
    rows = {row[1]: row[2:] for row in flow_table().rows}
    assert rows[DEFAULT] == ("17 to 36", "0") and rows["patch_merge"] == ("0", "0")
    assert "block plane none" in plot_flow().description
    assert "level 1 6%" in plot_reach().description
    crossing = [
        heard_patches(DEFAULT, "image")[group].reshape(2, 8, 2, 8).transpose(1, 2).flatten(0, 1)
        for group in range(4)
    ]
    beyond = torch.zeros(4, 8, 8, dtype=torch.bool)
    for group, heard in enumerate(crossing):
        for other in {0, 1, 2, 3} - {group}:
            beyond[other] |= heard[other]
    assert f"{int(beyond.sum())} of 256 patches" in say_flow()
    assert f"{int(beyond.sum())} patches, along" in plot_flow().description
    assert "on the block plane, none" in say_flow()
    assert "level 2 then hears 75 % of the image on average, instead of 25 %" in say_flow()
    shares = [(row[2].value, row[4].value) for row in reach_table().rows]
    assert all(own == pytest.approx(block) for own, block in shares)
