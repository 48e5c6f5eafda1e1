"""Class maps against pytorch-grad-cam's own call, timm's unfused attention, and formulas."""

import sys

import numpy as np
import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from nestbook.class_maps import class_maps, largest_attentions, rollout
from nestlib.explain.cam import cam
from nestlib.models import create_model
from nestlib.models.nest import NesT

SIZE = (64, 96)  # not square, so that axes taken for one another show


def build_nest() -> NesT:
    model = NesT((16, 32), 1, (8, 12), (2, 2), (1, 1), block_size=8, num_classes=5)
    return balance(randomise(model))


def build_resnet() -> ResNet:
    widths = (8, 8, 12, 16)
    return balance(randomise(ResNet(BasicBlock, (1, 1, 1, 1), num_classes=5, channels=widths)))


def build_deit(**options) -> nn.Module:
    sizes = dict(patch_size=4, depth=3, embed_dim=12, num_heads=3)
    return randomise(create_model("deit_tiny_cifar", num_classes=5, **{**sizes, **options}))


def randomise(model: nn.Module) -> nn.Module:
    """Far from the small initial weights, so that maps differ; in double precision."""
    torch.manual_seed(0)
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=1.5 * p[0].numel() ** -0.5)
        else:
            nn.init.normal_(p, mean=0.3, std=0.3)
    return model.double().eval()


def build_convnet(name: str) -> nn.Module:
    torch.manual_seed(0)
    return balance(timm.create_model(name, num_classes=5).double().eval())


def balance(model: nn.Module) -> nn.Module:
    """Make the classes' maps 0 on average, so that a ReLU leaves something and takes something."""
    head = model.get_classifier()
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(images_for(model)), pre_logits=True)
        mean = pooled.mean(0)
        head.weight -= torch.outer(head.weight @ mean / mean.dot(mean), mean)
    return model


def images_for(model: nn.Module, B: int = 3) -> torch.Tensor:
    torch.manual_seed(1)
    size = (16, 32) if isinstance(model, NesT) else SIZE
    return torch.randn(B, 3, *size).double()


class OnThePlane(nn.Module):
    """What pytorch-grad-cam's hooks need of a NesT: a module whose output is the plane's map."""

    def __init__(self, model: NesT):
        super().__init__()
        self.model, self.target = model, nn.Identity()

    def forward(self, images):
        return self.model.forward_head(self.target(self.model.forward_features(images)))


TARGETS = {  # the module whose output the head pools, as pytorch-grad-cam's users name it
    "nest": lambda: (build_nest(), None),
    "resnet": lambda: (model := build_resnet(), model.layer4),
    "efficientnet": lambda: (model := build_convnet("mobilenetv2_035"), model.bn2),
    "regnety": lambda: (model := build_convnet("regnety_002"), model.final_conv),
}


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
@pytest.mark.parametrize("family", TARGETS)
def test_maps_are_those_of_pytorch_grad_cams_own_call(family, method):
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, target = TARGETS[family]()
    images, classes = images_for(model), [0, 4, 2]
    maps = class_maps(method, model, images, classes)
    whole = OnThePlane(model) if target is None else model
    own = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus}[method]
    explainer = own(whole, [whole.target if target is None else target])
    theirs = explainer(images, [ClassifierOutputTarget(label) for label in classes])
    assert np.median(theirs.std((1, 2))) > 0.05  # there is something to compare
    size = images.shape[:-3:-1]
    ours = scale_cam_image(scale_cam_image(maps.numpy(), size))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_hooks_on_nests_norm_would_be_wrong_without_a_word():
    from pytorch_grad_cam import GradCAM

    model = build_nest()
    explainer = GradCAM(model, [model.norm])  # its output is (B, T, N, C), blocks for channels
    assert explainer(images_for(model), None).shape == (3, 16, 32)
    right = class_maps("gradcam", model, images_for(model))
    resized = nn.functional.interpolate(right[:, None], (16, 32), mode="bilinear")[:, 0]
    wrong = explainer(images_for(model), None)
    assert np.corrcoef(wrong.ravel(), resized.numpy().ravel())[0, 1] < 0.5


@pytest.mark.parametrize("family", TARGETS)
def test_grad_cam_is_the_relu_of_mean_gradient_times_map(family):
    model, _ = TARGETS[family]()
    images = images_for(model)
    features = model.forward_features(images).detach().requires_grad_()
    model.forward_head(features)[:, 3].sum().backward()
    weights = features.grad.mean((2, 3))
    expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    maps = class_maps("gradcam", model, images, 3)
    torch.testing.assert_close(maps, expected.detach())
    # The head is linear over a mean, so Grad-CAM is CAM without bias and without its negatives.
    bias, places = model.get_classifier().bias[3], features[0, 0].numel()
    plain = class_maps("cam", model, images, 3)
    torch.testing.assert_close(maps, ((plain - bias) / places).relu().detach())


@pytest.mark.parametrize("family", TARGETS)
def test_the_mean_of_a_cam_is_the_logit(family):
    model, _ = TARGETS[family]()
    images = images_for(model)
    logits = model(images).detach()
    for label in range(5):
        maps = class_maps("cam", model, images, label)
        torch.testing.assert_close(maps.mean((1, 2)), logits[:, label])
    best = class_maps("cam", model, images)
    torch.testing.assert_close(best.mean((1, 2)), logits.max(1).values)
    if family == "nest":
        assert torch.equal(best, cam(model, images)) and best.shape == (3, 8, 16)
    else:
        assert best.shape == (3, 2, 3)


def unfused_attentions(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """timm's own matrices (B, heads, N, N), seen where it would drop some of them."""
    found, hooks = [], []
    for block in model.blocks:
        block.attn.fused_attn = False
        keep = block.attn.attn_drop.register_forward_hook(lambda m, i, output: found.append(output))
        hooks.append(keep)
    with torch.no_grad():
        model(images)
    for block, hook in zip(model.blocks, hooks):
        block.attn.fused_attn = True
        hook.remove()
    return found


def roll(attentions: list[np.ndarray]) -> np.ndarray:
    """One image's improved rollout by loops; attentions are (heads, N, N)."""
    N = attentions[0].shape[-1]
    total = np.eye(N)
    for heads in attentions:
        a = heads.max(0)
        lowest = sorted((a[i, j], i, j) for i in range(N) for j in range(N))[: int(N * N * 0.9)]
        for _, i, j in lowest:
            if (i, j) != (0, 0):
                a[i, j] = 0
        a = (a + np.eye(N)) / 2
        sums = [sum(row) for row in a]
        scaled = [[a[i, j] / sums[i] for j in range(N)] for i in range(N)]
        total = np.array(scaled) @ total
    return total


@pytest.mark.parametrize("variant", ["deit", "qk_norm", "distilled", "registers"])
def test_rollout_is_that_of_timms_unfused_attention(variant):
    sizes = dict(img_size=SIZE, patch_size=16, depth=3, embed_dim=12, num_heads=3, num_classes=5)
    model = {
        "deit": lambda: build_deit(img_size=32),
        "qk_norm": lambda: timm.models.VisionTransformer(**sizes, qk_norm=True),
        "distilled": lambda: timm.models.deit.VisionTransformerDistilled(**sizes),
        "registers": lambda: timm.models.VisionTransformer(**sizes, reg_tokens=2),
    }[variant]()
    model = randomise(model)
    torch.manual_seed(1)
    images = torch.randn(3, 3, *((32, 32) if variant == "deit" else SIZE)).double()
    expected = unfused_attentions(model, images)
    logits, found = largest_attentions(model, images)
    torch.testing.assert_close(found, torch.stack(expected).amax(2))
    torch.testing.assert_close(logits, model(images).detach())
    maps = class_maps("rollout", model, images)
    grid = (8, 8) if variant == "deit" else (4, 6)
    assert maps.shape == (3, *grid) and (maps[0] - maps[1]).abs().max() > 1e-3
    for i in range(3):
        row = roll([layer[i].numpy().copy() for layer in expected])[0, model.num_prefix_tokens :]
        np.testing.assert_allclose(maps[i].numpy(), row.reshape(grid), atol=1e-12)
    assert torch.equal(class_maps("rollout", model, images, 2), maps)  # no class changes it


def test_rows_of_a_rollout_are_shares(monkeypatch):
    torch.manual_seed(0)
    attentions = torch.randn(4, 2, 7, 7).double().softmax(-1)
    module = sys.modules["nestbook.class_maps"]  # the package names the function so
    for discarded in (1.0, 0.9, 0.5, 0.0):
        monkeypatch.setattr(module, "DISCARDED", discarded)
        sums = rollout(attentions).sum(-1)
        torch.testing.assert_close(sums, torch.ones(2, 7).double())
    plain = torch.eye(7).double()  # without discarding: Abnar and Zuidema's equation 1
    for layer in attentions[:, 0]:
        plain = (layer / 2 + torch.eye(7).double() / 2) @ plain
    torch.testing.assert_close(rollout(attentions)[0], plain)


def test_a_patch_that_all_attend_to_stands_out():
    """Keys that point the same way as all queries at one patch only."""
    model = build_deit(img_size=32)
    N, D = 65, 4
    for block in model.blocks:
        # Queries are constant; a key is large where the first channel, the patch's mark, is.
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
        nn.init.ones_(block.attn.qkv.bias[: 3 * D])
        with torch.no_grad():
            block.attn.qkv.weight[3 * D : 6 * D, 0] = 2.0
        block.norm1 = nn.Identity()
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.attn.proj.bias)
        nn.init.zeros_(block.mlp.fc2.weight)
        nn.init.zeros_(block.mlp.fc2.bias)
    nn.init.zeros_(model.patch_embed.proj.weight)
    nn.init.zeros_(model.patch_embed.proj.bias)
    nn.init.zeros_(model.cls_token)
    nn.init.zeros_(model.pos_embed)
    with torch.no_grad():
        model.pos_embed[0, 1 + 3 * 8 + 5, 0] = 5.0  # row 3, column 5
    assert model.pos_embed.shape[1] == N
    maps = class_maps("rollout", model, torch.randn(2, 3, 32, 32).double())
    assert [divmod(m.argmax().item(), 8) for m in maps] == [(3, 5), (3, 5)]
    assert (maps[:, 3, 5] > 0.8).all()


CASES = {
    "nest": (build_nest, ("cam", "gradcam", "gradcam++")),
    "resnet": (build_resnet, ("cam", "gradcam", "gradcam++")),
    "deit": (lambda: build_deit(img_size=SIZE[0]), ("rollout",)),
}


@pytest.mark.parametrize("family", CASES)
def test_nothing_is_left_on_the_model(family):
    build, methods = CASES[family]
    model = build().train().requires_grad_(False)
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm))
    frozen.eval()  # as one fine-tunes; model.train() afterwards would thaw it
    weights = list(model.parameters())
    for p in weights[1:]:
        p.requires_grad_()
    weights[1].grad = torch.ones_like(weights[1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = images_for(model)[..., :64]
    for method in methods:
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                maps = class_maps(method, model, images, 1)
            assert not maps.requires_grad and torch.is_grad_enabled()
        with pytest.raises(ValueError, match="class 5 is not one of the model's 5"):
            class_maps(method, model, images, 5)
    assert model.training and not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(weights[1].grad, torch.ones_like(weights[1]))
    assert all(p.grad is None for p in (weights[0], *weights[2:]))
    assert [p.requires_grad for p in weights] == [False] + [True] * (len(weights) - 1)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


@pytest.mark.parametrize("family", CASES)
def test_a_batch_is_its_images_one_by_one(family):
    build, methods = CASES[family]
    model = build()
    images = images_for(model, 4)[..., :64]
    for method in methods:
        whole = class_maps(method, model, images)
        for i in range(4):
            torch.testing.assert_close(class_maps(method, model, images[i : i + 1])[0], whole[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_gives_nearly_the_same_maps(dtype):
    for family, (build, methods) in CASES.items():
        model = build()
        images = images_for(model, 2)[..., :64]
        exact = {method: class_maps(method, model, images, 0) for method in methods}
        model, images = model.to(dtype), images.to(dtype)
        # A small change of Grad-CAM++'s denominator near 0, or of rollout's ranks, is no small one.
        for method in {"cam", "gradcam"} & set(methods):
            error = (class_maps(method, model, images, 0) - exact[method]).abs().max()
            bound = 1e-4 if dtype == torch.float32 else 0.15
            assert error < bound * exact[method].abs().max(), family
        for method in methods:
            assert class_maps(method, model, images, 0).isfinite().all()


def test_what_does_not_fit_is_refused():
    images = torch.randn(2, 3, 32, 32)
    nest, deit = build_nest().float(), build_deit(img_size=32).float()
    with pytest.raises(ValueError, match=r"no method 'scorecam'; .*valid: cam, gradcam, "):
        class_maps("scorecam", nest, images)
    for model in (nest, build_resnet().float()):
        with pytest.raises(TypeError, match="has no attention over all patches"):
            class_maps("rollout", model, images[..., :16, :])
    for method in ("cam", "gradcam", "gradcam++"):
        with pytest.raises(TypeError, match=r"\(2, 65, 12\) are not a map.*class-token.*rollout"):
            class_maps(method, deit, images)
        with pytest.raises(TypeError, match="Linear has no forward_features"):
            class_maps(method, nn.Linear(3, 3), images)
        with pytest.raises(ValueError, match="2 images"):
            class_maps(method, nest, images[..., :16, :], [1, 2, 3])
    with pytest.raises(ValueError, match=r"images \(32, 48\) do not fit: .*48"):
        class_maps("rollout", deit, torch.randn(2, 3, 32, 48))
    pooled = timm.models.VisionTransformer(
        img_size=32, patch_size=8, depth=1, embed_dim=8, num_heads=2, class_token=False,
        global_pool="avg",
    )  # fmt: skip
    with pytest.raises(TypeError, match="no class token"):
        class_maps("rollout", pooled, images)


@pytest.mark.parametrize("name", ["swin", "mambaout"])
def test_features_with_channels_last_are_refused_by_name(name):
    """Swin's here are as deep as they are high and wide, so that their shape does not tell."""
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 5}
    model, shape = {
        "swin": lambda: (create_model("swin_tiny_cifar", **sizes), "2, 16, 16, 16"),
        "mambaout": lambda: (timm.create_model("mambaout_femto", num_classes=5), "2, 1, 1, 288"),
    }[name]()
    expected = rf"{type(model).__name__}'s last features \({shape}\) have their channels last"
    for method in ("cam", "gradcam", "gradcam++"):
        with pytest.raises(TypeError, match=expected):
            class_maps(method, model, torch.randn(2, 3, 32, 32))


def test_cam_is_refused_where_it_would_not_be_exact():
    images = torch.randn(2, 3, *SIZE).double()
    model = build_resnet()
    model.reset_classifier(5, "max")
    with pytest.raises(TypeError, match="ResNet's logits are not its head's means"):
        class_maps("cam", model.double(), images)
    for name in ("convnext_atto", "mobilenetv3_small_050"):  # a norm, a layer behind the pooling
        model = build_convnet(name)
        with pytest.raises(TypeError, match="no exact CAM; use gradcam"):
            class_maps("cam", model, images)
        assert class_maps("gradcam", model, images).shape == (2, 2, 3)


class Tempered(ResNet):
    def forward(self, images):
        return super().forward(images) / 2


def test_maps_of_a_model_that_is_called_otherwise_than_its_parts_are_refused():
    model = build_resnet()
    model.__class__ = Tempered
    for method in ("cam", "gradcam", "gradcam++"):
        with pytest.raises(TypeError, match="Tempered gives other outputs when called"):
            class_maps(method, model, images_for(model), 1)


@pytest.mark.parametrize("family", CASES)
def test_bad_images_and_classes_are_named(family):
    build, methods = CASES[family]
    model = build()
    images = images_for(model)[..., :64]
    spoilt = images.clone()
    spoilt[2, 0, 5, 7] = float("nan")
    bad = {
        r"shape \(0, 3, \d+, \d+\); give": images[:0],
        r"shape \(3, 1, \d+, \d+\); give": images[:, :1],
        "of torch.float32; .*torch.float64": images.float(),
        "of torch.uint8": images.byte(),
        "image 2 gives logits that are NaN": spoilt,
    }
    for method in methods:
        for error, wrong in bad.items():
            with pytest.raises(ValueError, match=error):
                class_maps(method, model, wrong, 1)
        for classes in (1.5, True, [1.2, 1.9, 0.1], torch.tensor([True] * 3), float("nan")):
            with pytest.raises(ValueError, match="is not a whole number"):
                class_maps(method, model, images, classes)
    model.reset_classifier(0)
    for method in methods:
        with pytest.raises(ValueError, match="has no classes"):
            class_maps(method, model, images, 1)
    if family == "deit":  # a map that is the same for all classes needs none
        assert class_maps("rollout", model, images).isfinite().all()


@pytest.mark.parametrize("family", CASES)
def test_inference_mode_changes_nothing(family):
    build, methods = CASES[family]
    model = build()
    images = images_for(model)[..., :64]
    for method in methods:
        expected = class_maps(method, model, images, [1, 2, 3])
        with torch.inference_mode():
            made, classes = images.clone(), torch.tensor([1, 2, 3])
            assert torch.equal(class_maps(method, model, made, classes), expected)
        assert torch.equal(class_maps(method, model, made, classes), expected)


def test_without_the_package_grad_cam_the_rest_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    model = build_nest()
    assert class_maps("cam", model, images_for(model)).shape == (3, 8, 16)
    with pytest.raises(ImportError, match="pytorch_grad_cam"):
        class_maps("gradcam", model, images_for(model))
