"""Costs agree with figures worked out by hand; contenders run in turn and fail alone."""

import json
import re
import statistics
import time
from functools import partial

import pytest
import torch
from timm.models.nest import Nest
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from nestbook.benchmarks.memory import measure_memory_mb
from nestbook.benchmarks.rates import MATMUL_SIZES, MatrixProduct
from nestbook.benchmarks.speed import Contender, bench
from nestbook.peers import PEERS
from nestlib.metrics.cost import FLOP_COUNTER, count_gflops, count_params
from nestlib.models import NesT, create_model


@pytest.fixture(autouse=True)
def _small_product(monkeypatch):
    """A bench of milliseconds needs no product of a tenth of a second."""
    monkeypatch.setitem(MATMUL_SIZES, "cpu", 128)


class Tiny(nn.Module):
    """A one-layer classifier that notes in `log` when it runs."""

    def __init__(self, name: str = "tiny", log: list | None = None):
        super().__init__()
        self.name, self.log = name, log if log is not None else []
        self.head = nn.Linear(3 * 8 * 8, 10)

    def forward(self, images):
        self.log.append(self.name)
        return self.head(images.flatten(1))


class FailsInTraining(Tiny):
    def forward(self, images):
        if self.training and not images.is_meta:
            raise torch.OutOfMemoryError("out of memory\nand 30 lines of advice")
        return super().forward(images)


def run(*contenders: tuple, **options) -> dict:
    """Bench (name, build) or (name, build, compile), as briefly as can be."""
    settings = {"rounds": 2, "seconds_per_round": 0.01, "warmup": 1, "progress": False} | options
    rows = [Contender(name, build, 8, 4, *rest) for name, build, *rest in contenders]
    return bench(rows, device="cpu", **settings)


def test_params_are_the_trainable_ones():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    assert count_params(model) == 4 * 8 + 8 + 8 * 2 + 2
    model[1].requires_grad_(False)
    assert count_params(model) == 4 * 8 + 8


def test_gflops_of_deit_tiny_include_fused_attention():
    model = PEERS["deit_tiny_cifar"](num_classes=10, img_size=32)
    d, words = 192, 16 * 16 + 1
    layer = words * d * (3 * d + d + 4 * d + 4 * d) + 2 * words * words * d
    by_hand = 256 * (3 * 2 * 2) * d + 12 * layer + d * 10
    assert model.blocks[0].attn.fused_attn
    assert count_gflops(model, 32) == pytest.approx(by_hand / 1e9, rel=1e-9)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_gflops_are_those_that_torchvision_publishes(name):
    """On the CPU, where torch runs a ViT's attention layers as one operator without a formula."""
    published = models.get_model_weights(name).DEFAULT.meta["_ops"]
    model = models.get_model(name)
    assert count_gflops(model, 224) == pytest.approx(published, abs=6e-4)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", ["deit_tiny", "pvt_tiny", "swin_tiny", "cct7_3x1"])
def test_gflops_of_peers_do_not_depend_on_how_attention_runs(name):
    """On the CPU, whose fused kernel torch's counter leaves out."""
    model = create_model(f"{name}_cifar", num_classes=10, img_size=32, drop_path_rate=0.0)
    layers, counts = [m for m in model.modules() if hasattr(m, "fused_attn")], []
    for fused in (True, False):
        for layer in layers:
            layer.fused_attn = fused
        counts.append(count_gflops(model, 32))
    assert layers and counts[0] == counts[1] > 0


def test_gflops_of_nest_are_timms():
    """torch 2.14's counter alone leaves out our attention on a CPU, and counts that of timm's NesT,
    which has five dimensions and runs unfused."""
    shape = {"img_size": 32, "patch_size": 4, "embed_dims": (12, 24), "num_heads": (3, 3),
             "depths": (1, 2), "num_classes": 7}  # fmt: skip
    ours, theirs = NesT(**shape), Nest(**shape, num_levels=2, pad_type="same")
    with torch.device("meta"):
        sketch = NesT(**shape)
    assert count_gflops(ours, 32) == count_gflops(sketch, 32) == count_gflops(theirs, 32)
    alone = []
    for model in (ours.eval(), theirs.eval()):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, 32, 32))
        alone.append(counter.get_total_flops() / 2)
    attention = 2 * 16 * 16 * (4 * 12 + 2 * 24)  # two products a layer: 4 blocks, then one block
    assert alone[1] == pytest.approx(1e9 * count_gflops(ours, 32))
    assert alone[1] - alone[0] == attention


def test_gflops_of_a_convolution():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(5)).train()
    assert count_gflops(model, 8) == pytest.approx(8 * 8 * 5 * 3 * 9 / 1e9)
    assert model.training and model[2].num_batches_tracked == 0


def test_memory_is_what_lives_at_once():
    batch, mb = 1024, 2**20
    model = nn.Sequential(nn.Linear(16, 64), nn.Sigmoid(), nn.Linear(64, 8), nn.Sigmoid())
    images = torch.randn(batch, 16)
    peak, kind = measure_memory_mb(model, images)
    assert kind == "activation peak (CPU)"
    # The input and the output of the first sigmoid; before and after, less is alive.
    assert peak == pytest.approx(batch * (64 + 64) * 4 / mb)


def test_training_memory_keeps_activations():
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.Sigmoid())])
    images = torch.randn(4096, 64)
    forward, train = (measure_memory_mb(model, images, train=t)[0] for t in (False, True))
    activation = 4096 * 64 * 4 / 2**20
    assert forward == pytest.approx(2 * activation)
    assert 6 * activation < train < 10 * activation  # the sigmoids' outputs, and the backward pass
    assert all(p.grad is None for p in model.parameters())


def test_memory_sees_into_composite_operators():
    class Attend(nn.Module):
        def forward(self, images):
            words = images.flatten(2).mT.unsqueeze(1)  # (1, 1, 256, 3)
            mask = torch.zeros(256, 256)
            return F.scaled_dot_product_attention(words, words, words, attn_mask=mask)

    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        peak, _ = measure_memory_mb(Attend(), torch.randn(1, 3, 16, 16))
    assert peak >= 2 * 256 * 256 * 4 / 2**20  # the mask and the scores of unfused attention


def test_contenders_run_in_turn():
    log = []
    run(("a", lambda: Tiny("a", log)), ("b", lambda: Tiny("b", log)), rounds=3)
    turns = [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]
    assert turns == ["a", "b"] * 4  # one turn to prepare, three rounds


def test_rows_are_complete_and_serialisable():
    result = run(("tiny", Tiny), rounds=3)
    assert json.loads(json.dumps(result)) == result
    (row,) = result["rows"]
    assert row["params"] == 1930 and row["gflops"] == pytest.approx(1920e-9)
    assert row["n"] == 3 and row["batch_size"] == 4 and row["memory_mb"] > 0
    assert row["memory_kind"] == "activation peak (CPU)" and row["paths"]["forward"] == {
        "memory_format": "contiguous",
        "fused_attention": None,
    }
    for speed in row["images_per_second"].values():
        assert len(speed["rounds"]) == 3 and min(speed["rounds"]) > 0
        assert speed["median"] == statistics.median(speed["rounds"])
    assert result["settings"]["flop_counter"] == FLOP_COUNTER
    assert result["settings"]["rounds_done"] == 3


def test_a_contender_can_have_a_precision_of_its_own():
    dtypes = {}

    class Notes(Tiny):
        def forward(self, images):
            out = super().forward(images)
            if not images.is_meta:
                dtypes[self.name] = out.dtype
            return out

    rows = [
        Contender("own", lambda: Notes("own"), 8, 4, precision="fp32"),
        Contender("the bench's", lambda: Notes("the bench's"), 8, 4),
    ]
    how = {"rounds": 1, "seconds_per_round": 0.0, "warmup": 1, "progress": False}
    own, other = bench(rows, device="cpu", precision="bf16", **how)["rows"]
    assert dtypes == {"own": torch.float32, "the bench's": torch.bfloat16}
    assert (own["precision"], other["precision"]) == ("fp32", "bf16")


def test_failing_contender_is_skipped_with_its_reason():
    def missing():
        raise ImportError("needs a library")

    result = run(("missing", missing), ("half", FailsInTraining), ("tiny", Tiny))
    missing_row, half, tiny = result["rows"]
    assert missing_row["error"] == "ImportError: needs a library" and missing_row["n"] == 0
    assert half["error"] == "OutOfMemoryError: out of memory" and half["gflops"] > 0
    assert tiny["n"] == 2 and "error" not in tiny
    json.dumps(result)


def test_wrong_code_is_not_skipped():
    def broken():
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        run(("broken", broken))


def test_time_limit_cuts_rounds_but_not_the_first():
    result = run(("a", lambda: Tiny("a")), ("b", lambda: Tiny("b")), rounds=50, time_limit_s=0)
    assert [row["n"] for row in result["rows"]] == [1, 1]
    assert result["settings"]["rounds_done"] == 1


def test_convnet_layout_is_chosen_and_forward_alone_is_possible():
    def convnet():
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 10)
        )

    (row,) = run(("convnet", convnet), train=False, precision="bf16")["rows"]
    assert row["paths"]["forward"]["memory_format"] in ("contiguous", "channels_last")
    assert list(row["images_per_second"]) == ["forward"]


def test_a_max_pool_is_timed_with_channels_last():
    """With channels first torch 2.14's takes more than ten times as long on a CPU."""
    build = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 64, 3), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    (row,) = bench([Contender("pool", build, 96, 16)], device="cpu", rounds=1, warmup=0,
                   seconds_per_round=0, train=False, progress=False)["rows"]  # fmt: skip
    assert row["paths"]["forward"]["memory_format"] == "channels_last"


class Attends(Tiny):
    """Has a fused path that its library leaves off, as timm's Swin; `seen` notes which ran."""

    def __init__(self, slow: bool, seen: set):
        super().__init__()
        self.fused_attn, self.slow, self.seen = False, slow, seen

    def forward(self, images):
        self.seen.add(self.fused_attn)
        if self.fused_attn is self.slow and not images.is_meta:
            time.sleep(0.02)
        return super().forward(images)


@pytest.mark.parametrize("slow", [True, False])
def test_attention_runs_by_its_faster_path(slow):
    """Whichever its library has by default."""
    seen = set()
    (row,) = run(("attends", lambda: Attends(slow, seen)), rounds=1)["rows"]
    assert seen == {True, False}
    assert all(path["fused_attention"] is not slow for path in row["paths"].values())


def test_model_larger_than_memory_is_skipped_before_it_is_built(monkeypatch):
    """Needed by hand, in bytes: weights, gradients and two moments, and the pass's own peak."""
    devices = []

    def build():
        devices.append(torch.get_default_device().type)
        return Tiny()

    weights = 4 * (192 * 10 + 10)
    monkeypatch.setattr("nestbook.benchmarks.memory._free_memory", lambda: 4 * weights)
    (row,) = run(("too large", build))["rows"]
    assert devices == ["meta"] and row["params"] == 1930 and row["gflops"] > 0
    assert re.search(r"MemoryError: needs 0.0 GB; 0.0 GB are free", row["error"])
    assert row["images_per_second"]["forward"]["median"] is None
    monkeypatch.setattr("nestbook.benchmarks.memory._free_memory", lambda: 4 * weights + 20_000)
    assert "error" not in run(("fits", build))["rows"][0]


@pytest.mark.parametrize(
    "options, remedy", [({"precision": "fp16"}, "bf16"), ({"rounds": 0}, "1 or more")]
)
def test_bad_settings_say_the_valid_ones(options, remedy):
    with pytest.raises(ValueError, match=remedy):
        run(("tiny", Tiny), **options)
    with pytest.raises(ValueError, match="name each differently"):
        run(("tiny", Tiny), ("tiny", Tiny))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_peak_leaves_out_what_others_hold():
    model, images = nn.Linear(1024, 1024, device="cuda"), torch.randn(1024, 1024, device="cuda")
    alone = measure_memory_mb(model, images)
    others = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert measure_memory_mb(model, images) == pytest.approx(alone) and others.is_cuda
    assert alone[1] == "device peak" and alone[0] >= 3 * 4  # weights, images and logits: 4 MB each


def test_matrix_product_takes_a_turn_in_each_round(monkeypatch):
    log, run_round = [], MatrixProduct.run_round

    def logged(product, seconds):
        log.append("product")
        run_round(product, seconds)

    monkeypatch.setattr(MatrixProduct, "run_round", logged)
    result = run(("a", lambda: Tiny("a", log)), ("b", lambda: Tiny("b", log)), rounds=3)
    turns = [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]
    assert turns == ["a", "b"] + 3 * ["a", "b", "product"]  # one turn to prepare, three rounds
    matmul = result["settings"]["matmul_tflops"]
    assert matmul["size"] == 128 and len(matmul["rounds"]) == 3
    assert matmul["median"] == statistics.median(matmul["rounds"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rate_of_the_matrix_product_is_that_of_its_time(precision, monkeypatch):
    """The clock moves a millisecond a product, so 2 * 128**3 operations give 4.19 GFLOP/s."""
    seen, now = set(), [0.0]

    def product(a, b, out):
        seen.add(a.dtype)
        now[0] += 1e-3

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    settings = run(precision=precision)["settings"]
    assert seen == {torch.float32 if precision == "fp32" else torch.bfloat16}
    rate = 2 * 128**3 / 1e-3 / 1e12
    assert settings["matmul_tflops"]["rounds"] == pytest.approx([rate] * 2)


def test_compiled_contender_is_compiled_after_its_path_is_chosen(monkeypatch):
    seen, calls = set(), []

    def compile_model(model, **options):
        calls.append((type(model), options, set(seen)))
        return model

    monkeypatch.setattr(torch, "compile", compile_model)
    (plain,) = run(("plain", Tiny), rounds=1)["rows"]
    assert not calls and plain["compile"] is False
    (row,) = run(("compiled", lambda: Attends(True, seen), True), rounds=1)["rows"]
    assert calls == [(Attends, {"dynamic": False}, {True, False})] and row["compile"] is True


def test_what_does_not_compile_fails_alone(monkeypatch):
    def fail(*_):
        raise OSError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    compiled, tiny = run(("compiled", Tiny, True), ("tiny", Tiny))["rows"]
    assert compiled["error"].startswith("BackendCompilerFailed: ") and compiled["n"] == 0
    assert compiled["memory_mb"] > 0 and compiled["paths"]["train"]["fused_attention"] is None
    assert tiny["n"] == 2 and "error" not in tiny
