"""Estimates agree with FLOPs and bytes worked by hand, and with the book's own counter."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nestbook.benchmarks.bench import SPEED_BATCH_SIZES
from nestbook.benchmarks.rates import Machine
from nestbook.benchmarks.rivals import MODELS, Rival
from nestbook.report.estimates import estimates_table, find_machine
from nestbook.report.tables import Number
from nestbook.run_plan.estimates import (
    FORWARD,
    H200,
    H200_SOURCE,
    META,
    TRAINING,
    estimate_forward,
    estimate_training,
    list_operators,
    make_estimate,
    make_images,
    run_backward,
    run_forward,
)
from nestlib.metrics.cost import count_gflops, count_params
from nestlib.recipes.named import get_recipe
from nestlib.records import Record

MACHINE = Machine(flops_per_second=1000.0, bytes_per_second=10.0)


def toy(*layers):
    return nn.Sequential(nn.Flatten(), *layers).to(META, torch.bfloat16)


def forward_of(model, images, machine=MACHINE):
    operators = list_operators(model, partial(run_forward, model, images))
    return make_estimate(operators, len(images), machine)


def training_pass_of(model, images, num_classes):
    targets = images.new_empty(len(images), num_classes)
    operators = list_operators(model, partial(run_backward, model, images, targets))
    return make_estimate(operators, len(images), MACHINE)


@pytest.fixture(scope="module")
def training():
    return estimate_training(get_recipe(TRAINING), H200)


def test_a_linear_layer_by_hand():
    found = forward_of(toy(nn.Linear(12, 5)), make_images(7, 2))
    flops, moved = 2 * 7 * 12 * 5, 2 * (7 * 12 + 12 * 5 + 5 + 7 * 5)
    assert (found.flops, found.bytes) == (flops, moved)
    assert found.gflops == pytest.approx(12 * 5 / 1e9)
    assert found.product_seconds == pytest.approx(flops / 1000)
    assert found.operator_seconds == pytest.approx(moved / 10)  # longer than the FLOPs take
    assert found.images_per_second == pytest.approx((7000 / flops, 70 / moved))


def test_two_layers_by_hand():
    """Each operator has its own larger bound; a backward pass has no gradient by the images."""
    model, images = (
        toy(nn.Linear(12, 64, bias=False), nn.GELU(), nn.Linear(64, 5)),
        make_images(7, 2),
    )
    products = 2 * 7 * 12 * 64, 2 * 7 * 64 * 5
    moved = 2 * (7 * 12 + 12 * 64 + 7 * 64), 2 * (2 * 7 * 64), 2 * (7 * 64 + 64 * 5 + 5 + 7 * 5)
    found = forward_of(model, images, Machine(1.0, 6.0))
    assert (found.flops, found.bytes) == (sum(products), sum(moved))
    assert products[0] > moved[0] / 6 and products[1] > moved[2] / 6
    assert found.operator_seconds == pytest.approx(sum(products) + moved[1] / 6)
    assert training_pass_of(model, images, 5).flops == 2 * products[0] + 3 * products[1]


def test_allocations_move_nothing():
    class Allocates(nn.Module):
        def forward(self, images):
            return images.new_empty(1000)

    model = Allocates()
    assert list_operators(model, partial(run_forward, model, make_images(2, 4))) == []


def test_attention_is_the_fused_operator_where_a_gpu_takes_it():
    """Queries, keys and values are read once and no score is written, but of five dimensions."""

    class Attends(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x.clone(), x.clone())

    def attention_bytes(*shape):
        x, model = torch.empty(shape, dtype=torch.bfloat16, device=META), Attends()
        operators = list_operators(model, partial(run_forward, model, x))
        assert sum(one.flops for one in operators) == 2 * 2 * 6 * 64 * 64 * 32
        return sum(one.bytes for one in operators) - 2 * 2 * 2 * x.numel()

    values, scores = 6 * 64 * 32, 6 * 64 * 64
    fused = attention_bytes(2, 3, 64, 32)
    assert 4 * 2 * values < fused < 4 * 2 * values + 4 * 6 * 64 + 100  # with a row's log-sum each
    assert attention_bytes(2, 3, 1, 64, 32) > fused + 4 * 4 * scores


@pytest.mark.parametrize("rival", FORWARD, ids=lambda rival: rival.name)
def test_forward_flops_are_the_books(rival):
    size = MODELS[rival.model].image_size
    with META:
        gflops = count_gflops(rival.build(), size)
    found = estimate_forward(rival, H200)
    assert found.num_images == SPEED_BATCH_SIZES[size, "cuda"]
    assert found.flops == pytest.approx(2e9 * gflops * found.num_images, rel=0.01)
    assert found.gflops == pytest.approx(gflops, rel=0.01)
    assert found.product_seconds < found.operator_seconds


def test_ours_moves_less_than_timms_with_as_many_flops():
    ours, theirs = (estimate_forward(Rival("nest_tiny", lib), H200) for lib in ("nestlib", "timm"))
    assert ours.flops == theirs.flops and ours.bytes < theirs.bytes


def test_training_is_three_forward_passes(training):
    recipe = get_recipe(TRAINING)
    with META:
        model = recipe.build_model(10)
        gflops, params = count_gflops(model, 32), count_params(model)
    assert 2.9 < training.step.flops / (2e9 * gflops * 192) < 3.1
    assert training.optimizer.bytes == training.step.bytes - training.passes.bytes == 28 * params
    assert training.num_steps == 300 * (50_000 // 192)
    assert 4e16 < training.run_flops < 6e16
    products, operators = training.run_seconds
    assert products == pytest.approx(training.run_flops / H200.flops_per_second)
    update = training.num_steps * 28 * params / H200.bytes_per_second
    alone = training.num_steps * training.passes.operator_seconds
    assert operators == pytest.approx(alone + update) and operators > products


def test_seconds_scale_with_the_rates(training):
    twice = Machine(2 * H200.flops_per_second, 2 * H200.bytes_per_second)
    faster = estimate_training(get_recipe(TRAINING), twice)
    assert faster.run_seconds == pytest.approx([seconds / 2 for seconds in training.run_seconds])
    speeds = training.step.images_per_second
    assert faster.step.images_per_second == pytest.approx([2 * speed for speed in speeds])
    only_products = replace(H200, flops_per_second=twice.flops_per_second)
    found = estimate_training(get_recipe(TRAINING), only_products)
    assert found.run_seconds[0] == pytest.approx(faster.run_seconds[0])
    assert faster.run_seconds[1] < found.run_seconds[1] < training.run_seconds[1]


def test_another_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"'sgd'.*'adamw'"):
        estimate_training(get_recipe(TRAINING, optimizer="sgd"), H200)


def test_every_number_of_the_table_has_a_source(training):
    table = estimates_table(H200, H200_SOURCE)
    numbers = [cell for row in table.rows for cell in row if isinstance(cell, Number)]
    assert len(numbers) == 4 * 3 + 2 + 1
    assert all("counted on the meta device" in number.source for number in numbers)
    assert sum(H200_SOURCE in number.source for number in numbers) == len(numbers) - 4  # GFLOPs
    assert [row[0] for row in table.rows[:3]] == [f"{rival.name}, forward" for rival in FORWARD]
    *_, whole, update = table.rows
    assert [cell.value for cell in whole[3:5]] == pytest.approx(training.step.images_per_second)
    assert [60 * cell.value for cell in whole[5:]] == pytest.approx(training.run_seconds)
    assert 0 < update[6].value < whole[6].value
    assert "790 TFLOP/s and 4.3 TB/s" in table.sources.line and H200_SOURCE in table.sources.line
    exponent = math.floor(math.log10(training.run_flops))
    said = (
        f"{training.run_flops / 10**exponent:.1f} x 10^{exponent} operations, two per multiply-add"
    )
    assert said in table.sources.details[-1]


def test_a_gpus_own_rates_take_the_place_of_the_assumed_ones(store):
    assert find_machine(store) == (H200, H200_SOURCE)
    rates = {"matmul_gflop_per_second": 5e5, "copy_gbyte_per_second": 3e3}
    for kind, name in (("cpu", "slow"), ("cuda", "fast")):
        environment = {"device_kind": kind, "device": f"a {kind}", "finished": "2026"}
        record = Record(f"bench/rates-full-{name}-bf16", "bench", {}, environment, rates)
        store.add(record, committed=True)
    machine, source = find_machine(store)
    assert machine == Machine(5e14, 3e12) and source == "bench/rates-full-fast-bf16 (a cuda)"
