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
    """LN(a x) = LN(x): by Euler's theorem the map times its gradient sums to zero everywhere."""
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


class Tempered(NesT):
    def forward(self, images):
        return super().forward(images) / 2


class MaxPooled(NesT):
    def forward_head(self, x, pre_logits=False):
        x = x.amax((2, 3))
        return x if pre_logits else self.head(x)


class TwicePooled(NesT):
    """Mean and maximum side by side, so the head takes twice the channels."""

    def forward_head(self, x, pre_logits=False):
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def with_head(head: nn.Module) -> NesT:
    model = build()
    model.head = head.double()
    return model


def of_class(kind: type, head: nn.Module | None = None) -> NesT:
    model = build() if head is None else with_head(head)
    model.__class__ = kind
    return model


def hooked() -> NesT:
    model = build()
    model.register_forward_hook(lambda module, inputs, logits: logits.square())
    return model


def prehooked_head() -> NesT:
    model = build()
    model.head.register_forward_pre_hook(lambda module, inputs: (inputs[0].relu(),))
    return model


def patched() -> NesT:
    model = build()
    model.forward = lambda images: NesT.forward(model, images) + 1
    return model


NOT_LINEAR = {  # the logits are not the means of the head's maps, but gradients explain them
    "mlp": lambda: with_head(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5))),
    "norm": lambda: with_head(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5))),
    "softmax": lambda: with_head(nn.Sequential(nn.Linear(8, 5), nn.Softmax(-1))),
    "max pooling": lambda: of_class(MaxPooled),
    "two poolings": lambda: of_class(TwicePooled, nn.Linear(16, 5)),
    "hook on the head": prehooked_head,
}
NOT_ITS_PARTS = {  # a call gives something else than the parts that are looked into
    "temperature": lambda: of_class(Tempered),
    "hook": hooked,
    "patched forward": patched,
}
LINEAR = {
    "no bias": lambda: with_head(nn.Linear(8, 5, bias=False)),
    "dropout": lambda: with_head(nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5))),
    "two layers": lambda: with_head(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))),
    "batch norm": lambda: with_head(nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5))),
    "harmless hook": lambda: (m := build(), m.register_forward_hook(lambda *args: None))[0],
}


@pytest.mark.parametrize("case", NOT_LINEAR | NOT_ITS_PARTS)
def test_cam_is_refused_where_its_mean_would_not_be_the_logit(case):
    model, images = (NOT_LINEAR | NOT_ITS_PARTS)[case](), torch.randn(3, 3, 16, 16).double()
    with pytest.raises(TypeError, match=r"no exact CAM|other outputs when called"):
        cam(model, images, 1)


@pytest.mark.parametrize("case", LINEAR)
def test_any_head_that_is_one_linear_map_has_a_cam(case):
    model, images = LINEAR[case]().train(), torch.randn(3, 3, 16, 16).double()
    maps = cam(model, images, 1)
    torch.testing.assert_close(maps.mean((1, 2)), model.eval()(images)[:, 1].detach())


@pytest.mark.parametrize("case", NOT_LINEAR)
def test_gradcat_explains_the_logits_of_a_call_whatever_the_head(case):
    model, images = NOT_LINEAR[case](), torch.randn(2, 3, 16, 16).double()
    found = gradcat(model, images, 2, maps="outputs")
    np.testing.assert_allclose(found.logits, model.eval()(images).detach(), rtol=1e-5)
    for i in range(2):
        path, _ = algorithm1(
            model, images[i], 2, sign="positive", weighting="place", maps="outputs"
        )
        assert found.path[i].tolist() == path


@pytest.mark.parametrize("case", NOT_ITS_PARTS)
def test_gradcat_refuses_a_model_that_is_called_otherwise_than_its_parts(case):
    with pytest.raises(TypeError, match="other outputs when called than forward_head"):
        gradcat(NOT_ITS_PARTS[case](), torch.randn(1, 3, 16, 16).double())


WHOLE = r"one of the model's 5: 0 to 4"


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        (1.5, f"class 1.5 is not a whole number, {WHOLE}"),
        (2.0, "class 2.0 is not a whole number"),
        (True, "class True is not a whole number"),
        ([1.2, 1.9], r"class 1\.2\d* is not a whole number"),
        ([True, 2], "class True is not a whole number"),
        ([2, np.True_], "class .*True.* is not a whole number"),
        ([torch.tensor(1.5), 1], "is not a whole number"),
        (float("nan"), "class nan is not a whole number"),
        (torch.tensor([True, False]), "class True is not a whole number"),
        (np.array([0.0, 1.0]), "class 0.0 is not a whole number"),
        (2**70, f"class {2**70} is not {WHOLE}"),
        (np.array([2**64 - 1, 0], np.uint64), f"class {2**64 - 1} is not {WHOLE}"),
        ("cat", "class 'cat' is not a whole number"),
        ([[0, 1], [2]], r"class \[0, 1\] is not a whole number"),
        ([[0, 1]], r"classes have shape \(1, 2\)"),
        (torch.tensor([0, 1], device="meta"), "classes cannot be read"),
        ([], r"classes have shape \(0,\)"),
        (np.array([0, 255], np.uint8), "class 255 is not one"),
    ],
)
def test_classes_that_are_not_whole_numbers_are_named(classes, error):
    for explain in (gradcat, cam):
        with pytest.raises(ValueError, match=error):
            explain(build(), torch.randn(2, 3, 16, 16).double(), classes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_whole_numbers_of_any_width_are_classes(dtype):
    model, images = build(), torch.randn(2, 3, 16, 16).double()
    assert torch.equal(
        cam(model, images, torch.tensor([4, 1], dtype=dtype)), cam(model, images, [4, 1])
    )


@pytest.mark.parametrize(
    "classes", [np.array([4, 1], ">i4"), [np.int64(4), torch.tensor(1)], range(4, -1, -3)]
)
def test_whole_numbers_of_any_kind_are_classes(classes):
    model, images = build(), torch.randn(2, 3, 16, 16).double()
    assert torch.equal(cam(model, images, classes), cam(model, images, [4, 1]))


ONE_NAN = torch.zeros(2, 3, 16, 16).double()
ONE_NAN[1, 2, 15, 0] = float("nan")


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(0, 3, 16, 16).double(), r"shape \(0, 3, 16, 16\); give .*one image or more"),
        (torch.zeros(2, 1, 16, 16).double(), r"shape \(2, 1, 16, 16\); give a tensor \(B, 3, H, W"),
        (torch.zeros(3, 16, 16).double(), r"shape \(3, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16), "of torch.float32; .*torch.float64"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "of torch.uint8; .*normalised"),
        (np.zeros((2, 3, 16, 16)), "images are a ndarray; give a tensor"),
        (ONE_NAN, "image 1 gives logits that are NaN or infinite"),
        (torch.full((2, 3, 16, 16), float("inf")).double(), "image 0 gives logits"),
    ],
)
def test_images_that_do_not_fit_are_named(images, error):
    for explain in (gradcat, cam):
        with pytest.raises(ValueError, match=error):
            explain(build(), images, 0)


def test_a_model_without_classes_is_named():
    model = build()
    model.reset_classifier(0)
    for explain in (gradcat, cam):
        with pytest.raises(ValueError, match=r"this NesT has no classes .*reset_classifier"):
            explain(model, torch.randn(1, 3, 16, 16).double())


@pytest.mark.parametrize("made_inside", [False, True])
def test_inference_mode_changes_nothing(made_inside):
    model, images, classes = build(), torch.randn(2, 3, 16, 16).double(), torch.tensor([1, 3])
    walk, maps = gradcat(model, images, classes), cam(model, images, classes)
    with torch.inference_mode():
        if made_inside:
            images, classes = images.clone(), classes.clone()
        inside = gradcat(model, images, classes)
        assert torch.equal(cam(model, images, classes), maps)
    assert np.array_equal(inside.activations, walk.activations)
    assert np.array_equal(gradcat(model, images, classes).activations, walk.activations)
    assert not images.requires_grad


def test_weights_made_in_inference_mode_are_named():
    with torch.inference_mode():
        model = build()
    with pytest.raises(ValueError, match=r"made inside torch.inference_mode\(\).*outside of it"):
        gradcat(model, torch.randn(1, 3, 16, 16).double())


@pytest.mark.parametrize("given", [torch.float32, torch.float16, torch.bfloat16])
def test_autocast_takes_images_of_any_narrow_type(given):
    model = build().float()
    images = torch.randn(2, 3, 16, 16)
    exact = cam(model, images, 1)
    with torch.autocast("cpu", torch.bfloat16):
        maps, walk = cam(model, images.to(given), 1), gradcat(model, images.to(given), 1)
    assert (maps - exact).abs().max() < 0.15 * exact.abs().max()
    assert np.isfinite(walk.activations).all()


def test_a_wrapped_model_says_where_the_nest_is():
    images = torch.zeros(1, 3, 16, 16).double()
    inner = NesT(16, 2, (8, 8), (2, 2), (1, 1), num_classes=5)
    for wrap, name in ((torch.compile, r"\._orig_mod"), (torch.nn.DataParallel, r"\.module")):
        for explain in (gradcat, cam):
            with pytest.raises(TypeError, match=f"a NesT within a .*; give its {name}"):
                explain(wrap(inner), images)
