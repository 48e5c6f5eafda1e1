"""ACoL: adversarial complementary learning (Zhang et al., CVPR 2018, arXiv 1804.06962) on ResNets.

Two classifiers share a backbone. Where the first's map of the true class is high, the second's
features are erased, so it must find other parts of the object. Both cross entropies are summed.

After the authors' code (github.com/xiaomengyc/ACoL: models/vgg/vgg_v1.py, exper/val_frame.py), a
VGG-16 of stride 8: the classifiers' layers and initial values, delta 0.6 for CUB and ImageNet,
erasing at delta and above, no gradient through the mask, accuracy by the first classifier alone.
They have no ResNet. As in "Evaluating WSOL methods right" (github.com/clovaai/wsolevaluation),
whose ResNet-50 has the same classifiers, the features are not averaged over 3x3 places first, as
the authors do with VGG's.

output_stride is that of adl.py: 8, the default, leaves 8x8 places of a 64-pixel image.

Shapes: B images, C channels, h x w places, K classes.
"""

from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from nestbook.peers.adl import build_resnet
from nestlib.arguments import Range, checked
from nestlib.explain.cam import check_finite, check_images, choose_classes
from nestlib.models.mode import running_mode

LIBRARY = "timm"
VARIANTS = {
    "resnet50_acol": {
        "architecture": "resnet50", "output_stride": 8, "channels": None, "delta": 0.6,
        "hidden": 1024,
    },
}  # fmt: skip


class ACoL(nn.Module):
    """A backbone with two classifiers, each of which maps its features to class maps.

    Training needs targets, as they say what to erase: `forward(images, targets)` returns the logits
    of both classifiers, whose cross entropies add up to the loss. `forward(images)` returns the
    first's in either mode, and trains nothing of the second.
    """

    def __init__(
        self, resnet: nn.Module, *, num_features: int, num_classes: int, hidden: int, delta: float
    ):
        super().__init__()
        self.resnet, self.num_classes, self.delta = resnet, num_classes, delta
        self.classifier_a = _classifier(num_features, hidden, num_classes)
        self.classifier_b = _classifier(num_features, hidden, num_classes)

    def forward(
        self, images: Tensor, targets: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> logits (B, K), with targets those of both classifiers.

        Args:
            targets: (B,) int64 or (B, K) probabilities (mixup), whose likeliest class erases.
        """
        features = self.resnet(images)
        maps = self.classifier_a(features)
        logits = maps.mean((2, 3))
        if targets is None:
            return logits
        classes = targets if targets.ndim == 1 else targets.argmax(1)
        erased = erase(features, normalize_maps(select(maps, classes)), self.delta)
        return logits, self.classifier_b(erased).mean((2, 3))

    @torch.no_grad()
    def class_maps(self, images: Tensor, classes: Tensor) -> Tensor:
        """The larger of both classifiers' normalised maps of a class: (B, h, w) from 0 to 1.

        The second sees features erased by the same class. In eval mode whatever the model's mode.

        Args:
            classes: (B,) int64.

        Raises:
            ValueError: not one class per image, an unknown class, or images that do
                not fit or are not finite.
        """
        check_images(self, images)
        with running_mode(self, training=False):
            features = self.resnet(images)
            maps = self.classifier_a(features)
            logits = maps.mean((2, 3))
            check_finite(logits)
            classes = choose_classes(classes, logits)
            first = normalize_maps(select(maps, classes))
            erased = erase(features, first, self.delta)
            second = normalize_maps(select(self.classifier_b(erased), classes))
        return torch.maximum(first, second)


def _classifier(num_features: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Features (B, C, h, w) -> class maps (B, K, h, w)."""
    widths = [num_features, hidden, hidden] if hidden else [num_features]
    layers = []
    for pair in pairwise(widths):
        layers += [nn.Conv2d(*pair, 3, padding=1), nn.ReLU()]
    layers.append(nn.Conv2d(widths[-1], num_classes, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def select(maps: Tensor, classes: Tensor) -> Tensor:
    """Select the map of one class (B,) per image: (B, K, h, w) -> (B, h, w)."""
    return maps[torch.arange(len(maps), device=maps.device), classes]


def normalize_maps(maps: Tensor) -> Tensor:
    """Scale each of (B, h, w) from its minimum and maximum to 0 and 1; a constant map to 0."""
    maps = maps.detach().float()
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def erase(features: Tensor, attention: Tensor, delta: float) -> Tensor:
    """Zero features (B, C, h, w) where attention (B, h, w) is delta or more."""
    return features * (attention < delta)[:, None].to(features.dtype)


@checked
def build(
    *, num_classes: int, delta: Annotated[float, Range(0, 1, "(]")],
    hidden: Annotated[int, Range(0, 2**14)], **resnet_options,
) -> ACoL:  # fmt: skip
    """Build an ACoL that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: delta (the normalised attention that erases; the paper tries 0.5 to 0.9), hidden (the
    width of a classifier's two 3x3 convolutions; 0 leaves its 1x1 convolution alone), and those of
    the ResNet (nestbook.peers.adl.build_resnet).

    Raises:
        ValueError: options that no ResNet has, a delta that is 0 or less or above 1, or a negative
            hidden.
    """
    resnet = build_resnet(num_classes=0, global_pool="", **resnet_options)
    return ACoL(
        resnet, num_features=resnet.num_features, num_classes=num_classes, hidden=hidden,
        delta=delta,
    )  # fmt: skip
