"""A step's kinds hold every product that torch counts, and the table follows from them."""

import json

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nestbook.benchmarks.speed import train_step
from nestbook.profiles.step import PRODUCTS, step_kinds
from nestbook.report.profiles import step_table
from nestlib.models.nest import NesT


def small_nest(**options):
    return NesT(32, 2, (24, 48, 48), (3, 3, 3), (1, 2, 1), num_classes=10, **options)


def measured(models, **options):
    options = {"rounds": 2, "seconds_per_round": 0.0, "warmup": 1, "progress": False} | options
    return step_kinds(models, **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_products_hold_the_flops_that_torch_counts(attention, precision):
    model, images = small_nest(attention=attention), torch.randn(2, 3, 32, 32)
    found = measured({"small": (model, images)}, precision=precision)["models"]["small"]
    # torch does not count the CPU's fused kernel; its plain form has the same products.
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images), torch.tensor([0, 1]))
        loss.backward()
    kinds = found["kinds"]
    gflop = {name: kind["gflop"] for name, kind in kinds.items() if kind["gflop"]}
    assert sum(gflop.values()) == pytest.approx(counter.get_total_flops() / 1e9)
    assert set(gflop) <= set(PRODUCTS)
    assert {"norms", "activations", "optimizer"} < set(kinds)
    assert all(len(kind["seconds"]) == 2 and kind["calls"] for kind in kinds.values())
    json.dumps(found, allow_nan=False)


def test_a_step_is_torchs_own():
    """Weights after two steps are those of the loop written out."""
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    states = []
    for written_out in (False, True):
        torch.manual_seed(0)
        model = small_nest()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            if written_out:
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            else:
                off = torch.autocast("cpu", torch.bfloat16, enabled=False)
                train_step(model, optimizer, images, labels, off)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_products_allow_follows_from_seconds_and_flops():
    kinds = {
        "matrix products": {"seconds": [0.5, 0.5], "calls": 4, "gflop": 300.0},
        "attention": {"seconds": [0.1, 0.1], "calls": 4, "gflop": 60.0},
        "norms": {"seconds": [0.3, 0.6], "calls": 2, "gflop": 0.0},
        "other": {"seconds": [0.1, 0.0], "calls": 2, "gflop": 0.0},
    }
    model = {"batch_size": 8, "image_size": 32, "whole_seconds": [1.0, 1.2], "kinds": kinds}
    settings = {"device": "cpu", "threads": 2, "precision": "bf16", "torch": "2", "rounds": 2}
    product = {"size": 2048, "median": 1.2, "rounds": [1.2, 1.2]}
    models = dict.fromkeys(("nestlib a", "nestlib b", "timm a", "timm b"), model)
    table = step_table({"settings": settings, "matmul_tflops": product, "models": models}, "here")
    assert table.columns[1:] == ("nestlib a", "timm a", "nestlib b", "timm b")
    cells = {row[0]: row[1] for row in table.rows}
    assert cells["products of layers, convolutions, ms"].value == 500
    assert cells["LayerNorm, ms"].value == pytest.approx(450) and cells["LayerNorm, ms"].n == 2
    assert cells["all other operators, ms"].value == 50 and cells["GELU, ms"] == ""
    assert cells["whole step, timed at once, ms"].value == 1100
    rate, alone, at_peak = (row[1].value for row in table.rows[-3:])
    assert rate == pytest.approx(100 * (0.36 / 0.6) / 1.2)
    assert alone == pytest.approx((1.0 / 0.6 + 1.2 / 0.6) / 2)
    assert at_peak == pytest.approx((1.0 / 0.3 + 1.2 / 0.3) / 2)


def test_bad_precision_says_the_valid_ones():
    with pytest.raises(ValueError, match="bf16"):
        measured({"small": (small_nest(), torch.randn(1, 3, 32, 32))}, precision="fp16")
