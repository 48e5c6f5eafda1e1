"""Parts frozen in evaluation mode stay so, whatever looks at the model."""

import pytest
import torch
from torch import nn

from nestbook.benchmarks.memory import measure_memory_mb
from nestbook.class_maps import class_maps
from nestbook.evaluations.localizers import maps_of
from nestbook.explorer.answer import explore_image
from nestlib.explain import cam, gradcat
from nestlib.metrics.cost import count_gflops
from nestlib.metrics.features import ClassifierFeatures
from nestlib.metrics.generation import generate
from nestlib.models import NesT, create_generator, create_model
from nestlib.models.mode import running_mode

IMAGES = torch.zeros(2, 3, 16, 16)


def build_nest():
    return NesT(16, 2, (8, 8), (2, 2), (1, 1), num_classes=5)


def build_peer(name):
    return create_model(name, num_classes=5, img_size=16, architecture="resnet18")


USERS = {
    "cam": (build_nest, lambda model: cam(model, IMAGES)),
    "class_maps": (build_nest, lambda model: class_maps("gradcam", model, IMAGES)),
    "gradcat": (build_nest, lambda model: gradcat(model, IMAGES)),
    "explore_image": (build_nest, lambda model: explore_image(model, IMAGES[0])),
    "count_gflops": (build_nest, lambda model: count_gflops(model, 16)),
    "measure_memory_mb": (build_nest, lambda model: measure_memory_mb(model, IMAGES, train=True)),
    "maps_of": (
        build_nest,
        lambda model: maps_of("cam", model, [(IMAGES, torch.tensor([0, 1]))], 2, progress=False),
    ),
    "ClassifierFeatures": (
        build_nest,
        lambda model: ClassifierFeatures("narrow", model, (0.5,) * 3, (0.25,) * 3)(IMAGES.byte()),
    ),
    "generate": (
        lambda: create_generator("nest_decoder", img_size=16, embed_dim=16, latent_dim=4),
        lambda model: generate(model, 2, seed=0),
    ),
    "adl": (
        lambda: build_peer("resnet50_adl"),
        lambda model: class_maps("cam", model, IMAGES, torch.tensor([0, 1])),
    ),
    "acol": (
        lambda: build_peer("resnet50_acol"),
        lambda model: model.class_maps(IMAGES, torch.tensor([0, 1])),
    ),
}


@pytest.mark.parametrize("user", USERS)
def test_frozen_parts_stay_frozen(user):
    build, use = USERS[user]
    model = build().train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm))
    frozen.eval()
    before = [module.training for module in model.modules()]
    use(model)
    assert [module.training for module in model.modules()] == before
    assert model.training and not frozen.training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_every_modules_own_again_after_an_error(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(ValueError, match="inside"), running_mode(model, training):
        assert {module.training for module in model.modules()} == {training}
        raise ValueError("inside")
    assert [module.training for module in model.modules()] == [True, True, False]
