"""Measure what NesT's time is spent on, and how it grows: each measurement leaves a record."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from nestbook.benchmarks.bench import SPEED_BATCH_SIZES, bench_id
from nestbook.benchmarks.loader import measure_loader, measure_streaming
from nestbook.benchmarks.rates import measure_machine
from nestbook.benchmarks.rivals import MODELS, Rival
from nestbook.profiles import PROFILES
from nestbook.profiles.choices import Product, Shape, attention_choices, product_choices
from nestbook.profiles.explaining import explaining_costs
from nestbook.profiles.export import export_speeds
from nestbook.profiles.growth import growth, nest_series
from nestbook.profiles.input_rate import input_rates, make_noise
from nestbook.profiles.roofline import describe_rates, roofline
from nestbook.profiles.step import step_kinds
from nestbook.records import add_record
from nestlib.choices import check_choice
from nestlib.data.augmentation import Augmentation
from nestlib.data.datasets import dataset_info
from nestlib.models import create_model
from nestlib.precision import check_precision, resolve_precision
from nestlib.processor import one_thread
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, describe_environment
from nestlib.training.devices import resolve_device
from nestlib.training.optim import build_optimizer

ON_CPU = ("products", "export", "loader", "streaming")  # measured nowhere else
IN_FP32 = ("explaining", "export")  # in no other precision
MODEL = "nest_tiny_imagenet"
STEP_MODELS = ("nest_tiny", "nest_tiny_cifar")
# Images of the roofline's batch, and along the growth's axes: what a device needs to be busy.
ROOFLINE_BATCH = {"cpu": 4, "cuda": 128}
GROWTH_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (16, 32, 64, 128, 256)}
# Blocks of figure 6 and Table A1 and between, at two widths of a head, as many words in each.
ATTENTION_WORDS = {"cpu": 25_088, "cuda": 401_408}
ATTENTION_PATCHES, HEAD_WIDTHS, HEADS = (4, 16, 49, 196), (32, 64), 3
# Images, words of an image and width.
PRODUCTS = {
    "NesT-T at 224, level 0": (8, 3136, 96),
    "NesT-T at 224, level 2": (8, 196, 384),
    "NesT-T of CIFAR, level 0": (32, 1024, 192),
    "narrow NesT, level 0": (128, 256, 48),
}
INPUT_RECIPES = ("cifar10/nest_tiny", "cifar10/nest_tiny_s2_depth3")
INPUT_ONE_THREAD = ("cifar10/nest_narrow",)  # as a sweep runs it on a CPU, two side by side
INPUT_BATCH = {"cpu": 96, "cuda": 192}  # 192 is the recipes' own
EXPLAINED = (MODEL, "nest_tiny_cifar")
EXPLAINED_IMAGES = 64
EXPORTED = (MODEL, "nest_tiny_cifar")
EXPORT_BATCHES = (1, 32)
INPUT_IMAGES = 10_000  # of noise in CIFAR-10's shape


def run_profile(
    name: str, store: Store, *, device: str = "auto", precision: str = "fp32",
    committed: bool = False, progress: bool = True,
) -> Record:  # fmt: skip
    """Measure a profile (one of PROFILES) and write its record.

    Raises:
        ValueError: an unknown profile, or a precision or device that it is not measured in.
    """
    where = resolve_device(device)
    precision = resolve_precision(precision, where)
    check_profile(name, precision, where.type)
    measure = {
        "rates": lambda *_: describe_rates(measure_machine(where, precision)),
        "roofline": _roofline, "step": _step, "growth": _growth, "attention": _attention,
        "products": _products, "input": _input, "explaining": _explaining,
        "export": lambda *_: _export(progress),
        "loader": lambda *_: measure_loader(progress),
        "streaming": lambda *_: measure_streaming(progress),
    }[name]  # fmt: skip
    model = {"model": MODEL} if name in ("roofline", "growth") else {}
    return add_profile(
        name, partial(measure, where, precision, progress), store, device=where,
        precision=precision, committed=committed, **model,
    )  # fmt: skip


def check_profile(name: str, precision: str, device_type: str) -> None:
    """Raise ValueError if a profile cannot be measured in a precision on a type of device
    ("cpu" or "cuda"), which need not be here."""
    check_choice("profile", name, PROFILES)
    check_precision(precision)
    if name in IN_FP32 and precision != "fp32":
        raise ValueError(f"{name} is measured in fp32, not {precision}; give --precision fp32")
    if name in ON_CPU and device_type != "cpu":
        raise ValueError(f"{name} is measured only on the CPU; give --device cpu")


def add_profile(
    name: str, measure: Callable[[], dict], store: Store, *, device: torch.device, precision: str,
    committed: bool, **recipe: str,
) -> Record:  # fmt: skip
    """Call `measure` and write what it returns as the record of the profile `name`."""
    environment = describe_environment(device)
    summary = measure()
    return add_record(
        store, environment, committed=committed, kind="bench", summary=summary,
        run_id=bench_id(name, "full", device, precision),
        recipe={"profile": name, "precision": precision, "budget": "full", **recipe},
    )  # fmt: skip


def _roofline(device: torch.device, precision: str, progress: bool) -> dict:
    images = torch.randn(ROOFLINE_BATCH[device.type], 3, 224, 224, device=device)
    return roofline(create_model(MODEL).to(device), images, precision=precision)


def _step(device: torch.device, precision: str, progress: bool) -> dict:
    """Time steps of both libraries' NesT with equal weights; timm's with its own plain
    attention."""
    models = {}
    for name in STEP_MODELS:
        size = MODELS[name].image_size
        images = torch.randn(SPEED_BATCH_SIZES[size, device.type], 3, size, size, device=device)
        for library in MODELS[name].builders:
            model = Rival(name, library).build().to(device)
            for module in model.modules():
                if hasattr(module, "fused_attn"):
                    module.fused_attn = False
            models[f"{library} {name}"] = model, images
    return step_kinds(models, precision=precision, progress=progress)


def _growth(device: torch.device, precision: str, progress: bool) -> dict:
    series = nest_series(batch_sizes=GROWTH_BATCHES[device.type])
    return growth(
        series, device=device, precision=precision, rounds=5, step_limit_s=3.0, time_limit_s=120,
        progress=progress,
    )  # fmt: skip


def _attention(device: torch.device, precision: str, progress: bool) -> dict:
    shapes = [
        Shape(ATTENTION_WORDS[device.type] // patches, patches, HEADS, width, multi_query)
        for multi_query in (False, True) for width in HEAD_WIDTHS for patches in ATTENTION_PATCHES
    ]  # fmt: skip
    return attention_choices(shapes, device=device, precision=precision, progress=progress)


def _products(device: torch.device, precision: str, progress: bool) -> dict:
    """Queries, keys and values, and both layers of the FFN, at the hierarchies that cost most."""
    products = []
    for name, (images, words, width) in PRODUCTS.items():
        outs = {"qkv": (width, 3 * width), "fc1": (width, 4 * width), "fc2": (4 * width, width)}
        products += [Product(f"{name}, {part}", images, words, *io) for part, io in outs.items()]
    return product_choices(products, device=device, precision=precision, progress=progress)


def _input(device: torch.device, precision: str, progress: bool) -> dict:
    found = _input_rates(INPUT_RECIPES, device, precision, progress)
    if device.type == "cpu":
        with one_thread():
            found["one_thread"] = _input_rates(INPUT_ONE_THREAD, device, precision, progress)
    return found


def _input_rates(
    names: Sequence[str], device: torch.device, precision: str, progress: bool
) -> dict:  # fmt: skip
    """By the published augmentation, whatever a recipe's own is."""
    num_classes, models = dataset_info("cifar10").num_classes, []
    for name in names:
        recipe = get_recipe(name)
        model = recipe.build_model(num_classes).to(device)
        models.append((name, model, build_optimizer(model, weight_decay=recipe.weight_decay)))
    noise = make_noise("cifar10", INPUT_IMAGES, 32).to(device)
    return input_rates(
        noise, Augmentation(), models, INPUT_BATCH[device.type], precision=precision,
        progress=progress,
    )  # fmt: skip


def _explaining(device: torch.device, precision: str, progress: bool) -> dict:
    models = {name: create_model(name) for name in EXPLAINED}
    return explaining_costs(models, EXPLAINED_IMAGES, device=device, progress=progress)


def _export(progress: bool) -> dict:
    models = {name: create_model(name) for name in EXPORTED}
    threads = sorted({1, torch.get_num_threads()})
    return export_speeds(models, EXPORT_BATCHES, threads, progress=progress)
