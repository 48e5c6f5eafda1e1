"""ResNets that localize by class maps: plain (for CAM and Grad-CAM++), and with the attention-based
dropout layer, ADL (Choe and Shim, CVPR 2019, arXiv 1908.10028).

timm's ResNets hold no more than 2x2 places of a 64-pixel image at their stride of 32. Here the last
stages dilate instead (output_stride): 8, the default, leaves 8x8 of 64 pixels and 28x28 of 224.
The authors' SE-ResNet-50 has a stride of 16 (14x14 of 224).

Values and places are those of the authors' code (github.com/junsukchoe/ADL: run_train.sh, ops.py):
SE-ResNet-50 with drop rate 0.75 and gamma 0.9, behind the first blocks of stages 3 and 4 and behind
the last block; their VGG-GAP takes gamma 0.8. Their network is "seresnet50" here; "resnet50" has no
squeeze and excitation, as in "Evaluating WSOL methods right" (github.com/clovaai/wsolevaluation),
which puts the layer in the same three places.

Shapes: B images, C channels, h x w places, K classes.
"""

from collections.abc import Sequence

import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from nestlib.arguments import Pixels, Share, Width, checked

LIBRARY = "timm"
STRIDES = (8, 16, 32)
# (stage, block), the last of a stage is -1; ResNets with one block a stage have one layer for two.
PUBLISHED_PLACES = ((3, 0), (4, 0), (4, -1))
VARIANTS = {
    "resnet50_wsol": {"architecture": "resnet50", "output_stride": 8, "channels": None},
    "resnet50_adl": {
        "architecture": "resnet50", "output_stride": 8, "channels": None,
        "drop_rate": 0.75, "gamma": 0.9, "places": PUBLISHED_PLACES,
    },
}  # fmt: skip


class AttentionDropout(nn.Module):
    """ADL: hides the most attended places, or weighs all by attention; the identity in eval mode.

    Attention is the mean of the channels, (B, 1, h, w). Each training batch draws one of two maps
    to multiply the features by: with probability drop_rate the drop mask, 1 where attention is
    below gamma times the image's maximum and 0 elsewhere, else the importance map, its sigmoid.

    Raises:
        ValueError: drop_rate or gamma is not within 0 and 1.
    """

    @checked
    def __init__(self, drop_rate: Share = 0.75, gamma: Share = 0.9):
        super().__init__()
        self.drop_rate, self.gamma = drop_rate, gamma

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape and type."""
        if not self.training:
            return features
        attention = features.mean(1, keepdim=True, dtype=torch.float32)
        importance = attention.sigmoid()
        mask = attention < self.gamma * attention.amax((1, 2, 3), keepdim=True)
        # Drawn and chosen on the device, which a Python `if` would make wait.
        drops = torch.rand((), device=features.device) < self.drop_rate
        return features * torch.where(drops, mask.float(), importance).to(features.dtype)

    def extra_repr(self) -> str:
        return f"drop_rate={self.drop_rate}, gamma={self.gamma}"


class ClassMapResNet(nn.Module):
    """timm's ResNet, pooled by its mean before a linear head: its class maps are exact
    (nestlib.explain.class_maps, "cam").

    `resnet` is timm's; its layer4 gives the features (B, C, h, w).
    """

    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.resnet = resnet

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, K)."""
        return self.resnet(images)

    # timm's interface, which Grad-CAM takes.

    @property
    def num_features(self) -> int:
        return self.resnet.num_features

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> the last map (B, C, h, w)."""
        return self.resnet.forward_features(images)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.resnet.forward_head(x, pre_logits=pre_logits)

    def get_classifier(self) -> nn.Module:
        return self.resnet.get_classifier()


@checked
def build_resnet(
    architecture: str, output_stride: int, img_size: Pixels, channels: Sequence[Width] | None,
    **options,
) -> nn.Module:  # fmt: skip
    """Build timm's ResNet for class maps of at least 2x2 places.

    Args:
        architecture: a ResNet of timm's.
        output_stride: pixels per place of the map, 8, 16 or 32.
        img_size: pixels; images of any size are taken, so only the map's places are checked.
        channels: of the four stages; None: the architecture's own.
        options: timm's.

    Raises:
        ValueError: no ResNet of timm's, another output_stride, or an image no wider
            than that.
    """
    if not is_model_in_modules(architecture, ["resnet"]):
        raise ValueError(
            f"timm has no ResNet {architecture[:100]!r}; use one of "
            "timm.list_models(module='resnet')"
        )
    if output_stride not in STRIDES:
        raise ValueError(f"output_stride {output_stride} is not one of {STRIDES}; use 8")
    if img_size <= output_stride:
        raise ValueError(
            f"img_size {img_size} leaves one place at output_stride {output_stride}, nothing to "
            f"localize; use images wider than that, or output_stride 8"
        )
    if channels is not None:
        if len(channels) != 4:
            raise ValueError(
                f"channels {channels} are not four widths; timm's are 64, 128, 256, 512"
            )
        options["channels"] = tuple(channels)
    return timm.create_model(architecture, output_stride=output_stride, **options)


@checked
def build(
    *, drop_rate: Share = 0.75, gamma: Share = 0.9, places: tuple[tuple[int, int], ...] = (),
    **resnet_options,
) -> ClassMapResNet:  # fmt: skip
    """Build a ResNet that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: drop_rate and gamma (of AttentionDropout), places (the (stage, block) that it follows:
    stages from 1, blocks from 0), and those of `build_resnet`.

    Raises:
        ValueError: options that no ResNet has, a drop_rate or gamma outside 0 and 1, or a place
            that the ResNet does not have.
    """
    resnet = build_resnet(**resnet_options)
    for block in _blocks(resnet, places):
        # Behind the block's last activation, where it changes no name of timm's weights.
        last = "act3" if hasattr(block, "act3") else "act2"
        activation = getattr(block, last)
        setattr(block, last, nn.Sequential(activation, AttentionDropout(drop_rate, gamma)))
    return ClassMapResNet(resnet)


def _blocks(resnet: nn.Module, places: tuple[tuple[int, int], ...]) -> list[nn.Module]:
    """The blocks at (stage, block), each once."""
    blocks = []
    for stage, index in places:
        blocks_of_stage = getattr(resnet, f"layer{stage}", ())
        depth = len(blocks_of_stage)
        if not -depth <= index < depth:
            depths = [len(getattr(resnet, f"layer{s}")) for s in range(1, 5)]
            raise ValueError(
                f"places has (stage, block) {(stage, index)}; stages 1 to 4 have {depths} blocks, "
                "counted from 0"
            )
        if all(blocks_of_stage[index] is not block for block in blocks):
            blocks.append(blocks_of_stage[index])
    return blocks
