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


def algorithm1(
    model: NesT, image: torch.Tensor, label: int, *, sign: str, weighting: str, maps: str
) -> tuple[list, list]:
    """The paper's Algorithm 1 on one image, on the maps of forward hooks, by slicing planes."""
    kept, hooks = {}, []
    modules = list(model.hierarchies)
    if maps == "normed":
        modules[-1] = model.norm
    for level, module in enumerate(modules):

        def keep(module, inputs, output, level=level):
            x = inputs[0] if maps == "inputs" else output
            x.retain_grad()
            kept[level] = x

        hooks.append(module.register_forward_hook(keep))
    model(image[None].requires_grad_())[0, label].backward()
    for hook in hooks:
        hook.remove()
    path, averages, window = [], [], None
    for level in range(len(kept) - 1, 0, -1):
        down, across = model.grids[level]
        edge, C = model.block_size, kept[level].shape[-1]
        A, gradient = (torch.zeros(down * edge, across * edge, C).double() for _ in range(2))
        for t in range(down * across):
            y, x = t // across * edge, t % across * edge
            A[y : y + edge, x : x + edge] = kept[level][0, t].reshape(edge, edge, C)
            gradient[y : y + edge, x : x + edge] = kept[level].grad[0, t].reshape(edge, edge, C)
        y0, x0, tall, wide = window or (0, 0, down * edge, across * edge)
        if weighting == "partition":
            gradient[:] = gradient[y0 : y0 + tall, x0 : x0 + wide].mean((0, 1))
        h = ((1 if sign == "positive" else -1) * A * gradient).mean(-1)
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


@pytest.mark.parametrize("maps", ["outputs", "normed", "inputs"])
@pytest.mark.parametrize(
    ("sign", "weighting"),
    [("positive", "place"), ("negative", "place"), ("positive", "partition")],
)
@pytest.mark.parametrize(
    ("depth", "patch_size", "size"),
    [(2, 1, 8), (3, 1, 16), (3, 2, (32, 64)), (4, 1, 32), (5, 1, 64), (3, 4, 224)],
)
def test_path_is_algorithm_1s(depth, patch_size, size, sign, weighting, maps):
    options = dict(sign=sign, weighting=weighting, maps=maps)
    model = build(depth, patch_size, size)
    H, W = model.img_size
    images = torch.randn(3, 3, H, W).double()
    found = gradcat(model, images, [0, 4, 2], **options)
    for i, label in enumerate((0, 4, 2)):
        path, averages = algorithm1(model, images[i], label, **options)
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


def test_the_last_layernorm_makes_the_top_step_of_raw_outputs_vanish():
    """LN(a x) = LN(x): by Euler's theorem the map times its gradient sums to nought everywhere."""
    model, images = build().float(), torch.randn(4, 3, 16, 16)
    sizes = {
        maps: abs(gradcat(model, images, 1, maps=maps).activations[:, 0]).mean()
        for maps in ("outputs", "normed")
    }
    assert sizes["outputs"] < 1e-5 * sizes["normed"]


def test_the_top_step_on_normed_maps_is_cam_without_the_bias():
    model, images = build(), torch.randn(4, 3, 16, 16).double()
    found = gradcat(model, images, 2, maps="normed").activations[:, 0]
    quadrants = (cam(model, images, 2) - model.head.bias[2]).detach().reshape(4, 2, 2, 2, 2)
    expected = quadrants.mean((2, 4)).numpy()
    scale = np.linalg.norm(found) / np.linalg.norm(expected)  # means over places and channels
    np.testing.assert_allclose(found, expected * scale, rtol=1e-5)


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
    for option in ("sign", "weighting", "maps"):
        with pytest.raises(ValueError, match=f"no {option} 'up'; .*valid: "):
            gradcat(build(), images, **{option: "up"})
