"""Figure 1 and the steps: what is drawn is what the model and the blocking do."""

import inspect
from xml.dom import minidom

import numpy as np
import pytest
import torch

import nestlib
from nestbook.architecture import trace_shapes
from nestbook.report.architecture import (
    AGGREGATE,
    PSEUDO_CODE,
    architecture_table,
    plot_architecture,
    say_architecture,
)
from nestbook.report.blocking import _apart, draw_blocking
from nestlib.models import nest
from nestlib.models.aggregation import BlockAggregation
from nestlib.models.nest import NEST_MODELS

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NEST_MODELS)
def test_traced_shapes_follow_the_papers_arithmetic(name):
    """T_n x n = H W / S^2 at the bottom, n equal everywhere, a quarter of the blocks each time."""
    with torch.device("meta"):
        model = nestlib.create_model(name).eval()
    shapes = trace_shapes(model)
    height, width = model.img_size
    _, T, N, _ = shapes["patch_embed"][1]
    assert T * N == height * width // model.patch_size**2
    for level in range(model.num_hierarchies):
        into, out = shapes[f"hierarchies.{level}"]
        assert into == out and out[1:3] == (T // 4**level, N)
    assert out[1] == 1 and shapes["head"][1] == (1, model.num_classes)


def test_tracing_leaves_no_hook_behind():
    with torch.device("meta"):
        model = nestlib.create_model("nest_tiny_cifar").eval()
    trace_shapes(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_our_lines_of_figure_1_are_in_the_code():
    theirs, ours, _ = zip(*PSEUDO_CODE)
    assert len(ours) == 7
    said = nest.__doc__.split("\n\n")[1]
    assert all(line.strip() in said for line in (*theirs, *ours))
    with torch.device("meta"):
        model = nestlib.create_model("nest_tiny_cifar")
    for line in ours:
        name = line.strip().partition("(")[0].partition("[")[0]
        assert not name or name.startswith("for ") or hasattr(model, name), line
    source = inspect.getsource(BlockAggregation.forward)
    assert all(line in source for line in AGGREGATE)


def test_table_shows_the_shapes_of_the_model_asked_for():
    cells = {
        row[1].strip("\N{NO-BREAK SPACE}"): row[2]
        for row in architecture_table("nest_tiny_cifar").rows
    }
    assert cells["patch_embed(images, block_size)"] == "(64, 16, 192)"
    assert cells["unblock(x, grid)"] == "(32, 32, 192), then (16, 16, 192), then (8, 8, 192)"
    assert cells["norm(y).mean((1, 2))"] == "(192)"


@pytest.mark.parametrize("name", ["nest_tiny_imagenet", "nest_tiny_cifar"])
def test_tree_has_every_block_with_its_tooltip(name):
    svg = minidom.parseString(plot_architecture(IMAGE, name).to_svg())
    titles = [t.firstChild.data for t in svg.getElementsByTagName("title")]
    with torch.device("meta"):
        blocks = nestlib.create_model(name).num_blocks
    for level, count in enumerate(blocks):
        assert sum(t.startswith(f"level {level}, block") for t in titles) == count


def test_the_sentence_counts_the_models_blocks():
    assert "64 blocks merge into 16, then 4, then 1, four to one each" in (
        say_architecture("nest_tiny_cifar")
    )
    assert "16 blocks merge into 4, then 1" in say_architecture()
    assert say_architecture().endswith("a block has 196 patches.")


def test_steps_tell_the_shapes_and_refuse_what_does_not_divide():
    assert "level 0: T = 16, N = 64; level 1: T = 4, N = 64" in draw_blocking(IMAGE).description
    with pytest.raises(ValueError, match="do not divide"):
        draw_blocking(IMAGE[:, :31])


def test_blocks_are_drawn_where_they_belong():
    tiles = torch.arange(4.0)[:, None, None, None].expand(4, 8, 8, 3)
    sheet = _apart(tiles, (2, 2))
    assert sheet[0, 0, 0] == 0 and sheet[0, -1, 0] == 1 and sheet[-1, 0, 0] == 2
    assert (sheet[9] == 255).all()  # air
