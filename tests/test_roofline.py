"""Parts of a pass add up to the pass; bytes, FLOPs and floors agree with figures worked by hand."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nestbook.benchmarks.rates import Machine, measure_machine
from nestbook.peers import PEERS
from nestbook.profiles.operators import name_nest_part
from nestbook.profiles.roofline import count_parts, roofline
from nestbook.report.profiles import roofline_table
from nestlib.metrics.cost import count_gflops
from nestlib.models.nest import NesT

MACHINE = Machine(flops_per_second=1e9, bytes_per_second=1e8)
LAYER = ("norms", "qkv", "attention", "proj", "residual additions", "fc1", "activation", "fc2")
AGGREGATION = ("unblock", "conv", "norm", "pool", "block")


def small_nest(**options):
    return NesT(32, 2, (24, 48, 48), (3, 3, 3), (1, 2, 1), num_classes=10, **options).eval()


def parts_of(model, images):
    with torch.no_grad():
        return count_parts(model, images)


def measured(model, images, **options):
    return roofline(model, images, **{"rounds": 2, "warmup": 0, "machine": MACHINE} | options)


@pytest.fixture(scope="module")
def nest():
    return measured(small_nest(), torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_flops_of_the_parts_are_the_models(attention):
    model = small_nest(attention=attention)
    parts = parts_of(model, torch.randn(2, 3, 32, 32))
    flops = sum(part.flops for part in parts.values())
    assert flops == pytest.approx(2 * 2 * 1e9 * count_gflops(model, 32))
    attending = parts["hierarchy 0: attention"].flops  # q k^T and a v, of one layer
    assert attending == 2 * 2 * 2 * 16 * 16 * 16 * 24


@pytest.mark.parametrize("name", ["deit_tiny_cifar", "cct7_3x1_cifar", "swin_tiny_cifar"])
def test_flops_of_peers_are_counted_whole(name):
    model = PEERS[name](num_classes=10, img_size=32).eval()
    parts = parts_of(model, torch.randn(1, 3, 32, 32))
    gflop = sum(part.flops for part in parts.values()) / 1e9
    assert gflop == pytest.approx(2 * count_gflops(model, 32))
    assert all(part.calls for part in parts.values())


def test_bytes_of_a_linear_layer_by_hand():
    class OneLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(12, 5)

        def forward(self, images):
            return self.head(images.flatten(1))

    parts = parts_of(OneLayer(), torch.randn(7, 3, 2, 2))
    (part,) = parts.values()
    assert list(parts) == ["head: matrix products"] and part.calls == 1
    assert part.bytes == 4 * (7 * 12 + 12 * 5 + 5 + 7 * 5) and part.flops == 2 * 7 * 12 * 5


def test_views_cost_nothing_and_what_is_expanded_is_read_once():
    class Moves(nn.Module):
        def forward(self, x):
            x = x.transpose(1, 2)[:, :4].unsqueeze(0).expand(3, -1, -1, -1)
            return x.contiguous()

    parts = parts_of(Moves(), torch.randn(2, 5, 6))
    assert list(parts) == ["copies"] and parts["copies"].calls == 1
    assert parts["copies"].bytes == 4 * (2 * 4 * 5) * (1 + 3)
    assert parts["copies"].copy_seconds == parts["copies"].seconds > 0


def test_every_part_of_nest_has_a_known_name(nest):
    known = {"patch embedding", "head"}
    known |= {f"hierarchy {level}: {part}" for level in range(3) for part in LAYER}
    known |= {f"aggregation {level}: {part}" for level in range(2) for part in AGGREGATION}
    optional = {
        f"hierarchy {level}: {part}"
        for level in range(3) for part in ("position embedding", "attention's copies")
    }  # fmt: skip
    names = [part["name"] for part in nest["parts"]]
    assert len(set(names)) == len(names) and set(names) <= known | optional
    copies = {f"aggregation {level}: {part}" for level in range(2) for part in ("unblock", "block")}
    assert known - copies <= set(names)
    assert names[0] == "patch embedding" and names[-1] == "head"


def test_copies_before_and_after_the_convolution_have_their_own_names():
    path = "aggregations.1"
    assert name_nest_part(path, "copies", []) == "aggregation 1: unblock"
    assert name_nest_part(path, "copies", [f"{path}.conv"]) == "aggregation 1: block"
    assert name_nest_part("hierarchies.2.7.attn.qkv", "matrix products", []) == "hierarchy 2: qkv"
    assert name_nest_part("hierarchies.2.7.attn", "copies", []).endswith("attention's copies")
    assert name_nest_part("", "additions", ["patch_embed", "hierarchies.0"]).startswith(
        "hierarchy 1: position"
    )


def test_parts_add_up_and_floors_follow_from_the_rates(nest):
    parts = nest["parts"]
    assert nest["parts_seconds"] == pytest.approx(sum(part["seconds"] for part in parts))
    assert sum(nest["parts_rounds"]) / 2 == pytest.approx(nest["parts_seconds"])  # of two rounds
    ratios = [a / b for a, b in zip(nest["parts_rounds"], nest["whole_rounds"], strict=True)]
    assert len(ratios) == 2 and nest["overhead"] == pytest.approx(sum(ratios) / 2 - 1)
    assert 0 <= nest["copy_seconds"] < nest["parts_seconds"]
    fc1 = next(part for part in parts if part["name"] == "hierarchy 1: fc1")
    rows, dim, hidden, calls = 2 * 64, 48, 4 * 48, 2
    assert fc1["calls"] == calls
    assert fc1["arithmetic_floor_seconds"] == pytest.approx(calls * 2 * rows * dim * hidden / 1e9)
    values = rows * dim + dim * hidden + hidden + rows * hidden
    assert fc1["bytes_floor_seconds"] == pytest.approx(calls * 4 * values / 1e8)
    json.dumps(nest, allow_nan=False)


def test_measuring_changes_nothing():
    model, images = small_nest().train(), torch.randn(2, 3, 32, 32)
    before = model(images)
    measured(model, images, rounds=1)
    assert torch.equal(before, model(images)) and model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    class Broken(nn.Module):
        def forward(self, x, grid):
            raise RuntimeError("stopped halfway")

    model.aggregations[0] = Broken()
    with pytest.raises(RuntimeError, match="stopped halfway"):
        measured(model, images)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.training


def test_rates_of_the_machine_are_plausible(monkeypatch):
    monkeypatch.setattr("nestbook.benchmarks.rates.RATE_SECONDS", 0.0)
    machine = measure_machine("cpu")
    assert 1e9 < machine.flops_per_second < 1e14 and 1e8 < machine.bytes_per_second < 1e13


@pytest.mark.parametrize(
    "options, remedy", [({"precision": "fp16"}, "bf16"), ({"rounds": 0}, "1 or more")]
)
def test_bad_settings_say_the_valid_ones(options, remedy):
    with pytest.raises(ValueError, match=remedy):
        measured(small_nest(), torch.randn(1, 3, 32, 32), **options)


def test_table_names_the_floor_that_binds(nest):
    table = roofline_table(nest, "this machine")
    *rows, total, whole = table.rows
    assert [row[0] for row in rows] == [part["name"] for part in nest["parts"]]
    assert sum(row[3].value for row in rows) == pytest.approx(100) == total[3].value
    for row, part in zip(rows, nest["parts"]):
        floors = part["arithmetic_floor_seconds"], part["bytes_floor_seconds"]
        assert row[6].mark == (" arithmetic" if floors[0] >= floors[1] else " bytes")
        assert row[7].value == pytest.approx(part["seconds"] / max(floors))
    assert total[6].value == pytest.approx(sum(row[6].value for row in rows))
    assert whole[2].value == pytest.approx(1e3 * nest["whole_seconds"])
    assert "1 GFLOP/s" in table.notes[0] and "0.1 GB/s" in table.notes[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parts_on_a_gpu_are_near_the_whole_pass():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4096, 4096), nn.Linear(4096, 4096)

        def forward(self, images):
            return self.second(F.gelu(self.first(images.flatten(1))))

    images = torch.randn(4096, 4, 32, 32, device="cuda")
    result = roofline(Layers().cuda(), images, precision="bf16")
    assert abs(result["overhead"]) < 0.3
    assert all(part["seconds"] > 0 for part in result["parts"])
