"""GradCAT against Algorithm 1 written out on planes, and against planted evidence."""

import numpy as np
import pytest
import torch
from torch import nn

from nestlib.explain import cam, gradcat
from nestlib.models.nest import NesT


def build(depth=3, patch_size=1, size=16, **options) -> NesT:
    torch.manual_seed(depth)
    model = NesT(
        size, patch_size, (8,) * depth, (2,) * depth, (1,) * depth, num_classes=5,
        attention="multi_query", **options,
    )  # fmt: skip
    for p in model.parameters():  # far from the small initial weights, so that maps differ
        nn.init.normal_(p, std=0.3)
    # The last LayerNorm makes the mean of map times gradient nearly cancel: in fp32 that is noise.
    return model.double()


def algorithm1(model: NesT, image: torch.Tensor, label: int, sign: float) -> tuple[list, list]:
    """The paper's Algorithm 1 on one image, on the maps of forward hooks, by slicing planes."""
    maps, hooks = {}, []
    for level, hierarchy in enumerate(model.hierarchies):

        def keep(module, inputs, output, level=level):
            output.retain_grad()
            maps[level] = output

        hooks.append(hierarchy.register_forward_hook(keep))
    model(image[None])[0, label].backward()
    for hook in hooks:
        hook.remove()
    path, averages, window = [], [], None
    for level in range(len(maps) - 1, 0, -1):
        down, across = model.grids[level]
        edge = model.block_size
        h = torch.zeros(down * edge, across * edge).double()
        product = (sign * maps[level] * maps[level].grad).mean(-1)[0]
        for t in range(down * across):
            y, x = t // across * edge, t % across * edge
            h[y : y + edge, x : x + edge] = product[t].reshape(edge, edge)
        y0, x0, tall, wide = window or (0, 0, *h.shape)
        half = tall // 2, wide // 2
        four = [
            h[y0 + i * half[0] : y0 + (i + 1) * half[0], x0 + j * half[1] : x0 + (j + 1) * half[1]]
            .mean().item() for i in (0, 1) for j in (0, 1)
        ]  # fmt: skip
        best = int(np.argmax(four))
        path.append(best)
        averages.append(four)
        # The next hierarchy's map has twice as many patches along each edge.
        corner = y0 + best // 2 * half[0], x0 + best % 2 * half[1]
        window = (2 * corner[0], 2 * corner[1], 2 * half[0], 2 * half[1])
    model.zero_grad()
    return path, averages


@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize(
    ("depth", "patch_size", "size"),
    [(2, 1, 8), (3, 1, 16), (3, 2, (32, 64)), (4, 1, 32), (5, 1, 64), (3, 4, 224)],
)
def test_path_is_algorithm_1s(depth, patch_size, size, sign):
    model = build(depth, patch_size, size)
    H, W = model.img_size
    images = torch.randn(3, 3, H, W).double()
    found = gradcat(model, images, [0, 4, 2], sign=sign)
    for i, label in enumerate((0, 4, 2)):
        path, averages = algorithm1(model, images[i], label, 1.0 if sign == "positive" else -1.0)
        assert found.path[i].tolist() == path
        np.testing.assert_allclose(
            found.activations[i].reshape(-1, 4), averages, rtol=1e-3, atol=1e-6
        )


def test_boxes_are_nested_and_end_in_a_leaf_block():
    model = build(4, 1, 32)
    found = gradcat(model, torch.randn(6, 3, 32, 32).double())
    leaf = model.patch_size * model.block_size
    for path, boxes in zip(found.path, found.boxes):
        outer = np.array([0, 0, 31, 31])
        for child, box in zip(path, boxes):
            size = (outer[2] - outer[0] + 1) // 2
            corner = outer[0] + child % 2 * size, outer[1] + child // 2 * size
            assert box.tolist() == [*corner, corner[0] + size - 1, corner[1] + size - 1]
            outer = box
        assert outer[2] - outer[0] + 1 == leaf
    assert (found.path == found.activations.reshape(6, -1, 4).argmax(-1)).all()
    assert (found.classes == found.logits.argmax(1)).all()


@pytest.mark.parametrize("quadrant", range(4))
def test_planted_evidence_is_found_and_the_negative_sign_flees_it(quadrant):
    """Layers are the identity and windows see their own patch: a class is a colour, linearly."""
    model = NesT(16, 1, (3, 3, 3), (1, 1, 1), (1, 1, 1), num_classes=3)
    model.hierarchies = nn.ModuleList(nn.Identity() for _ in range(3))
    model.norm = nn.Identity()
    for aggregation in model.aggregations:
        aggregation.norm = nn.Identity()
        nn.init.dirac_(aggregation.conv.weight)
        nn.init.zeros_(aggregation.conv.bias)
    for pos in model.pos_embeds:
        nn.init.zeros_(pos)
    with torch.no_grad():
        model.patch_embed.weight.copy_(torch.eye(3)[:, :, None, None])
        model.patch_embed.bias.zero_()
        model.head.weight.copy_(torch.eye(3))
        model.head.bias.zero_()
    # One pixel that the overlapping windows keep in the upper right leaf of its quadrant.
    y, x = quadrant // 2 * 8 + 3, quadrant % 2 * 8 + 7
    images = torch.zeros(1, 3, 16, 16)
    images[0, 1, y, x] = 1.0
    assert gradcat(model, images, 1).path.tolist() == [[quadrant, 1]]
    assert gradcat(model, images, 1, sign="negative").path[0, 0] != quadrant


def test_nothing_is_left_on_the_model():
    model = build().train().requires_grad_(False)
    with torch.no_grad():
        gradcat(model, torch.randn(2, 3, 16, 16).double())
        cam(model, torch.randn(2, 3, 16, 16).double())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not any(p.requires_grad for p in model.parameters())


def test_a_batch_is_its_images_one_by_one():
    model, images = build(), torch.randn(4, 3, 16, 16).double()
    whole = gradcat(model, images, 3)
    for i in range(4):
        one = gradcat(model, images[i : i + 1], 3)
        np.testing.assert_allclose(one.activations[0], whole.activations[i], rtol=1e-4, atol=1e-7)


def test_the_maps_mean_is_the_logit():
    model, images = build().eval(), torch.randn(3, 3, 16, 16).double()
    logits = model(images)
    for label in range(5):
        maps = cam(model, images, label)
        assert maps.shape == (3, 4, 4)
        torch.testing.assert_close(maps.mean((1, 2)), logits[:, label], rtol=1e-4, atol=1e-5)
    features = model.forward_features(images)
    weight, bias = model.head.weight[2], model.head.bias[2]
    expected = (features * weight[:, None, None]).sum(1) + bias
    torch.testing.assert_close(cam(model, images, [2, 2, 2]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.forward_with_features(images)[0], logits)


@pytest.mark.parametrize(
    ("classes", "error"),
    [(5, "class 5 is not one of the model's 5: 0 to 4"), (-1, "class -1"), ([1, 2, 3], "2 images")],
)
def test_classes_that_do_not_fit_are_named(classes, error):
    for explain in (gradcat, cam):
        with pytest.raises(ValueError, match=error):
            explain(build(), torch.randn(2, 3, 16, 16).double(), classes)


def test_models_and_sizes_that_do_not_fit_are_refused():
    images = torch.randn(1, 3, 16, 16).double()
    for explain in (gradcat, cam):
        with pytest.raises(TypeError, match="Linear has no hierarchies"):
            explain(nn.Linear(3, 3), images)
        with pytest.raises(ValueError, match="nearest: 16x16"):
            explain(build(), torch.randn(1, 3, 17, 16).double())
    with pytest.raises(ValueError, match="of one hierarchy has no tree"):
        gradcat(build(1, 1, 4), torch.randn(1, 3, 4, 4).double())
    with pytest.raises(ValueError, match=r"3x3 patches.*nearest: images of 16x16"):
        gradcat(build(3, 1, 12), torch.randn(1, 3, 12, 12).double())
    with pytest.raises(ValueError, match="'up' is not one of positive, negative"):
        gradcat(build(), images, sign="up")
