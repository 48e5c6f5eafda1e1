"""Figure 2: on the image plane merged blocks hear their neighbours, on the block plane not."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from nestbook.architecture.receptive_field import BLOCK, GRID, heard_patches, heard_pixels
from nestbook.report.pictures import BLUE, ORANGE, Picture, drawing_style
from nestbook.report.tables import HERE, Number, Table
from nestbook.report.tree import COLORS
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT, PLANES

MODEL = "nest_tiny_cifar"
PLACES = ("upper left", "upper right", "lower left", "lower right")
# Where a listener's mark stands in a patch, so that up to four do not hide one another.
_OFFSETS = ((-0.22, -0.22), (0.22, -0.22), (-0.22, 0.22), (0.22, 0.22))
_OWN, _BEYOND, _SILENT = BLUE, ORANGE, "#F2F2F2"


def plot_flow(design: str = DEFAULT) -> Picture:
    """What each of four merged blocks hears through one aggregation, on either plane."""
    with drawing_style():
        figure = Figure(figsize=(7.2, 4.1), layout="constrained")
        counts = []
        for axes, plane in zip(figure.subplots(1, 2), PLANES):
            heard = heard_patches(design, plane).numpy()
            counts.append(_draw_patches(axes, heard))
            beyond = f"{counts[-1] or 'no'} patches heard by others"
            axes.set_title(f"{plane} plane: {beyond}")
        marks = [
            Line2D([], [], color=color, marker="o", linestyle="", markersize=4,
                   label=f"heard by the {place} merged block")
            for place, color in zip(PLACES, COLORS)
        ]  # fmt: skip
        figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False)
    text = (
        "Two planes of 16 by 16 patches in 4 by 4 blocks. Four groups of 2 by 2 blocks merge. On "
        f"the image plane {counts[0]} patches, along the borders, are heard by other groups' "
        f"merged blocks; on the block plane {counts[1] or 'none'}."
    )
    return Picture(figure, "figure2", text, {})


def _draw_patches(axes: Axes, heard: np.ndarray) -> int:
    """Groups in their colours, a dot for each other group that hears a patch; patches with dots."""
    edge = heard.shape[-1]
    half, dotted = edge // 2, np.zeros((edge, edge), bool)
    for group, (color, (dx, dy)) in enumerate(zip(COLORS, _OFFSETS)):
        own = np.zeros((edge, edge), bool)
        top, left = group // 2 * half, group % 2 * half
        own[top : top + half, left : left + half] = True
        axes.add_patch(Rectangle((left, top), half, half, facecolor=_tint(color)))
        dotted |= heard[group] & ~own
        y, x = np.nonzero(heard[group] & ~own)
        axes.plot(x + 0.5 + dx, y + 0.5 + dy, color=color, marker="o", markersize=3, linestyle="")
    for line in range(edge + 1):
        width = 2.2 if line % half == 0 else 0.9 if line % BLOCK == 0 else 0.4
        color = "0.25" if line % BLOCK == 0 else "white"
        axes.plot((line, line), (0, edge), color=color, linewidth=width, zorder=1)
        axes.plot((0, edge), (line, line), color=color, linewidth=width, zorder=1)
    axes.set(xlim=(-0.2, edge + 0.2), ylim=(edge + 0.2, -0.2), aspect="equal")
    axes.axis("off")
    return int(dotted.sum())


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
    y, x = block // blocks * size, block % blocks * size
    colors = np.full((edge, edge, 3), to_rgb(_SILENT))
    colors[heard[block]] = to_rgb(_BEYOND)
    own = np.zeros((edge, edge), bool)
    own[y : y + size, x : x + size] = True
    colors[heard[block] & own] = to_rgb(_OWN)
    axes.imshow(colors, extent=(0, edge, edge, 0), interpolation="nearest")
    for line in range(0, edge + 1, size):
        axes.plot((line, line), (0, edge), color="white", linewidth=0.5)
        axes.plot((0, edge), (line, line), color="white", linewidth=0.5)
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor="black", linewidth=1.2))
    axes.set(xlim=(-0.5, edge + 0.5), ylim=(edge + 0.5, -0.5))
    axes.axis("off")
    return float(heard[block].mean())


def flow_table() -> Table:
    """For every design: patches of other groups that the merged blocks hear, on either plane."""
    rows = []
    for name in AGGREGATIONS:
        rows.append((name, *(_range(_count_beyond(name, plane)) for plane in PLANES)))
    edge = GRID[0] * BLOCK
    return Table(
        "Through one aggregation: patches heard from groups that do not merge with one's own",
        ("aggregation", "Image plane, each merged block", "Block plane, each merged block"),
        rows,
        [f"Measured on this machine by gradients of untrained aggregations, on {edge}x{edge} "
         f"patches in blocks of {BLOCK}x{BLOCK}; padding as published (D8), which hears further "
         "down and right than up and left. Least to most of the four merged blocks"],
    )  # fmt: skip


def _count_beyond(design: str, plane: str) -> list[int]:
    """What each merged block hears, less the patches of its own group."""
    heard = heard_patches(design, plane)
    halves = heard.reshape(4, 2, heard.shape[1] // 2, 2, -1).sum((2, 4)).flatten(1)
    return (halves.sum(1) - halves.diagonal()).tolist()


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def reach_table(model: str = MODEL) -> Table:
    """How much of the image a block of each hierarchy hears, the mean over its blocks."""
    image, block = (heard_pixels(plane, model=model) for plane in PLANES)
    rows = [
        (
            f"level {level}", str(len(one)), Number(100 / len(one), HERE, 2),
            Number(100 * one.float().mean().item(), HERE, 2),
            Number(100 * other.float().mean().item(), HERE, 2),
        )
        for level, (one, other) in enumerate(zip(image, block))
    ]  # fmt: skip
    return Table(
        f"Through the whole model: share of the image (%) that reaches a block of {model}",
        ("Hierarchy", "Blocks", "Own pixels", "Heard, image plane", "Heard, block plane"),
        rows,
        ["Measured on this machine by gradients of a narrow, untrained model of the same blocks "
         "and layers, in fp64; the mean over a level's blocks. Level 0 is the image side"],
    )  # fmt: skip
