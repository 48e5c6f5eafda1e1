"""torch.compile takes every architecture whole, training included."""

import pytest
import torch

from nestlib.models import create_model

# The smallest of each architecture, for images of so many pixels; batch norm wants two of them.
MODELS = {
    "nest_tiny_cifar": 32,
    "nest_tiny_imagenet": 224,
    "deit_tiny_cifar": 32,
    "swin_tiny_cifar": 32,
    "pvt_tiny_cifar": 32,
    "cct7_3x1_cifar": 32,
    "wrn28_10_cifar": 32,
    "pyramid164_48_cifar": 32,
    "resnet50_imagenet": 64,
    "regnety_4g_imagenet": 64,
    "efficientnet_b3_imagenet": 64,
    "vit_base_16_imagenet": 32,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_compiles_without_graph_breaks(name):
    """fullgraph raises at a break; aot_eager traces the backward pass too."""
    torch.compiler.reset()
    model = create_model(name, num_classes=10, img_size=MODELS[name]).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    images = torch.randn(2, 3, MODELS[name], MODELS[name])
    compiled(images).square().mean().backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
