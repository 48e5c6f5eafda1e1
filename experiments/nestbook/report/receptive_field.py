"""Figure 2: on the image plane merged blocks hear their neighbours, on the block plane not."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from nestbook.architecture import (
    BLOCK,
    GRID,
    count_heard,
    heard_patches,
    heard_pixels,
)
from nestbook.report.aggregations import name_design
from nestbook.report.pictures import BLUE, ORANGE, Picture, drawing_style
from nestbook.report.tables import HERE, Number, Table
from nestbook.report.tree import CHILDREN, COLORS
from nestbook.report.words import say_ends
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT, PLANES

MODEL = "nest_tiny_cifar"
# Where a listener's mark stands in a patch, so that up to four do not hide one another.
_OFFSETS = ((-0.22, -0.22), (0.22, -0.22), (-0.22, 0.22), (0.22, 0.22))
_OWN, _BEYOND, _SILENT = BLUE, ORANGE, "#F2F2F2"


def plot_flow(design: str = DEFAULT) -> Picture:
    """What each of four merged blocks hears through one aggregation, on either plane."""
    with drawing_style():
        figure = Figure(figsize=(7.2, 4.1), layout="constrained")
        counts = []
        for axes, plane in zip(figure.subplots(1, 2), PLANES):
            counts.append(_draw_patches(axes, heard_patches(design, plane)))
            axes.set_title(f"{plane} plane: {counts[-1] or 'no'} patches heard by others")
        marks = [
            Line2D([], [], color=color, marker="o", linestyle="", markersize=4,
                   label=f"heard by the {place} merged block")
            for place, color in zip(CHILDREN, COLORS)
        ]  # fmt: skip
        figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False)
    text = (
        "Two planes of 16 by 16 patches in 4 by 4 blocks. Four groups of 2 by 2 blocks merge. On "
        f"the image plane {counts[0]} patches, along the borders, are heard by other groups' "
        f"merged blocks; on the block plane {counts[1] or 'none'}."
    )
    return Picture(figure, "figure2", text, {})


def _find_beyond(heard: Tensor) -> Tensor:
    """`heard_patches` without the patches of each merged block's own group: same shape."""
    beyond = heard.clone()
    half = heard.shape[-1] // 2
    for group in range(len(heard)):
        top, left = half * (group // 2), half * (group % 2)
        beyond[group, top : top + half, left : left + half] = False
    return beyond


def _draw_patches(axes: Axes, heard: Tensor) -> int:
    """Groups in their colours, a dot for each other group that hears a patch; patches with dots."""
    edge, beyond = heard.shape[-1], _find_beyond(heard)
    half = edge // 2
    for group, (color, (dx, dy)) in enumerate(zip(COLORS, _OFFSETS)):
        top, left = half * (group // 2), half * (group % 2)
        axes.add_patch(Rectangle((left, top), half, half, facecolor=_tint(color)))
        y, x = np.nonzero(beyond[group].numpy())
        axes.plot(x + 0.5 + dx, y + 0.5 + dy, color=color, marker="o", markersize=3, linestyle="")
    for step, color, width in ((1, "white", 0.4), (BLOCK, "0.25", 0.9), (half, "0.25", 2.2)):
        _draw_lines(axes, edge, step, color, width)
    axes.set(xlim=(-0.2, edge + 0.2), ylim=(edge + 0.2, -0.2), aspect="equal")
    axes.axis("off")
    return int(beyond.any(0).sum())


def _draw_lines(axes: Axes, edge: int, step: int, color: str, width: float) -> None:
    """A line every `step` patches or pixels, across and down."""
    places = range(0, edge + 1, step)
    for draw in (axes.hlines, axes.vlines):
        draw(places, 0, edge, color, linewidth=width, zorder=1)


def _tint(color: str) -> tuple[float, ...]:
    return tuple(0.78 + 0.22 * part for part in to_rgb(color))


def plot_reach(model: str = MODEL) -> Picture:
    """The pixels that reach one block of each hierarchy, in a whole model, on either plane."""
    with drawing_style():
        levels = {plane: heard_pixels(plane, model=model) for plane in PLANES}
        count = len(levels["image"])
        figure = Figure(figsize=(7.2, 4.3), layout="constrained")
        grid = figure.subplots(2, count, squeeze=False)
        said = []
        for row, plane in zip(grid, PLANES):
            shares = []
            for level, (axes, heard) in enumerate(zip(row, levels[plane])):
                block = _middle(len(heard))
                shares.append(_draw_reach(axes, heard.numpy(), block))
                title = f"{plane} plane, level {level}\n" if level == 0 else f"level {level}\n"
                axes.set_title(f"{title}{shares[-1]:.0%} of the image", fontsize=7.5)
            words = ", ".join(f"level {i} {share:.0%}" for i, share in enumerate(shares))
            said.append(f"on the {plane} plane {words}")
        keys = [
            Patch(facecolor=_OWN, label="the block's own pixels"),
            Patch(facecolor=_BEYOND, label="heard beyond them"),
            Patch(facecolor=_SILENT, edgecolor="0.7", label="not heard"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False)
    text = f"How much of the image one block hears: {'; '.join(said)}."
    return Picture(figure, "figure2_reach", text, {})


def _middle(blocks: int) -> int:
    """A block up and left of the plane's middle, where there is most to hear."""
    edge = round(blocks**0.5)
    return (edge - 1) // 2 * (edge + 1)


def _draw_reach(axes: Axes, heard: np.ndarray, block: int) -> float:
    """One block's pixels, own and beyond; the share of the image that it hears."""
    edge = heard.shape[-1]
    blocks = round(len(heard) ** 0.5)
    size = edge // blocks
    y, x = size * (block // blocks), size * (block % blocks)
    own = np.zeros((edge, edge), bool)
    own[y : y + size, x : x + size] = True
    colors = np.full((edge, edge, 3), to_rgb(_SILENT))
    colors[heard[block]] = to_rgb(_BEYOND)
    colors[heard[block] & own] = to_rgb(_OWN)
    axes.imshow(colors, extent=(0, edge, edge, 0), interpolation="nearest")
    _draw_lines(axes, edge, size, "white", 0.5)
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor="black", linewidth=1.2))
    axes.set(xlim=(-0.5, edge + 0.5), ylim=(edge + 0.5, -0.5))
    axes.axis("off")
    return float(heard[block].mean())


def say_flow() -> str:
    """How many patches cross between groups on either plane, and how far that reaches."""
    beyond = (_find_beyond(heard_patches(DEFAULT, plane)) for plane in PLANES)
    image, block = (int(patches.any(0).sum()) for patches in beyond)
    patches = (GRID[0] * BLOCK) ** 2
    levels = [heard_pixels(plane, model=MODEL) for plane in PLANES]
    level = len(levels[0]) - 2  # one below the top, which hears the whole image anyway
    near, own = (100 * one[level].float().mean().item() for one in levels)
    return (
        f"On the image plane {image} of {patches} patches reach a block that they are not merged "
        f"into; on the block plane, {block or 'none'}. In a whole model a block of level {level} "
        f"then hears {near:.0f} % of the image on average, instead of {own:.0f} %."
    )


def flow_table() -> Table:
    """For every design: patches of other groups that the merged blocks hear, on either plane."""
    edge = GRID[0] * BLOCK
    return Table(
        "Patches that one merged block hears from groups it is not merged from",
        ("Design", "aggregation=", "Image plane", "Block plane"),
        [
            (name_design(name, "A1"), name, *(_range_beyond(name, plane) for plane in PLANES))
            for name in AGGREGATIONS
        ],
        [f"Least to most of the four merged blocks, by gradients of untrained aggregations on "
         f"{edge}x{edge} patches in blocks of {BLOCK}x{BLOCK}. C: convolution, s2: stride 2, LN: "
         "LayerNorm, MX: max-pooling, AVG: average pooling; the number is the window's edge. The "
         "first is the paper's"],
    )  # fmt: skip


def _range_beyond(design: str, plane: str) -> str:
    """How many patches merged blocks hear beyond their own groups: the least to the most."""
    heard = count_heard(design, plane)
    low, high = (bound.item() for bound in (heard.sum(1) - heard.diagonal()).aminmax())
    return say_ends(low, high)


def reach_table(model: str = MODEL) -> Table:
    """How much of the image a block of each hierarchy hears, the mean over its blocks."""
    image, block = (heard_pixels(plane, model=model) for plane in PLANES)
    rows = []
    for level, heard in enumerate(zip(image, block)):
        blocks = len(heard[0])
        shares = (1 / blocks, *(one.float().mean().item() for one in heard))
        numbers = (Number(100 * share, HERE, 2) for share in shares)
        rows.append((f"level {level}", str(blocks), *numbers))
    return Table(
        f"Share of the image (%) that a block of {model} hears",
        ("Hierarchy", "Blocks", "Own pixels", "Heard, image plane", "Heard, block plane"),
        rows,
        ["Mean over a level's blocks, by gradients of a narrow, untrained model of the same blocks "
         "and layers in fp64. Level 0 is the image side"],
    )  # fmt: skip
