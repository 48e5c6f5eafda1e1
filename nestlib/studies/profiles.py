"""What NesT's time goes into, and how it grows: each measurement leaves a record."""

from functools import partial

import torch

from nestlib.data.containers import ImageSet
from nestlib.data.datasets import dataset_info
from nestlib.measure.attention import attention_choices
from nestlib.measure.data_faults import rehearse
from nestlib.measure.explaining import explaining_costs
from nestlib.measure.growth import growth, nest_series
from nestlib.measure.input_rate import input_rates
from nestlib.measure.roofline import roofline
from nestlib.models import create_model
from nestlib.precision import resolve_precision
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, describe_environment, timestamp
from nestlib.studies.benches import SPEED_BATCH_SIZES, bench_id
from nestlib.studies.feeding import measure_loader, measure_streaming
from nestlib.training.devices import resolve_device
from nestlib.training.optim import build_optimizer

PROFILES = {
    "roofline": "a forward pass of NesT-T at 224, part by part, beside what the machine could do",
    "growth": "time and memory against batch, pixels and depth; DeiT-S beside it",
    "attention": "ways to attend within blocks, at every hierarchy of NesT-T",
    "input": "batches made without a model, beside the training steps that use them",
    "explaining": "GradCAT and class maps of 64 images, beside a pass of training",
    "loader": "images decoded and augmented on the CPU, beside torchvision's pipeline",
    "data-faults": "what epochs lose when files and servers break",
    "streaming": "memory over ten minutes of reading shards from a server",
}
MODEL = "nest_tiny_imagenet"
# Images of the roofline's batch, and along the growth's axes: what a device needs to be busy.
ROOFLINE_BATCH = {"cpu": 4, "cuda": 128}
GROWTH_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (16, 32, 64, 128, 256)}
# Multi-head at 224; multi-query as the published CIFAR models, and multi-head as timm can build it.
ATTENDING = {
    MODEL: {},
    "nest_tiny_cifar": {},
    "nest_tiny_cifar, multi-head": {"attention": "multi_head"},
}
INPUT_RECIPES = ("cifar10/nest_tiny", "cifar10/nest_tiny_s2_depth3")
INPUT_BATCH = {"cpu": 32, "cuda": 192}  # 192 is the recipes' own
EXPLAINED = (MODEL, "nest_tiny_cifar")
EXPLAINED_IMAGES = 64
INPUT_IMAGES = 10_000  # of noise in CIFAR-10's shape: what they show costs no time


def run_profile(
    name: str, store: Store, *, device: str = "auto", precision: str = "fp32",
    committed: bool = False, progress: bool = True,
) -> Record:  # fmt: skip
    """Measure a profile (one of PROFILES) and write its record.

    Raises:
        ValueError: an unknown profile.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    where = resolve_device(device)
    precision = resolve_precision(precision, where)
    environment = describe_environment(where)
    measure = {
        "roofline": _roofline, "growth": _growth, "attention": _attention, "input": _input,
        "explaining": _explaining, "loader": _loader, "streaming": _streaming,
        "data-faults": _data_faults,
    }[name]  # fmt: skip
    recipe = {"profile": name, "precision": precision, "budget": "full"}
    if name in ("roofline", "growth"):
        recipe["model"] = MODEL
    record = Record(
        run_id=bench_id(name, "full", where, precision), kind="bench", recipe=recipe,
        environment=environment, summary=measure(where, precision, progress),
    )  # fmt: skip
    record.environment["finished"] = timestamp()
    store.add(record, committed=committed)
    return record


def _roofline(device: torch.device, precision: str, progress: bool) -> dict:
    images = torch.randn(ROOFLINE_BATCH[device.type], 3, 224, 224, device=device)
    return roofline(create_model(MODEL).to(device), images, precision=precision)


def _growth(device: torch.device, precision: str, progress: bool) -> dict:
    series = nest_series(batch_sizes=GROWTH_BATCHES[device.type])
    return growth(
        series, device=device, precision=precision, rounds=5, step_limit_s=3.0, time_limit_s=120,
        progress=progress,
    )  # fmt: skip


def _attention(device: torch.device, precision: str, progress: bool) -> dict:
    build = {name: partial(create_model, name.split(",")[0], **o) for name, o in ATTENDING.items()}
    with torch.device("meta"):  # of shapes alone
        models = {name: build_model() for name, build_model in build.items()}
    batch_sizes = {
        name: SPEED_BATCH_SIZES[model.img_size[0], device.type] for name, model in models.items()
    }
    return attention_choices(
        models, batch_sizes, device=device, precision=precision, progress=progress
    )


def _input(device: torch.device, precision: str, progress: bool) -> dict:
    recipes = {name: get_recipe(name) for name in INPUT_RECIPES}
    recipe, info = recipes[INPUT_RECIPES[0]], dataset_info("cifar10")
    models = []
    for name, one in recipes.items():
        model = one.build_model(info.num_classes).to(device)
        models.append((name, model, build_optimizer(model, weight_decay=one.weight_decay)))
    return input_rates(
        _noise(info, device), recipe.augmentation, models, INPUT_BATCH[device.type],
        precision=precision, progress=progress,
    )  # fmt: skip


def _explaining(device: torch.device, precision: str, progress: bool) -> dict:
    if precision != "fp32":
        raise ValueError(f"explaining is measured in fp32, not {precision}")
    models = {name: create_model(name) for name in EXPLAINED}
    return explaining_costs(models, EXPLAINED_IMAGES, device=device, progress=progress)


def _loader(device: torch.device, precision: str, progress: bool) -> dict:
    _refuse_gpu("loader", device)
    return measure_loader(progress)


def _streaming(device: torch.device, precision: str, progress: bool) -> dict:
    _refuse_gpu("streaming", device)
    return measure_streaming(progress)


def _data_faults(device: torch.device, precision: str, progress: bool) -> dict:
    _refuse_gpu("data-faults", device)
    return rehearse()


def _refuse_gpu(name: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise ValueError(f"{name} is measured on the CPU alone; give --device cpu")


def _noise(info, device: torch.device) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    shape = (INPUT_IMAGES, 3, 32, 32)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(info.num_classes, shape[:1], generator=generator)
    names = tuple(map(str, range(info.num_classes)))
    return ImageSet("noise", "train", images, labels, names, info.mean, info.std).to(device)
