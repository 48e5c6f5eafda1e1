"""ADL and ACoL against plain loops, and the ResNets that they sit in."""

import inspect

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from nestbook.class_maps import class_maps
from nestbook.peers import LOCALIZERS
from nestbook.peers.acol import erase, normalize_maps
from nestbook.peers.adl import AttentionDropout
from nestlib.models import create_model

NARROW = {"num_classes": 7, "img_size": 64, "architecture": "resnet10t"}
NAMES = ["resnet50_wsol", "resnet50_adl", "resnet50_acol"]


def build_narrow(name: str, **changes) -> nn.Module:
    narrow = {**NARROW, "hidden": 8} if name == "resnet50_acol" else NARROW
    torch.manual_seed(0)
    model = LOCALIZERS[name](**{**narrow, **changes})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts a residual branch's last at zero
            nn.init.ones_(module.weight)
    return model


def images_of(size: int = 64, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def maps_of(model: nn.Module, classes: torch.Tensor) -> torch.Tensor:
    """ACoL's own maps, and others' by the one interface to class maps."""
    if hasattr(model, "class_maps"):
        return model.class_maps(images_of(), classes)
    return class_maps("cam", model, images_of(), classes)


def features_of() -> torch.Tensor:
    return torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(2)).relu()


# What all have


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("img_size", [64, 96])
@pytest.mark.parametrize("mode", [True, False])
def test_images_become_logits_in_both_modes(name, img_size, mode):
    model = build_narrow(name, img_size=img_size).train(mode)
    logits = model(images_of(img_size))
    assert logits.shape == (3, 7) and logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stride", "places"), [(None, 8), (8, 8), (16, 4), (32, 2)])
def test_output_stride_sets_the_places_of_the_map(name, stride, places):
    model = build_narrow(name, **({"output_stride": stride} if stride else {}))
    before = {n: b.clone() for n, b in model.named_buffers()}
    maps = maps_of(model.train(), torch.tensor([0, 6, 3]))
    assert maps.shape == (3, places, places) and maps.isfinite().all()
    assert model.training and not maps.requires_grad
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())  # in eval mode


@pytest.mark.parametrize("architecture", ["resnet10t", "resnet18"])
def test_options_reach_timm(architecture):
    for name in NAMES:
        model = build_narrow(name, architecture=architecture, drop_path_rate=0.3)
        rates = [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")]
        assert rates[-1] == pytest.approx(0.3)


def test_sizes_are_a_resnet_50s():
    """Its 25.56 million less the head for 1000 classes, and the heads for 200."""
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in LOCALIZERS[name](num_classes=200).parameters())
            for name in NAMES
        }
        plain = LOCALIZERS["resnet50_acol"](num_classes=200, hidden=0)
    backbone = 25_557_032 - 2049 * 1000
    assert counts["resnet50_wsol"] == counts["resnet50_adl"] == backbone + 2049 * 200
    head = (9 * 2048 + 1) * 1024 + (9 * 1024 + 1) * 1024 + 1025 * 200
    assert counts["resnet50_acol"] == backbone + 2 * head  # 80.5 million
    assert sum(p.numel() for p in plain.parameters()) == backbone + 2 * 2049 * 200


@pytest.mark.parametrize("name", ["resnet50_wsol", "resnet50_adl"])
def test_weights_of_timm_fit_by_their_names(name):
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18", num_classes=7, output_stride=8).eval()
    ours = build_narrow(name, architecture="resnet18").eval()
    ours.resnet.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images_of()), theirs(images_of()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet50_wsol", "resnet50_adl"])
def test_class_maps_average_to_the_logits(name):
    model = build_narrow(name).eval()
    nn.init.normal_(model.resnet.fc.bias)
    classes = torch.tensor([2, 0, 6])
    maps = maps_of(model, classes)
    with torch.no_grad():
        expected = model(images_of())[range(3), classes]
    torch.testing.assert_close(maps.mean((1, 2)), expected)
    assert maps.std() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_wrong_classes_are_named(name):
    model = build_narrow(name)
    with pytest.raises(ValueError, match=r"shape \(2,\); give one .*for each of the 3"):
        maps_of(model, torch.tensor([1, 2]))
    for wrong in (7, -1):
        with pytest.raises(ValueError, match=f"class {wrong} is not .* 7: 0 to 6"):
            maps_of(model, torch.tensor([1, 2, wrong]))


@pytest.mark.parametrize(
    ("name", "changes", "remedy"),
    [(name, *misfit) for name in NAMES for misfit in (
        ({"architecture": "resnet5O"}, "no ResNet 'resnet5O'; use one of"),
        ({"architecture": "vgg16"}, "no ResNet 'vgg16'"),
        ({"output_stride": 4}, r"output_stride 4 is not one of \(8, 16, 32\)"),
        ({"output_stride": 32, "img_size": 32}, "one place .* output_stride 8"),
    )] + [
        ("resnet50_adl", {"drop_rate": 1.5}, "drop_rate is 1.5, must be .*at most 1"),
        ("resnet50_adl", {"gamma": -0.1}, "gamma is -0.1, must be .*at least 0"),
        ("resnet50_adl", {"places": ((4, 1),)}, r"\(4, 1\); stages 1 to 4 have \[1, 1, 1, 1\]"),
        ("resnet50_adl", {"places": ((5, 0),)}, r"\(5, 0\); stages 1 to 4"),
        ("resnet50_acol", {"delta": 0.0}, "delta is 0.0, must be .*more than 0"),
        ("resnet50_acol", {"delta": 1.1}, "delta is 1.1, must be .*at most 1"),
        ("resnet50_acol", {"hidden": -1}, "hidden is -1, must be .*at least 0"),
    ],
)  # fmt: skip
def test_misfit_names_what_fits(name, changes, remedy):
    with pytest.raises(ValueError, match=remedy):
        build_narrow(name, **changes)


def test_unknown_option_names_the_valid_ones():
    with pytest.raises(TypeError, match=r"no option \['gamma'\].*output_stride"):
        build_narrow("resnet50_wsol", gamma=0.9)


@pytest.mark.parametrize("name", NAMES)
def test_training_steps_compile_whole(name):
    """No graph breaks: nothing waits for the device."""
    model = build_narrow(name).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    extra = (torch.tensor([1, 2, 3]),) if name == "resnet50_acol" else ()
    torch.manual_seed(5)
    expected = model(images_of(), *extra)
    torch.manual_seed(5)
    torch.testing.assert_close(compiled(images_of(), *extra), expected)


# ADL


def test_adl_is_the_identity_in_eval_mode():
    features = features_of()
    assert AttentionDropout().eval()(features) is features


@pytest.mark.parametrize("gamma", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("drop_rate", [0.0, 1.0])
def test_adl_is_its_loop(drop_rate, gamma):
    features = features_of()
    out = AttentionDropout(drop_rate, gamma).train()(features)
    hidden = 0
    for image, result in zip(features, out):
        attention = [[image[:, y, x].sum() / 5 for x in range(6)] for y in range(4)]
        peak = max(max(row) for row in attention)
        for y in range(4):
            for x in range(6):
                if drop_rate:
                    factor = 1.0 if attention[y][x] < gamma * peak else 0.0
                    hidden += factor == 0
                else:
                    factor = 1 / (1 + torch.exp(-attention[y][x]))
                torch.testing.assert_close(result[:, y, x], image[:, y, x] * factor)
    assert not drop_rate or 3 <= hidden < 3 * 24


@pytest.mark.parametrize("drop_rate", [0.25, 0.75])
def test_adl_chooses_one_map_a_batch_at_its_rate(drop_rate):
    torch.manual_seed(0)
    layer, features = AttentionDropout(drop_rate).train(), features_of()
    drops = AttentionDropout(1.0).train()(features)
    weighs = AttentionDropout(0.0).train()(features)
    chosen = []
    for _ in range(1000):
        out = layer(features)
        chosen.append(torch.equal(out, drops))
        assert chosen[-1] or torch.equal(out, weighs)
    assert sum(chosen) / 1000 == pytest.approx(drop_rate, abs=0.045)  # over 3 deviations


def test_adl_keeps_bfloat16_and_passes_gradients():
    features = features_of().bfloat16().requires_grad_()
    for drop_rate in (0.0, 1.0):
        out = AttentionDropout(drop_rate).train()(features)
        out.sum().backward()
        assert out.dtype == torch.bfloat16 and features.grad.isfinite().all()
        assert features.grad.any()


@pytest.mark.parametrize(
    ("architecture", "places"),
    [("resnet50", {"layer3.0.act3", "layer4.0.act3", "layer4.2.act3"}),
     ("resnet18", {"layer3.0.act2", "layer4.0.act2", "layer4.1.act2"}),
     ("resnet10t", {"layer3.0.act2", "layer4.0.act2"})],
)  # fmt: skip
def test_adl_follows_the_published_blocks(architecture, places):
    with torch.device("meta"):
        model = LOCALIZERS["resnet50_adl"](num_classes=7, architecture=architecture)
    layers = {n.removesuffix(".1"): m for n, m in model.resnet.named_modules()
              if isinstance(m, AttentionDropout)}  # fmt: skip
    assert set(layers) == places
    assert {(m.drop_rate, m.gamma) for m in layers.values()} == {(0.75, 0.9)}


def test_adl_acts_behind_the_block():
    """Behind the last block alone, its output is the pooled features times the mask."""
    model = build_narrow("resnet50_adl", places=((4, -1),), drop_rate=1.0, architecture="resnet18")
    plain = build_narrow("resnet50_wsol", architecture="resnet18")
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        features = plain.train().resnet.forward_features(images_of())
        masked = AttentionDropout(1.0).train()(features)
        torch.testing.assert_close(model.train()(images_of()), plain.resnet.forward_head(masked))
    assert not torch.equal(masked, features)


# ACoL


def test_normalize_maps_is_its_loop_and_leaves_a_constant_at_zero():
    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(4))
    maps[2] = 1.5
    out = normalize_maps(maps)
    for image, result in zip(maps[:2], out):
        low, high = min(image.flatten()), max(image.flatten())
        for y in range(4):
            for x in range(5):
                torch.testing.assert_close(result[y, x], (image[y, x] - low) / (high - low))
    assert not out[2].any()


@pytest.mark.parametrize("delta", [0.6, 0.9, 1.0])
def test_erase_is_its_loop(delta):
    features = features_of()
    attention = normalize_maps(features.mean(1))
    out = erase(features, attention, delta)
    for image, seen, result in zip(features, attention, out):
        for y in range(4):
            for x in range(6):
                expected = 0 * image[:, y, x] if seen[y, x] >= delta else image[:, y, x]
                assert torch.equal(result[:, y, x], expected)
        assert not torch.equal(result, image)


def acol_by_loop(model: nn.Module, classes: torch.Tensor):
    """Logits of both classifiers and the fused map, an image at a time."""
    firsts, seconds, fused = [], [], []
    with torch.no_grad():
        features = model.resnet(images_of())
        for image, k in zip(features, classes.tolist()):
            maps = model.classifier_a(image[None])[0]
            first = (maps[k] - maps[k].min()) / (maps[k].max() - maps[k].min())
            image = image.clone()
            for y in range(first.shape[0]):
                for x in range(first.shape[1]):
                    if first[y, x] >= model.delta:
                        image[:, y, x] = 0
            others = model.classifier_b(image[None])[0]
            second = (others[k] - others[k].min()) / (others[k].max() - others[k].min())
            firsts.append(maps.mean((1, 2)))
            seconds.append(others.mean((1, 2)))
            fused.append(torch.maximum(first, second))
    return torch.stack(firsts), torch.stack(seconds), torch.stack(fused)


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("training", [True, False])
def test_acol_is_its_loop(hidden, training):
    model = build_narrow("resnet50_acol", hidden=hidden).train(training)
    classes = torch.tensor([4, 0, 6])
    first, second, _ = acol_by_loop(model, classes)
    ours = model(images_of(), classes)
    torch.testing.assert_close(ours, (first, second))
    torch.testing.assert_close(model(images_of()), first)
    assert not torch.allclose(first, second)
    *_, fused = acol_by_loop(model.eval(), classes)
    torch.testing.assert_close(model.class_maps(images_of(), classes), fused)
    assert fused.amax((1, 2)).eq(1).all() and fused.amin() >= 0


def test_acol_erases_by_the_likeliest_class_of_mixed_targets():
    model = build_narrow("resnet50_acol").eval()
    classes = torch.tensor([4, 0, 6])
    mixed = 0.7 * F.one_hot(classes, 7) + 0.3 * F.one_hot(torch.tensor([1, 2, 3]), 7)
    hard, soft = model(images_of(), classes), model(images_of(), mixed)
    torch.testing.assert_close(soft, hard)
    other = model(images_of(), torch.tensor([1, 2, 3]))
    assert torch.equal(other[0], hard[0]) and not torch.equal(other[1], hard[1])


def test_both_losses_reach_every_parameter_of_acol():
    model = build_narrow("resnet50_acol").train()
    targets = torch.tensor([4, 0, 6])
    sum(F.cross_entropy(logits, targets) for logits in model(images_of(), targets)).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_each_loss_of_acol_trains_its_own_classifier():
    """No gradient goes through the mask: the second loss leaves the first classifier alone."""
    model = build_narrow("resnet50_acol").train()
    targets = torch.tensor([4, 0, 6])
    for loss_of, other in ((0, "classifier_b"), (1, "classifier_a")):
        model.zero_grad()
        F.cross_entropy(model(images_of(), targets)[loss_of], targets).backward()
        parts = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert parts == {"resnet", "classifier_a", "classifier_b"} - {other}


def test_only_acol_takes_targets():
    """What the trainer can tell it by."""
    takes = {n for n in NAMES if "targets" in inspect.signature(build_narrow(n).forward).parameters}
    assert takes == {"resnet50_acol"}


@pytest.mark.parametrize("name", ["resnet50_wsol", "resnet50_adl"])
def test_the_one_interface_to_class_maps_takes_them(name):
    model = create_model(
        name, num_classes=5, img_size=64, drop_path_rate=0.0, architecture="resnet10t"
    )
    images, classes = torch.randn(2, 3, 64, 64), torch.tensor([1, 4])
    head = model.eval().resnet.fc
    with torch.no_grad():
        features, weights = model.forward_features(images), head.weight[classes]
        by_hand = torch.einsum("bchw,bc->bhw", features, weights) + head.bias[classes, None, None]
    assert by_hand.shape == (2, 8, 8)
    torch.testing.assert_close(class_maps("cam", model, images, classes), by_hand)
    assert class_maps("gradcam++", model, images, classes).shape == (2, 8, 8)
