"""The convnets of Table 2: timm's ResNet (arXiv 1512.03385), RegNetY (2003.13678) and EfficientNet
(1905.11946).

EfficientNets pad as TensorFlow does (timm's tf_ models): the paper's figures are those of the
TensorFlow authors' weights, which exist. The table's image sizes are 224, for B3 300, for B5 456.
"""

import timm
from torch import nn

from nestlib.arguments import DropRate, Pixels, checked

LIBRARY = "timm"
VARIANTS = {
    "resnet50_imagenet": {"architecture": "resnet50"},
    "regnety_4g_imagenet": {"architecture": "regnety_040"},
    "regnety_16g_imagenet": {"architecture": "regnety_160"},
    "efficientnet_b3_imagenet": {"architecture": "tf_efficientnet_b3"},
    "efficientnet_b5_imagenet": {"architecture": "tf_efficientnet_b5"},
}


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate, architecture: str
) -> nn.Module:
    """Build a convnet that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    A convnet takes images of any size; img_size changes nothing in it.

    Options: architecture (timm's name of a convnet that knows stochastic depth).

    Raises:
        ValueError: timm has no such model.
    """
    if not timm.is_model(architecture):
        raise ValueError(
            f"timm has no model {architecture[:100]!r}; use one of timm.list_models('*resnet*') "
            "or another convnet"
        )
    return timm.create_model(architecture, num_classes=num_classes, drop_path_rate=drop_path_rate)
