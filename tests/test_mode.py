"""Whatever looks at a model leaves it as it was: parts frozen in evaluation mode stay so, and a
training step is bit-equal before and after."""

import copy
from functools import cache

import pytest
import torch
from torch import nn

from nestbook.benchmarks.memory import measure_memory_mb
from nestbook.class_maps import class_maps
from nestbook.evaluations.grounding import faithfulness, grounding, point_by_gradcat
from nestbook.evaluations.localizers import maps_of
from nestbook.explorer.answer import explore_image
from nestlib.data.datasets import load_dataset
from nestlib.data.views import View
from nestlib.explain import cam, gradcat
from nestlib.metrics.accuracy import Candidate, measure_accuracy
from nestlib.metrics.cost import count_gflops, make_input
from nestlib.metrics.features import ClassifierFeatures
from nestlib.metrics.generation import generate
from nestlib.models import NesT, create_generator, create_model
from nestlib.models.mode import keeping_state, running_mode

IMAGES = torch.zeros(2, 3, 16, 16)


def build_nest():
    return NesT(16, 2, (8, 8), (2, 2), (1, 1), num_classes=5, drop_path_rate=0.5)


def build_peer(name, **options):
    return create_model(name, num_classes=5, img_size=16, architecture="resnet18", **options)


def build_deit():
    sizes = {"patch_size": 4, "depth": 2, "embed_dim": 8, "num_heads": 2}
    return create_model("deit_tiny_cifar", num_classes=5, img_size=16, drop_path_rate=0.5, **sizes)


def build_large_nest():
    return NesT(64, 4, (8, 8, 8), (2, 2, 2), (1, 1, 1), num_classes=10, drop_path_rate=0.5)


@cache
def canvases():
    options = {"image_size": 64, "canvas": "plain", "digits_per_image": 4, "num_images": 8}
    return load_dataset("digits", "test", **options)


def accuracy_of(model):
    view = View(64, 1.0, "bicubic", (0.5,) * 3, (0.25,) * 3)
    candidate = Candidate("narrow", model, view, own=True)
    return measure_accuracy([candidate], canvases(), device="cpu", progress=False)


USERS = {
    "cam": (build_nest, lambda model: cam(model, IMAGES)),
    "gradcam": (build_nest, lambda model: class_maps("gradcam", model, IMAGES)),
    "gradcam++": (
        lambda: build_peer("resnet50_adl"),
        lambda model: class_maps("gradcam++", model, IMAGES),
    ),
    "rollout": (build_deit, lambda model: class_maps("rollout", model, IMAGES)),
    "gradcat": (build_nest, lambda model: gradcat(model, IMAGES)),
    "explore_image": (build_nest, lambda model: explore_image(model, IMAGES[0])),
    "grounding": (
        build_large_nest,
        lambda model: grounding(model, canvases(), {"way": point_by_gradcat()}, progress=False),
    ),
    "faithfulness": (
        build_large_nest,
        lambda model: faithfulness(model, canvases(), point_by_gradcat(), progress=False),
    ),
    "measure_accuracy": (build_large_nest, accuracy_of),
    "count_gflops": (build_nest, lambda model: count_gflops(model, 16)),
    "measure_memory_mb": (
        lambda: build_peer("resnet50_adl"),
        lambda model: measure_memory_mb(model, IMAGES, train=True),
    ),
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
        lambda: build_peer("resnet50_acol", hidden=8),
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


def train(model, look):
    """Two steps, with a look at the model between backward pass and update, and between the steps;
    everything that they leave."""
    torch.manual_seed(0)
    size = model.img_size[0] if isinstance(model, NesT) else 16
    images = make_input(model, 3, size, "cpu")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        model(images).square().sum().backward()
        look(model)
        optimizer.step()
        look(model)  # gradients add up, as they do where a batch comes in parts
    left = {name: value.clone() for name, value in model.state_dict().items()}
    left |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    facts = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
    return left, facts, [p.requires_grad for p in model.parameters()], torch.get_rng_state()


@pytest.mark.parametrize("user", USERS)
def test_training_is_bit_equal_with_a_look_and_without(user):
    """pytorch-grad-cam 1.5's constructor would leave evaluation mode behind, its call the gradients
    of a score in place of those of the loss."""
    build, use = USERS[user]
    torch.manual_seed(0)
    looked_at = build().train()
    frozen = next(m for m in looked_at.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm))
    frozen.eval().requires_grad_(False)
    left_alone = copy.deepcopy(looked_at)
    (found, *facts, stream), (expected, *others, other_stream) = (
        train(looked_at, use), train(left_alone, lambda model: None)
    )  # fmt: skip
    assert facts == others and torch.equal(stream, other_stream)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = found[name] is None if value is None else torch.equal(found[name], value)
        assert same, name


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_every_modules_own_again_after_an_error(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(ValueError, match="inside"), running_mode(model, training):
        assert {module.training for module in model.modules()} == {training}
        raise ValueError("inside")
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_train_of_its_own_that_fails_midway_leaves_the_mode():
    class Failing(nn.Sequential):
        def train(self, mode=True):
            self[0].train(mode)
            raise ValueError("midway")

    model = Failing(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="midway"), running_mode(model, training=False):
        pytest.fail("it went on")
    assert [module.training for module in model.modules()] == [True] * 3


@pytest.mark.parametrize("made_in_inference_mode", [True, False])
def test_buffers_that_a_pass_puts_others_in_place_of_come_back(made_in_inference_mode):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count = self.count + 1
            return x

    with torch.inference_mode(made_in_inference_mode):
        model = Counting()
    own = model.count
    with keeping_state(model):
        model(torch.zeros(1))
    assert model.count is own and own.item() == 0
