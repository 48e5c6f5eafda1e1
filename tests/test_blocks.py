import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed

from nestlib.models.blocks import (
    block,
    block_grids,
    fit_block_size,
    resize_pos_embed,
    unblock,
)  # fmt: skip


@pytest.mark.parametrize(
    ("height", "width", "edge"), [(8, 8, 4), (12, 20, 4), (6, 4, 2), (5, 3, 1)]
)
def test_unblock_inverts_block(height, width, edge):
    plane = torch.randn(2, height, width, 3)
    blocks = block(plane, edge)
    assert blocks.shape == (2, height * width // edge**2, edge**2, 3)
    assert torch.equal(unblock(blocks, (height // edge, width // edge)), plane)


def test_blocks_are_row_major_and_hold_neighbours():
    plane = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert block(plane, 2)[0, :, :, 0].tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15],
    ]  # fmt: skip


def test_plane_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="6x8 patches does not divide into blocks of 4x4"):
        block(torch.zeros(1, 6, 8, 1), 4)


def test_unblock_refuses_wrong_grid():
    with pytest.raises(ValueError, match="4 blocks of 16 patches do not fill a grid of 2x3"):
        unblock(torch.zeros(1, 4, 16, 1), (2, 3))


def test_grids_quarter_at_each_hierarchy():
    assert block_grids((32, 32), 1, 4, 4) == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert block_grids((224, 448), 4, 14, 3) == [(4, 8), (2, 4), (1, 2)]


def test_sizes_that_would_fit_are_named():
    with pytest.raises(ValueError, match=r"multiple of 224 \(nearest: 224x224\)"):
        block_grids((200, 230), 4, 14, 3)
    with pytest.raises(ValueError, match=r"multiple of 16 .*nearest: 32x32"):
        fit_block_size((30, 30), 2, 4)


def test_resizing_inside_blocks_is_the_published_zoom():
    """libml/utils.py of the published code zooms each block with scipy, order 1."""
    pos = torch.randn(1, 4, 9, 5)
    ours = resize_pos_embed(pos, (2, 2), (2, 2), block_size=6)
    theirs = scipy.ndimage.zoom(pos.numpy().reshape(1, 4, 3, 3, 5), (1, 1, 2, 2, 1), order=1)
    np.testing.assert_allclose(ours.numpy(), theirs.reshape(1, 4, 36, 5), atol=1e-5)


# jax.image.resize(grid, (6, 6, 1), "bicubic") of jax 0.10.2, its first row, of the grid below.
JAX_BICUBIC = [-0.100723, 0.527830, 0.924572, -0.024518, -0.679745, -0.993408]


def test_resizing_has_neither_bicubic_kernel():
    """JAX, timm and torch with antialias take a = -0.5, torch without it -0.75, also to enlarge.

    transformers resizes position embeddings without it. Ours are bilinear, as the published code's.
    """
    grid = (1.7 * torch.arange(16.0)).sin()
    plane = grid.reshape(1, 1, 4, 4)
    smooth, sharp = (
        F.interpolate(plane, (6, 6), mode="bicubic", antialias=antialias).reshape(6, 6)
        for antialias in (True, False)
    )
    timms = resample_abs_pos_embed(grid.reshape(1, 16, 1), [6, 6], [4, 4], num_prefix_tokens=0)
    ours = resize_pos_embed(grid.reshape(1, 1, 16, 1), (1, 1), (1, 1), block_size=6).reshape(6, 6)
    torch.testing.assert_close(smooth[0], torch.tensor(JAX_BICUBIC), atol=2e-6, rtol=0)
    torch.testing.assert_close(timms.reshape(6, 6), smooth)
    assert (smooth - sharp).abs().max() > 0.05
    for other in (smooth, sharp):
        assert (ours - other).abs().max() > 0.1
    assert torch.equal(ours[0, ::5], plane[0, 0, 0, ::3])  # corners are aligned


def test_resizing_to_more_blocks_keeps_corners_and_places():
    pos = torch.randn(1, 4, 9, 5)
    grown = resize_pos_embed(pos, (2, 2), (3, 5), block_size=3)
    assert grown.shape == (1, 15, 9, 5)
    corners = grown[:, [0, 4, 10, 14]]
    torch.testing.assert_close(corners, pos)
    same = torch.randn(1, 1, 9, 5).expand(1, 4, 9, 5)  # equal in all blocks stays equal
    torch.testing.assert_close(
        resize_pos_embed(same, (2, 2), (3, 3), 3), same[:, :1].expand(1, 9, 9, 5)
    )
