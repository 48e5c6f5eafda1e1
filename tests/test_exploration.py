"""Exploring an image at once says what GradCAT and CAM say one class at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from nestbook.explorer.answer import explore_image
from nestlib.explain import cam, gradcat
from nestlib.models.nest import NesT


def build(num_classes=5, size=16) -> NesT:
    torch.manual_seed(0)
    model = NesT(size, 1, (8, 8, 8), (2, 2, 2), (1, 1, 1), num_classes=num_classes)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.double()


IMAGE = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def test_all_classes_at_once_are_the_classes_one_by_one():
    model = build().train()
    seen = explore_image(model, IMAGE)
    assert model.training  # left as it was
    assert seen.traversal.classes.tolist() == [0, 1, 2, 3, 4]
    for row in range(5):
        alone = gradcat(model, IMAGE[None], row)
        for name in ("path", "boxes"):
            assert np.array_equal(getattr(seen.traversal, name)[row], getattr(alone, name)[0])
        np.testing.assert_allclose(seen.traversal.activations[row], alone.activations[0], rtol=1e-5)
        np.testing.assert_allclose(seen.maps[row], cam(model, IMAGE[None], row)[0], rtol=1e-5)
    assert len(set(map(tuple, seen.traversal.path.tolist()))) > 1  # classes differ: it is no copy
    logits = model.eval()(IMAGE[None])[0].detach()
    np.testing.assert_allclose(seen.probabilities, logits.softmax(0), rtol=1e-5)
    np.testing.assert_allclose(seen.maps.mean((1, 2)), logits, rtol=1e-5)


def test_of_many_classes_the_likeliest_come_first_then_those_asked_for():
    model = build(num_classes=30)
    order = model.eval()(IMAGE[None])[0].argsort(descending=True).tolist()
    seen = explore_image(model, IMAGE, [order[-1], order[1]], likeliest=4)
    assert seen.traversal.classes.tolist() == [*order[:4], order[-1]]
    assert seen.probabilities.shape == (30,) and seen.probabilities.argmax() == order[0]


@pytest.mark.parametrize("made_inside", [False, True])
def test_inference_mode_changes_nothing(made_inside):
    model, image = build(), IMAGE
    seen = explore_image(model, image)
    with torch.inference_mode():
        image = image.clone() if made_inside else image
        inside = explore_image(model, image)
    assert np.array_equal(inside.traversal.activations, seen.traversal.activations)
    assert np.array_equal(inside.maps, seen.maps)


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(ValueError, match="class 5 is not one of the model's 5: 0 to 4"):
        explore_image(build(), IMAGE, [5])
    with pytest.raises(ValueError, match=r"image has shape \(1, 3, 16, 16\); give one of \(3, H"):
        explore_image(build(), IMAGE[None])
    with pytest.raises(TypeError, match="Linear has no hierarchies of blocks"):
        explore_image(nn.Linear(2, 2), IMAGE)
    for likeliest in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"likeliest is {likeliest}; give .* 1 or more"):
            explore_image(build(), IMAGE, likeliest=likeliest)
    for classes in (1.5, True, [1.2, 1.9], torch.tensor([True])):
        with pytest.raises(ValueError, match="is not a whole number, one of the model's 5"):
            explore_image(build(), IMAGE, classes)
    for image in (IMAGE.float(), IMAGE.byte(), IMAGE[:1]):
        with pytest.raises(ValueError, match=r"give a tensor \(B, 3, H, W\) .*torch.float64"):
            explore_image(build(), image)
    with pytest.raises(ValueError, match="logits that are NaN"):
        explore_image(build(), IMAGE * float("nan"))
    headless, mlp = build(), build()
    headless.reset_classifier(0)
    with pytest.raises(ValueError, match="has no classes"):
        explore_image(headless, IMAGE)
    mlp.head = nn.Sequential(nn.Linear(8, 9), nn.GELU(), nn.Linear(9, 5)).double()
    with pytest.raises(TypeError, match="no exact CAM"):
        explore_image(mlp, IMAGE)
    with pytest.raises(ValueError, match="18"):
        explore_image(build(), torch.zeros(3, 18, 18).double())
