"""The peers have the paper's sizes, train, and refuse what does not fit."""

import sys

import pytest
import torch

from nestlib.models.peers import PEERS

# Millions of parameters that the paper's Table 1 prints.
PRINTED = {
    "wrn28_10_cifar": 36.5,
    "deit_tiny_cifar": 5.3,
    "deit_small_cifar": 21.3,
    "deit_base_cifar": 85.1,
    "swin_tiny_cifar": 27.5,
    "swin_small_cifar": 48.8,
    "swin_base_cifar": 86.7,
}
NARROW = {
    "deit_tiny_cifar": {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 4},
    "swin_tiny_cifar":
        {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "patch_size": 2},
    "wrn28_10_cifar": {"depth": 10, "width": 1},
}  # fmt: skip


def build_narrow(name: str, **changes) -> torch.nn.Module:
    if name.startswith("wrn"):
        pytest.importorskip("pytorchcv")
    return PEERS[name](**{"num_classes": 10, "img_size": 32, **NARROW[name], **changes})


def test_peers_are_those_of_the_tables():
    assert set(PEERS) == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_parameter_count_is_the_printed_one(name):
    if name.startswith("wrn"):
        pytest.importorskip("pytorchcv")
    with torch.device("meta"):  # sizes without the seconds that initial values cost
        model = PEERS[name](num_classes=10, img_size=32)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(PRINTED[name], rel=0.02)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("img_size", [32, 64])
def test_images_become_finite_logits(name, img_size):
    torch.manual_seed(0)
    model = build_narrow(name, num_classes=7, img_size=img_size).eval()
    logits = model(torch.randn(2, 3, img_size, img_size))
    assert logits.shape == (2, 7) and logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", NARROW)
def test_every_parameter_receives_gradient(name):
    torch.manual_seed(0)
    model = build_narrow(name)
    model(torch.randn(4, 3, 32, 32)).logsumexp(1).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_wide_resnet_is_pytorchcvs_at_32_pixels():
    wrn_cifar = pytest.importorskip("pytorchcv.models.wrn_cifar")
    ours = build_narrow("wrn28_10_cifar").eval()
    stock = wrn_cifar.get_wrn_cifar(num_classes=10, blocks=10, width_factor=1).eval()
    stock.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), stock(images))


def test_deit_attends_by_the_fused_path():
    assert all(layer.attn.fused_attn for layer in build_narrow("deit_tiny_cifar").blocks)


@pytest.mark.parametrize("name", ["deit_tiny_cifar", "swin_tiny_cifar"])
def test_drop_path_rate_reaches_the_last_layer(name):
    rates = [m.drop_prob for m in build_narrow(name, drop_path_rate=0.3).modules()
             if hasattr(m, "drop_prob")]  # fmt: skip
    assert rates[-1] == pytest.approx(0.3)


@pytest.mark.parametrize("name", NARROW)
def test_unknown_option_names_the_valid_ones(name):
    option = next(iter(NARROW[name]))
    with pytest.raises(TypeError, match=rf"{name} has no option \['widht'\].*{option}"):
        build_narrow(name, widht=3)


@pytest.mark.parametrize(
    "name, changes, remedy",
    [
        ("deit_tiny_cifar", {"img_size": 30}, "28 or 32"),
        ("deit_tiny_cifar", {"num_heads": 3}, "embed_dim 32 .* 30 or 33"),
        ("swin_tiny_cifar", {"window_size": 7}, "img_size 28 or 56"),
        ("swin_tiny_cifar", {"img_size": 36}, "img_size 32 or 48"),
        ("swin_tiny_cifar", {"num_heads": (1, 3)}, "stage 1's width 32"),
        ("swin_tiny_cifar", {"num_heads": (1,)}, "same stages"),
        ("wrn28_10_cifar", {"depth": 12}, "10, 16, 22, 28"),
        ("wrn28_10_cifar", {"img_size": 30}, "multiple of 4: 32"),
        ("wrn28_10_cifar", {"drop_path_rate": 0.1}, "use 0.0"),
    ],
)
def test_misfit_names_what_fits(name, changes, remedy):
    with pytest.raises(ValueError, match=remedy):
        build_narrow(name, **changes)


def test_missing_pytorchcv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorchcv.models.wrn_cifar", None)
    with pytest.raises(ImportError, match="pip install 'pytorchcv"):
        PEERS["wrn28_10_cifar"](num_classes=10, img_size=32)
