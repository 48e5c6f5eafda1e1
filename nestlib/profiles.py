"""What NesT-T's time goes into, and how it grows: each measurement leaves a record."""

import torch

from nestlib.benches import bench_id
from nestlib.measure.growth import growth, nest_series
from nestlib.measure.roofline import roofline
from nestlib.models import create_model
from nestlib.records import Record, Store, describe_environment, timestamp
from nestlib.training.devices import resolve_device

PROFILES = {
    "roofline": "a forward pass of NesT-T at 224, part by part, beside what the machine could do",
    "growth": "time and memory against batch, pixels and depth; DeiT-S beside it",
}
MODEL = "nest_tiny_imagenet"
# Images of the roofline's batch, and along the growth's axes: what a device needs to be busy.
ROOFLINE_BATCH = {"cpu": 4, "cuda": 128}
GROWTH_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (16, 32, 64, 128, 256)}


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
    environment = describe_environment(where)
    if name == "roofline":
        images = torch.randn(ROOFLINE_BATCH[where.type], 3, 224, 224, device=where)
        measured = roofline(create_model(MODEL).to(where), images, precision=precision)
    else:
        series = nest_series(batch_sizes=GROWTH_BATCHES[where.type])
        measured = growth(
            series, device=where, precision=precision, rounds=5, step_limit_s=3.0,
            time_limit_s=120, progress=progress,
        )  # fmt: skip
    record = Record(
        run_id=bench_id(name, "full", where, precision), kind="bench",
        recipe={"profile": name, "model": MODEL, "precision": precision, "budget": "full"},
        environment=environment | {"finished": timestamp()}, summary=measured,
    )  # fmt: skip
    store.add(record, committed=committed)
    return record
