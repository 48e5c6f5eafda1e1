import math
import warnings

import pytest
import timm
import torch

import nestlib
from nestbook.benchmarks.rivals import MODELS, Rival
from nestlib.models import create_generator
from nestlib.models.nest import NesT, trunc_normal_


def small(**options):
    torch.manual_seed(0)
    options = dict(img_size=16, patch_size=1, embed_dims=(16, 24, 32), num_heads=(2, 2, 4),
                   depths=(1, 1, 1), num_classes=5) | options  # fmt: skip
    return NesT(**options)


@pytest.mark.parametrize(
    ("name", "attention", "num_params"),
    [
        ("nest_tiny_imagenet", "multi_head", 17_057_608),
        ("nest_small_imagenet", "multi_head", 38_351_176),
        ("nest_base_imagenet", "multi_head", 67_723_368),
        ("nest_tiny_cifar", "multi_query", 6_006_730),
        ("nest_small_cifar", "multi_query", 22_849_930),
        ("nest_base_cifar", "multi_query", 89_050_378),
        ("nest_tiny_cifar", "multi_head", 6_599_626),
        ("nest_small_cifar", "multi_head", 25_806_730),
        ("nest_base_cifar", "multi_head", 102_043_402),
    ],
)
def test_parameter_counts(name, attention, num_params):
    """T of both families is the published code's own total; the rest round to the paper's table."""
    classes = 1000 if name.endswith("imagenet") else 10
    with torch.device("meta"):
        model = nestlib.create_model(name, num_classes=classes, attention=attention)
    assert sum(p.numel() for p in model.parameters()) == num_params


@pytest.mark.parametrize(("depth", "layers"), [(2, 6), (3, 4), (4, 3), (5, 2)])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_figure6_configurations(depth, layers, patch_size):
    """Sequence lengths as in the right-hand table of figure 6, layers as in Table A1."""
    with torch.device("meta"):
        model = nestlib.create_model(
            "nest_tiny_cifar", num_hierarchies=depth, patch_size=patch_size, num_classes=10
        )
    assert model.block_size**2 == (32 // patch_size // 2 ** (depth - 1)) ** 2
    assert [len(h) for h in model.hierarchies] == [layers] * depth
    assert model.num_blocks == [4 ** (depth - 1 - level) for level in range(depth)]
    maps = model.features(torch.zeros(2, 3, 32, 32, device="meta"))
    edges = [32 // patch_size // 2**level for level in range(depth)]
    assert [tuple(x.shape) for x in maps.values()] == [(2, 192, edge, edge) for edge in edges]


def test_blocks_of_one_patch_still_hear_one_another():
    """Figure 6's S = 2 at depth 5: n = 1, attention moves nothing, aggregation alone mixes."""
    model = nestlib.create_model(
        "nest_tiny_cifar", embed_dim=12, num_hierarchies=5, patch_size=2, num_classes=10
    ).eval()
    assert model.block_size == 1
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[:, :, 4:6, 4:6] += 3
    with torch.no_grad():
        before, after = model.features(images), model.features(changed)
        assert not torch.equal(model(images), model(changed))
    moved = [(before[i] - after[i]).abs().amax(1)[0] > 0 for i in range(5)]
    assert moved[0].sum() == 1 and moved[1].sum() > 1


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 12, 24, 48, 96])
def test_table_a3_heads_leave_the_parameters_alone(heads):
    """d = 768. Multi-head alone does: multi-query has one key and value head, of a head's width."""
    with torch.device("meta"):
        multi, shared = (
            nestlib.create_model("nest_base_cifar", num_heads=heads, attention=kind, num_classes=10)
            for kind in ("multi_head", "multi_query")
        )
    count = [sum(p.numel() for p in model.parameters()) for model in (multi, shared)]
    assert multi.hierarchies[0][0].attn.head_dim == 768 // heads
    assert count[0] == 102_043_402
    assert count[1] == count[0] - 12 * 2 * (768 + 1) * (768 - 768 // heads)


def test_64_pixel_models_keep_16_patches_a_block():
    with torch.device("meta"):
        model = nestlib.create_model("nest_tiny_64", num_classes=100)
    assert (model.block_size**2, model.strides) == (16, [2, 4, 8, 16])


@pytest.mark.parametrize("options", [
    {}, {"attention": "multi_query"}, {"activation": "relu"}, {"pos_embed": "shared"},
    {"aggregation_padding": "symmetric"}, {"img_size": (16, 32)},
])  # fmt: skip
def test_every_parameter_gets_gradient(options):
    model = small(**options)
    size = options.get("img_size", (16, 16))
    model(torch.randn(2, 3, *size)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.bias"):
            continue  # the key's part of it cancels in the softmax
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_blocks_are_blind_to_each_other_until_aggregation():
    """Section 2.2: blocks process information independently and communicate when aggregated."""
    model = small().eval()
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, :4, :4] += 1  # the top left block of level 0: block_size 4
    with torch.no_grad():
        before, after = model.features(images), model.features(changed)
    moved = (before[0] - after[0]).abs().amax(1)[0] > 0
    assert moved[:4, :4].all() and not moved[4:].any() and not moved[:, 4:].any()
    # Level 1's blocks are 4x4 on an 8x8 map. The image plane lets the pool's window reach over:
    # every block of the upper left sees the change only through conv and pool, so the far corner
    # of the map must still be untouched.
    moved = (before[1] - after[1]).abs().amax(1)[0] > 0
    assert moved[:4, :4].all() and not moved[4:, 4:].any()


def test_aggregation_crosses_block_borders():
    """A pixel next to a merging group's border reaches the neighbouring group (figure 2)."""
    model = small().eval()
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 0, 8] += 1  # first column of the right half: another group at level 1
    with torch.no_grad():
        moved = (model.features(images)[1] - model.features(changed)[1]).abs().amax(1)[0] > 0
    assert moved[:4, :4].any()


@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_attention_is_softmax_attention(attention):
    """Against the textbook formula, head by head."""
    layer = small(attention=attention).hierarchies[2][0].attn
    x = torch.randn(2, 3, 16, 32)
    q, k, v = layer.qkv(x).split(
        [32, layer.num_kv_heads * layer.head_dim, layer.num_kv_heads * layer.head_dim], dim=-1
    )
    heads = []
    for head in range(layer.num_heads):
        at = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
        shared = slice(0, layer.head_dim) if attention == "multi_query" else at
        scores = q[..., at] @ k[..., shared].transpose(-1, -2) / math.sqrt(layer.head_dim)
        heads.append(scores.softmax(-1) @ v[..., shared])
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, -1)), atol=1e-6, rtol=1e-5)


def test_features_lie_on_the_image_plane_with_true_strides():
    model = small(img_size=(16, 32)).eval()
    maps = model.features(torch.randn(2, 3, 16, 32))
    assert list(maps) == [0, 1, 2]
    for level, features in maps.items():
        stride = model.strides[level]
        assert features.shape == (2, (16, 24, 32)[level], 16 // stride, 32 // stride)


def test_head_is_the_mean_of_the_last_map():
    model = small().eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features = model.forward_features(images)
        scores = torch.einsum("bchw,kc->bkhw", features, model.head.weight)
        logits = scores.mean((2, 3)) + model.head.bias
        torch.testing.assert_close(model(images), logits)


def test_other_image_sizes_are_taken_or_refused_with_sizes_that_fit():
    model = small().eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 48)).shape == (1, 5)
    with pytest.raises(
        ValueError, match=r"images of 20x16 pixels .*multiple of 16 \(nearest: 16x16\)"
    ):
        model(torch.randn(1, 3, 20, 16))
    with pytest.raises(
        ValueError, match=r"shorter side must be a multiple of 8 .*nearest: 32x32\)$"
    ):
        nestlib.create_model("nest_tiny_cifar", img_size=30)
    with pytest.raises(ValueError, match=r"nearest: 128x64\), or give .*block_size: \[1, 2, 4\]"):
        nestlib.create_model("nest_tiny_cifar", img_size=(96, 64))
    nestlib.create_model("nest_tiny_cifar", embed_dim=12, img_size=(96, 64), block_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "linear"}, "no attention 'linear'; .*valid: multi_head, multi_query"),
        ({"activation": "swish"}, "no activation 'swish'; .*valid: gelu, gelu_tanh, relu"),
        ({"pos_embed": "none"}, "no pos_embed 'none'; .*valid: per_block, shared"),
        (
            {"aggregation_padding": "valid"},
            "no aggregation_padding 'valid'; .*valid: same, symmetric",
        ),
        ({"num_heads": (2, 5, 4)}, "width 24 does not divide into 5 heads; heads that fit"),
        ({"depths": (1, 1)}, "one entry per hierarchy each"),
        ({"block_size": 0}, "block_size is 0, must be .*at least 1"),
        ({"patch_size": 0}, "patch_size is 0, must be .*at least 1"),
        ({"drop_path_rate": 1.5}, "drop_path_rate is 1.5, must be .*less than 1"),
    ],
)
def test_bad_options_say_what_would_be_valid(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_unknown_model_names_near_ones():
    with pytest.raises(ValueError, match=r"did you mean .*nest_tiny_cifar"):
        nestlib.create_model("nest_tiny_cifr")
    with pytest.raises(ValueError, match="nest_tiny_cifar has no published weights"):
        nestlib.create_model("nest_tiny_cifar", pretrained=True)
    with pytest.raises(ValueError, match=r"num_hierarchies 6 is not one of \[2, 3, 4, 5\]"):
        nestlib.create_model("nest_tiny_cifar", num_hierarchies=6)


def test_unknown_option_lists_the_valid_ones():
    with pytest.raises(TypeError, match=r"no option \['embed_dims'\]; it takes .*'embed_dim'"):
        nestlib.create_model("nest_tiny_cifar", embed_dims=(3, 3))


def test_stochastic_depth_rises_linearly():
    """timm's `Nest` follows the published code here too."""
    ours = nestlib.create_model("nest_tiny_imagenet", drop_path_rate=0.2)
    theirs = timm.create_model("nest_tiny_jx", drop_path_rate=0.2)
    rates = [layer.drop_path.p for hierarchy in ours.hierarchies for layer in hierarchy]
    expected = [
        getattr(layer.drop_path1, "drop_prob", 0.0)
        for level in theirs.levels for layer in level.transformer_encoder
    ]  # fmt: skip
    assert rates == pytest.approx(expected)


def test_initial_weights_are_cut_at_two_deviations():
    torch.manual_seed(0)
    values = torch.empty(200_000)
    trunc_normal_(values)
    assert values.abs().max() <= 0.04
    assert values.std().item() == pytest.approx(0.02 * 0.8796, rel=0.01)  # of a normal cut at 2
    model = small()
    assert not model.patch_embed.bias.any() and model.pos_embeds[0].abs().max() <= 0.04


def test_a_batch_can_be_learnt_by_heart():
    model = small()
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.eval()(images).argmax(1) == labels).all()


@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_compiles_whole_with_equal_gradients(attention):
    """torch.compile finds one graph (fullgraph raises at a break), forward and backward."""
    model, images = small(attention=attention), torch.randn(2, 3, 16, 16)
    gradients = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        run(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("model", ["nest_tiny", "nest_tiny_cifar"])
def test_bf16_errs_no_more_than_timms(model):
    """Against fp32 of the same weights and images: the mean distance of logits, and of gradients
    of the patch embedding's bias, which all layers reach."""
    size = MODELS[model].image_size
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    errors = {}
    for library in ("nestlib", "timm"):
        network = Rival(model, library).build()
        found = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                logits = network(images).float()
            (first, *_) = [p for n, p in network.named_parameters() if n.startswith("patch_embed")]
            found.append((logits, torch.autograd.grad(logits.square().mean(), first)[0]))
        errors[library] = [(a - b).abs().mean().item() for a, b in zip(*found)]
    for mine, theirs in zip(errors["nestlib"], errors["timm"]):
        assert 0 < mine <= 1.2 * theirs


def traced(model: torch.nn.Module, example: torch.Tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes of the image are constants
        return torch.jit.trace(model, example, check_trace=False)


@pytest.mark.parametrize("options", [
    {}, {"attention": "multi_query"}, {"aggregation_plane": "block"},
    {"aggregation": "query_sampling2x2"}, {"img_size": 8},
])  # fmt: skip
def test_a_trace_takes_any_batch_size(options):
    """Also at another size than the model's, where position embeddings are resized."""
    model = small(**options).eval()
    graph = traced(model, torch.randn(1, 3, 16, 16))
    with pytest.raises(ValueError, match="images of 20x16 pixels"):
        traced(model, torch.randn(1, 3, 20, 16))
    for B in (1, 3):
        images = torch.randn(B, 3, 16, 16)
        torch.testing.assert_close(graph(images), model(images))
    model = small(drop_path_rate=0.5).train()
    assert traced(model, images[:1])(images).shape == (3, 5)


@pytest.mark.parametrize("unsampling", ["PS", "C3-NN"])
def test_a_trace_of_the_decoder_takes_any_batch_size(unsampling):
    decoder = create_generator(
        "nest_decoder", img_size=16, embed_dim=16, latent_dim=4, unsampling=unsampling
    ).eval()
    graph, noise = traced(decoder, torch.randn(1, 4)), torch.randn(3, 4)
    torch.testing.assert_close(graph(noise), decoder(noise))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_a_new_head_keeps_the_old_ones_mode_and_type(num_classes, training):
    """Of a model whose head is kept in fp32 too, and with another device as torch's default."""
    model = small().to(torch.bfloat16).train(training)
    model.head.float()
    with torch.device("meta"):
        model.reset_classifier(num_classes)
    assert {module.training for module in model.modules()} == {training}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert {p.dtype for p in model.head.parameters()} == ({torch.float32} if num_classes else set())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_new_head_keeps_device_and_type(dtype):
    model = small().to(dtype)
    model.reset_classifier(3)
    assert model(torch.randn(2, 3, 16, 16, dtype=dtype)).shape == (2, 3)
    model = small().to("meta")
    model.reset_classifier(3)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    frozen = small().requires_grad_(False)
    frozen.reset_classifier(3)
    trained = [name for name, p in frozen.named_parameters() if p.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    with pytest.raises(ValueError, match=r"num_classes is -1, .*at least 0"):
        model.reset_classifier(-1)


def test_without_pooling_the_head_gives_the_map():
    """Also of a model that is made so, as timm's models take it."""
    model, images = small().eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.forward_features(images)
        model.reset_classifier(0, "")
        assert torch.equal(model(images), expected)
        assert torch.equal(model.forward_head(expected, pre_logits=True), expected)
        model.reset_classifier(0, "avg")
        torch.testing.assert_close(model(images), expected.mean((2, 3)))
    assert small(num_classes=0, global_pool="").eval()(images).shape == (2, 32, 4, 4)
    for make in (lambda: small(global_pool=""), lambda: model.reset_classifier(3, "")):
        with pytest.raises(ValueError, match=r"global_pool '' leaves a map, .*give 'avg', or num"):
            make()
    with pytest.raises(ValueError, match=r"no global_pool 'max'; .*valid: avg, "):
        model.reset_classifier(3, "max")
