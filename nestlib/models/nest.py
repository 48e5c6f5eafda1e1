"""NesT, "Aggregating Nested Transformers" (arXiv 2105.12723): the classifier, beside Figure 1.

    Figure 1                                     here
    x = Block(PatchEmbed(input_image))           patch_embed(images, block_size)
    for i in range(num_hierarchy):               for level in range(num_hierarchies):
        y = Stack([T_i(x[0] + PE_i[0]), ...])        hierarchies[level](x + pos_embeds[level])
        if i < num_hierarchy - 1:
            x = Aggregate(y, i)                      aggregations[level](y, grid)
    h = GlobalAvgPool(x)                         norm(y).mean((1, 2))
    logits = Linear(h[0, 0])                     head(h)

Shapes: B batch, T blocks, N = block_size**2 patches in a block (the paper's n), C width (d).
`level` 0 is the image side; the paper's Table A1 counts from the top, so its hierarchy 1 is the
last level here. Where the paper and its published code differ, the defaults follow the code (page
"Differences" of the book).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nestlib.arguments import (
    MAX_LAYERS,
    DropRate,
    Layers,
    NumClasses,
    Pixels,
    Ratio,
    Share,
    Size,
    Width,
    checked,
)
from nestlib.choices import check_choice
from nestlib.models.aggregation import DEFAULT, BlockAggregation
from nestlib.models.attention import BlockAttention
from nestlib.models.backbone import Backbone, fit_pos_embeds
from nestlib.models.blocks import (
    Grid,
    as_pair,
    block_grids,
    fit_block_size,
    fit_pos_embed,
    unblock,
)  # fmt: skip
from nestlib.models.hub_mixin import HubMixin
from nestlib.models.linear import Linear
from nestlib.models.stochastic_depth import StochasticDepth

for _name in ("block_grids", "fit_pos_embed", "unblock"):
    torch.fx.wrap(_name)

# The published JAX code's nn.gelu is the tanh form; timm's port and our default are exact (D7).
ACTIVATIONS = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
}
POS_EMBEDS = ("per_block", "shared")
POOLS = ("avg", "")


class PatchEmbed(nn.Conv2d):
    """PatchEmbed and Block in one: a convolution whose kernel is its stride, into blocks.

    Such a convolution is a linear map of each patch's pixels. Blocking the pixels before it moves
    three channels where blocking its output would move all of them.
    """

    def forward(self, images: Tensor, block_size: int) -> Tensor:
        """(B, 3, H, W) -> (B, T, N, C)."""
        B, channels, H, W = images.shape
        patch_size = self.stride[0]
        unit = patch_size * block_size
        x = images.reshape(
            B, channels, H // unit, block_size, patch_size, W // unit, block_size, patch_size
        )
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # blocks, patches of a block, a patch's pixels
        x = x.reshape(B, -1, block_size**2, channels * patch_size**2)
        return F.linear(x, self.weight.flatten(1), self.bias)


class TransformerLayer(nn.Module):
    """Equation 1: x + MSA(LN(x)), then x + FFN(LN(x)), each with stochastic depth per sample."""

    def __init__(
        self, dim: int, num_heads: int, attention: str, mlp_ratio: float, activation: str,
        drop_path_rate: float,
    ):  # fmt: skip
        super().__init__()
        hidden = round(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = BlockAttention(dim, num_heads, attention)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1, self.fc2 = Linear(dim, hidden), Linear(hidden, dim)
        self.act = ACTIVATIONS[activation]()
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.fc2(self.act(self.fc1(self.norm2(x)))))


class Hierarchy(nn.Sequential):
    """The transformer layers of one hierarchy.

    With `grad_checkpointing` a layer keeps its input alone for the backward pass, which computes
    the rest again (arXiv 1604.06174).
    """

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, C)."""
        for layer in self:
            again = self.grad_checkpointing and torch.is_grad_enabled()
            x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        return x


class NesT(Backbone, nn.Module, HubMixin):
    """Nested transformers on non-overlapping blocks, aggregated four to one (section 2).

    Args:
        img_size: (height, width) in pixels that the position embeddings are made for.
        patch_size: S, pixel edge of one patch.
        embed_dims, num_heads, depths: one entry per hierarchy, image side first.
        block_size: block edge in patches; default: the top hierarchy has one block along the
            shorter image side, as in the paper.
        num_classes: 0 leaves the pooled features.
        global_pool: "avg", or "" for the map itself, which takes num_classes=0.
        attention: "multi_head" or "multi_query" (one key and value for all heads).
        activation: "gelu" (exact), "gelu_tanh" (the published JAX code) or "relu" (the paper's).
        pos_embed: "per_block" (the published code: each block has its own) or "shared".
        aggregation: one of nestlib.models.aggregation.AGGREGATIONS (figures 5 and A1).
        aggregation_plane: "image", or "block" for each 2x2 merging blocks alone (figure 2).
        aggregation_padding: "same" (published code) or "symmetric" (timm's nest_*).
        drop_rate: dropout before the head.  drop_path_rate: stochastic depth of the last layer,
            rising linearly from 0 at the first.

    Raises:
        ValueError: an image that does not divide into blocks (the message names sizes that do),
            lists of unequal length, unknown options, heads that do not divide the width.
    """

    @checked
    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Pixels = 4,
        embed_dims: Sequence[Width] = (96, 192, 384),
        num_heads: Sequence[Width] = (3, 6, 12),
        depths: Sequence[Layers] = (2, 2, 8),
        *,
        block_size: Pixels | None = None,
        num_classes: NumClasses = 1000,
        global_pool: str = "avg",
        in_chans: Width = 3,
        attention: str = "multi_head",
        mlp_ratio: Ratio = 4.0,
        activation: str = "gelu",
        pos_embed: str = "per_block",
        aggregation: str = DEFAULT,
        aggregation_plane: str = "image",
        aggregation_padding: str = "same",
        drop_rate: Share = 0.0,
        drop_path_rate: DropRate = 0.0,
    ):
        super().__init__()
        check_hierarchies(embed_dims, num_heads, depths)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("pos_embed", pos_embed, POS_EMBEDS)
        levels = len(depths)
        self.patch_size, self.in_chans = patch_size, in_chans
        self.num_hierarchies = self._levels_made = levels  # prune_intermediate_layers takes some
        self.pos_embed, self.embed_dims = pos_embed, list(embed_dims)
        self.strides = [patch_size * 2**level for level in range(levels)]  # pixels a map's step
        self._lay_out(as_pair(img_size), block_size)

        self.patch_embed = PatchEmbed(in_chans, embed_dims[0], patch_size, stride=patch_size)
        self.pos_embeds = nn.ParameterList(map(torch.zeros, self._pos_embed_shapes()))
        drop_path_rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu")
        self.hierarchies = nn.ModuleList(
            build_hierarchy(dim, heads, attention, mlp_ratio, activation, rates.tolist())
            for dim, heads, rates in zip(embed_dims, num_heads, drop_path_rates.split(list(depths)))
        )
        self.aggregations = nn.ModuleList(
            BlockAggregation(dim, out_dim, aggregation_padding, aggregation, aggregation_plane)
            for dim, out_dim in pairwise(embed_dims)
        )
        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._make_head(num_classes, global_pool)
        self.apply(init_weights)
        for pos in self.pos_embeds:
            trunc_normal_(pos)
        # Travels with the weights, so that whoever loads them knows which grid they were made for.
        self.register_buffer("pos_embed_size", torch.tensor(self.img_size))
        self.register_load_state_dict_pre_hook(fit_pos_embeds)

    def _lay_out(self, img_size: tuple[int, int], block_size: int | None) -> None:
        block_size = block_size or fit_block_size(img_size, self.patch_size, self._levels_made)
        self.grids = block_grids(img_size, self.patch_size, block_size, self.num_hierarchies)
        self.img_size, self.block_size = img_size, block_size

    @property
    def num_blocks(self) -> list[int]:
        """T of every hierarchy at img_size, level 0 first: 4^(T_d - 1), ..., 4, 1 if square."""
        return [down * across for down, across in self.grids]

    def _pos_embed_shapes(self) -> list[tuple[int, int, int, int]]:
        blocks = [1] * self.num_hierarchies if self.pos_embed == "shared" else self.num_blocks
        return [(1, T, self.block_size**2, dim) for T, dim in zip(blocks, self.embed_dims)]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes).

        Raises:
            ValueError: the images do not divide into blocks.
        """
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The last hierarchy after its LayerNorm, on the image plane: (B, C, H, W)."""
        *_, (_, _, y, grid) = self._run_hierarchies(images)
        return unblock(self.norm(y), grid).permute(0, 3, 1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Global average pooling of (B, C, H, W), then the linear head."""
        if self.global_pool == "avg":
            x = x.mean((2, 3))
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Every hierarchy's output on the image plane, level 0 first.

        Returns:
            By level (B, embed_dims[level], H / strides[level], W / strides[level]), before the last
            LayerNorm (`forward_features` gives the last map after it).
        """
        return dict(enumerate(self.forward_intermediates(images, intermediates_only=True)))

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Logits, and the maps of every hierarchy that they are computed from.

        One forward pass, and logits can be differentiated by the maps.

        Returns:
            logits (B, num_classes), and lists of (B, T, N, C) by hierarchy in blocks (`unblock`
            lays them out): "inputs" with their position embeddings, "outputs", and "normed", which
            are the outputs but for the last one, taken after the last LayerNorm.
        """
        _, inputs, outputs, grids = zip(*self._run_hierarchies(images))
        normed = self.norm(outputs[-1])
        maps = {
            "inputs": list(inputs), "outputs": list(outputs), "normed": [*outputs[:-1], normed]
        }  # fmt: skip
        return self.forward_head(unblock(normed, grids[-1]).permute(0, 3, 1, 2)), maps

    def _run_hierarchies(self, images: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Grid]]:
        """Figure 1's loop: yields level, what goes in, what comes out (B, T, N, C), the grid."""
        H, W = images.shape[-2:]
        grids = block_grids((H, W), self.patch_size, self.block_size, self.num_hierarchies)
        x = self.patch_embed(images, self.block_size)  # (B, T, N, C)
        for level, hierarchy in enumerate(self.hierarchies):
            own, grid = self.grids[level], grids[level]
            x = x + fit_pos_embed(self.pos_embeds[level], own, grid, self.block_size)
            y = hierarchy(x)
            yield level, x, y, grid
            if level < self.num_hierarchies - 1:
                x = self.aggregations[level](y, grid)  # (B, T / 4, N, C')

    def get_classifier(self) -> nn.Module:
        return self.head

    @checked
    def reset_classifier(self, num_classes: NumClasses, global_pool: str | None = None) -> None:
        """Replace the head by a fresh one of the old one's device, type and mode.

        A model without a head has those of its other weights.

        Args:
            global_pool: as the constructor has it; None keeps what it is.

        Raises:
            ValueError: an unknown pooling, or classes of a map that is not pooled.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        like = next(self.head.parameters(), self.patch_embed.weight)
        head = self._make_head(num_classes, global_pool, device=like.device, dtype=like.dtype)
        self.head = head.apply(init_weights).train(self.head.training)
        self.remember(num_classes=num_classes, global_pool=global_pool)

    def _make_head(self, num_classes: int, global_pool: str, **where) -> nn.Module:
        check_choice("global_pool", global_pool, POOLS)
        if num_classes and not global_pool:
            raise ValueError(
                f"global_pool '' leaves a map, which has no {num_classes} classes; give 'avg', or "
                "num_classes=0"
            )
        self.num_classes, self.global_pool = num_classes, global_pool
        return nn.Linear(self.num_features, num_classes, **where) if num_classes else nn.Identity()


def check_hierarchies(
    embed_dims: Sequence[int], num_heads: Sequence[int], depths: Sequence[int]
) -> None:
    """Raise ValueError if lists by hierarchy are empty or not equally long."""
    if not len(embed_dims) == len(num_heads) == len(depths) > 0:
        raise ValueError(
            "embed_dims, num_heads and depths need one entry per hierarchy each, got "
            f"{list(embed_dims)}, {list(num_heads)}, {list(depths)}"
        )
    if sum(depths) > MAX_LAYERS:
        raise ValueError(f"depths has {sum(depths)} layers in all, must be at most {MAX_LAYERS}")


def build_hierarchy(
    dim: int, num_heads: int, attention: str, mlp_ratio: float, activation: str,
    drop_path_rates: Sequence[float],
) -> Hierarchy:  # fmt: skip
    """One hierarchy, of as many transformer layers as drop_path_rates."""
    options = attention, mlp_ratio, activation
    return Hierarchy(
        *(TransformerLayer(dim, num_heads, *options, rate) for rate in drop_path_rates)
    )


def trunc_normal_(tensor: Tensor) -> None:
    """The published code's initialisation: standard deviation 0.02, cut at two deviations."""
    nn.init.trunc_normal_(tensor, std=0.02, a=-0.04, b=0.04)


def init_weights(module: nn.Module) -> None:
    """Initialise linear layers and convolutions: weights by `trunc_normal_`, biases zero."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        trunc_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# Table A1. CIFAR models keep one width; 12 transformer layers in all where the paper is silent
# (depth 2), and 10 at depth 5, as printed.
LAYERS_PER_HIERARCHY = {2: 6, 3: 4, 4: 3, 5: 2}


@checked
def build_nest_cifar(
    embed_dim: Width, num_heads: Width, num_hierarchies: int = 4, img_size: Size = 32,
    patch_size: Pixels = 1, attention: str = "multi_query", **options,
) -> NesT:  # fmt: skip
    """Table A1's upper half: NesT for small images, S in {1, 2}, depth 2 to 5.

    Raises:
        ValueError: a depth that Table A1 and figure 6 do not have.
    """
    if num_hierarchies not in LAYERS_PER_HIERARCHY:
        raise ValueError(
            f"num_hierarchies {num_hierarchies} is not one of {list(LAYERS_PER_HIERARCHY)}; "
            "for another depth call NesT(depths=...) itself"
        )
    layers = LAYERS_PER_HIERARCHY[num_hierarchies]
    return NesT(
        img_size, patch_size, (embed_dim,) * num_hierarchies, (num_heads,) * num_hierarchies,
        (layers,) * num_hierarchies, attention=attention, **options,
    )  # fmt: skip


@checked
def build_nest_imagenet(
    embed_dim: Width, num_heads: Width, top_depth: Layers, img_size: Size = 224,
    patch_size: Pixels = 4, **options,
) -> NesT:  # fmt: skip
    """Table A1's lower half as its authors corrected it: width and heads double per hierarchy."""
    return NesT(
        img_size, patch_size, [embed_dim * 2**i for i in range(3)],
        [num_heads * 2**i for i in range(3)], (2, 2, top_depth), **options,
    )  # fmt: skip


NEST_MODELS = {
    "nest_tiny_cifar": (build_nest_cifar, dict(embed_dim=192, num_heads=3)),
    "nest_small_cifar": (build_nest_cifar, dict(embed_dim=384, num_heads=6)),
    "nest_base_cifar": (build_nest_cifar, dict(embed_dim=768, num_heads=12)),
    # Ours, the paper has none at 64x64 (D9): the CIFAR models at S = 2 keep n = 16.
    "nest_tiny_64": (build_nest_cifar, dict(embed_dim=192, num_heads=3, img_size=64, patch_size=2)),
    "nest_small_64": (
        build_nest_cifar, dict(embed_dim=384, num_heads=6, img_size=64, patch_size=2),
    ),
    "nest_tiny_imagenet": (build_nest_imagenet, dict(embed_dim=96, num_heads=3, top_depth=8)),
    "nest_small_imagenet": (build_nest_imagenet, dict(embed_dim=96, num_heads=3, top_depth=20)),
    "nest_base_imagenet": (build_nest_imagenet, dict(embed_dim=128, num_heads=4, top_depth=20)),
}  # fmt: skip
