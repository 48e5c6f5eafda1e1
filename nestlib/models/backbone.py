"""What timm's scripts, detectors and exporters ask of a model beside its forward pass."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from nestlib.arguments import Pixels, Size, checked
from nestlib.choices import check_choice
from nestlib.models.blocks import as_pair, block_grids, resize_pos_embed, unblock
from nestlib.models.stochastic_depth import StochasticDepth

FORMATS = ("NCHW", "NHWC")
Levels = int | Sequence[int] | None


class Backbone:
    """A NesT's maps by hierarchy, sizes, and groups of parameters, by the names that timm uses."""

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.embed_dims[-1]

    @property
    def head_hidden_size(self) -> int:
        """Channels that the head takes."""
        return self.num_features

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What timm's feature extraction reads of each level: channels, stride and module."""
        return [
            {"num_chs": dim, "reduction": stride, "module": f"hierarchies.{level}"}
            for level, (dim, stride) in enumerate(zip(self.embed_dims, self.strides))
        ]

    def forward_intermediates(
        self, images: Tensor, indices: Levels = None, norm: bool = False, stop_early: bool = False,
        output_fmt: str = "NCHW", intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:  # fmt: skip
        """The maps of hierarchies, and the last one as `forward_features` gives it.

        Args:
            images: (B, 3, H, W).
            indices: levels, negative ones from the last; or how many of the last; None: all.
            norm: take the last level's map after the last LayerNorm; no other level has one.
            stop_early: do not run hierarchies behind the last of `indices`. The first result then
                is that level's map.
            output_fmt: "NCHW", or "NHWC".
            intermediates_only: return the list alone.

        Returns:
            (B, C, H', W'), and in the order of `indices` (B, embed_dims[level],
            H / strides[level], W / strides[level]) each.

        Raises:
            ValueError: no such level or format, or images that do not divide into blocks.
        """
        check_choice("output_fmt", output_fmt, FORMATS)
        levels, top = take_levels(indices, self.num_hierarchies), self.num_hierarchies - 1
        last, maps = max(levels) if stop_early else top, {}
        for level, _, y, grid in self._run_hierarchies(images):
            if level in levels:
                plane = unblock(self.norm(y) if norm and level == top else y, grid)
                maps[level] = plane if output_fmt == "NHWC" else plane.permute(0, 3, 1, 2)
            if level == last:
                break
        found = [maps[level] for level in levels]
        if intermediates_only:
            return found
        return unblock(self.norm(y) if level == top else y, grid).permute(0, 3, 1, 2), found

    def prune_intermediate_layers(
        self, indices: Levels = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove, in place, what the maps of `indices` do not need.

        Returns:
            `indices` as levels that count from 0.

        Raises:
            ValueError: no such level.
        """
        levels = take_levels(indices, self.num_hierarchies)
        kept = max(levels) + 1
        cut = kept < self.num_hierarchies
        if prune_norm or cut:
            self.norm = nn.Identity()
        self.num_hierarchies = kept
        self.embed_dims, self.strides = self.embed_dims[:kept], self.strides[:kept]
        self.hierarchies, self.aggregations = self.hierarchies[:kept], self.aggregations[: kept - 1]
        self.pos_embeds, self.grids = self.pos_embeds[:kept], self.grids[:kept]
        if prune_head or cut:
            self.reset_classifier(0, "")
        return levels

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep each layer's input alone for the backward pass, which computes the rest again."""
        for hierarchy in self.hierarchies:
            hierarchy.grad_checkpointing = enable

    @checked
    def set_input_size(self, img_size: Size, block_size: Pixels | None = None) -> None:
        """Change img_size in place. Position embeddings are resized as where weights are loaded.

        Optimizers that have begun to train the model do not fit it any more.

        Args:
            img_size, block_size: as the constructor has them.

        Raises:
            ValueError: an image that does not divide into blocks; the model stays as it was.
        """
        names = [f"pos_embeds.{level}" for level in range(self.num_hierarchies)]
        state = {name: pos.detach() for name, pos in zip(names, self.pos_embeds)}
        state["pos_embed_size"] = self.pos_embed_size.clone()
        self._lay_out(as_pair(img_size), block_size)
        for pos, shape in zip(self.pos_embeds, self._pos_embed_shapes()):
            pos.data = pos.new_empty(shape)
        fit_pos_embeds(self, state, "")
        for name, pos in zip(names, self.pos_embeds):
            pos.data = state[name]
        self.pos_embed_size.copy_(state["pos_embed_size"])
        self.remember(img_size=self.img_size, block_size=block_size)

    def remember(self, **options) -> None:
        """Note changes where push_to_hub and timm keep what a model was made with."""
        for kept in ("_hub_mixin_config", "_model_args"):
            if getattr(self, kept, None):
                getattr(self, kept).update(options)
        if hasattr(self, "pretrained_cfg"):  # of a model that timm has made
            stride = self.strides[-1]
            self._traits = {**getattr(self, "_traits", {}), "img_size": self.img_size}
            self.pretrained_cfg |= {
                "input_size": (self.in_chans, *self.img_size),
                "pool_size": tuple(edge // stride for edge in self.img_size),
                "num_classes": self.num_classes,
            }

    def no_weight_decay(self) -> set[str]:
        """The parameters that the published code does not decay."""
        return {f"pos_embeds.{level}" for level in range(self.num_hierarchies)}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Layers in the order of the forward pass, for timm's layer-wise decay of learning rates.

        Position embeddings go with the layer that they are put into, an aggregation and the last
        norm with the layer before them.

        Args:
            coarse: a hierarchy is one group, not a layer.
        """
        layers = r"^hierarchies\.(\d+)" if coarse else r"^hierarchies\.(\d+)\.(\d+)"
        first, last = (None, None) if coarse else ((0,), (99999,))  # timm: of the group before
        parts = [(r"^pos_embeds\.(\d+)", first), (layers, None), (r"^aggregations\.(\d+)", last)]
        return {"stem": r"^patch_embed", "blocks": [*parts, (r"^norm\.", (99999,))]}

    def __prepare_scriptable__(self) -> fx.GraphModule:
        """What torch.jit.script compiles: the graph of torch.fx, of any batch and image size."""
        return fx.GraphModule(self, _Tracer().trace(self))


class _Tracer(fx.Tracer):
    """Keeps stochastic depth a module, so that a graph follows train() and eval()."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, StochasticDepth) or super().is_leaf_module(module, name)


def take_levels(indices: Levels, num_hierarchies: int) -> list[int]:
    """Levels that count from 0, of indices as `Backbone.forward_intermediates` has them.

    Raises:
        ValueError: levels that the model does not have, or none.
    """
    every = list(range(num_hierarchies))
    if indices is None:
        return every
    if isinstance(indices, int):
        levels = every[-indices:] if 0 < indices <= num_hierarchies else []
        valid = f"as a number of levels 1 to {num_hierarchies}"
    else:
        levels = [every[i] for i in indices if -num_hierarchies <= i < num_hierarchies]
        levels = levels if len(levels) == len(indices) else []
        valid = f"a list of levels {-num_hierarchies} to {num_hierarchies - 1}"
    if not levels:
        raise ValueError(f"indices is {indices}, must be {valid}: the model has {every}")
    return levels


def fit_pos_embeds(model: Backbone, state: dict[str, Tensor], prefix: str, *_) -> None:
    """Resize a state dict's position embeddings to `model`'s image size, in place.

    Runs before every load. Weights without a size of their own (timm's, the published ones) are
    taken as square.

    Raises:
        ValueError: embeddings of unknown size whose blocks form no square.
    """
    names = [f"{prefix}pos_embeds.{level}" for level in range(model.num_hierarchies)]
    if not all(name in state for name in names):
        return  # torch names what is missing
    size = state.get(f"{prefix}pos_embed_size")
    state[f"{prefix}pos_embed_size"] = torch.tensor(model.img_size)
    block_size = math.isqrt(state[names[0]].shape[2])
    if size is None:
        top = math.isqrt(state[names[-1]].shape[1])
        edge = top * block_size * model.strides[-1]
        size = torch.tensor((edge, edge))
    old_grids = block_grids(tuple(size.tolist()), model.patch_size, block_size, len(names))
    for name, level_embed, old, new in zip(names, model.pos_embeds, old_grids, model.grids):
        pos = state[name]
        if pos.shape[1] == 1:  # shared by all blocks, or the only block
            old = (1, 1)
        if pos.shape[1] != old[0] * old[1]:
            raise ValueError(
                f"{name} has {pos.shape[1]} blocks, which do not form a square, and the weights do "
                "not tell their image size; load them into a model of that size and save them "
                "again"
            )
        new = (1, 1) if level_embed.shape[1] == 1 else new
        state[name] = resize_pos_embed(pos, old, new, model.block_size)
