"""Predict time and cost of a training run on many devices from three measured rates.

A step of B images on N devices takes

    compute   B / (N r)                r images/s, trained by one device
    exchange  2 (N - 1) / N * G / w    G bytes of gradients, w bytes/s sent by a device (a ring)
    input     B / (N l)                l images/s, of the loader, for one device

PyTorch exchanges gradients while later ones are computed, and loads batches ahead. So a step takes
the longest of the three at least, and compute + exchange, or input, at most; what runs do lies
between. Not in it: checkpoints, evaluation, a rate that falls as a device's share gets small.

python -m nestbook.benchmarks.scaling                    measure 1 and 2 ranks on this CPU
python -m nestbook.benchmarks.scaling --commit-record
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from nestbook.benchmarks.bench import bench_id
from nestbook.benchmarks.rates import take_turns
from nestbook.recipes.rows import TABLE2
from nestbook.records import add_record
from nestlib.data.datasets import dataset_info
from nestlib.metrics.cost import count_params
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Record, Store, describe_environment, open_store
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import Trainer

RANKS = tuple(2**i for i in range(9))  # 1 to 256
BYTES_PER_PARAMETER = 4  # gradients are fp32, also in bf16 runs
ROW = "NesT-T"  # of Table 2, whose bench gives a device's rate
TIMED_RANKS = (1, 2)
BATCH, STEPS, WARMUP = 64, 12, 3
ROUNDS = 3
TURN_SECONDS = 180.0  # at most, for one torchrun


@dataclass(frozen=True)
class Job:
    """What is trained: images of an epoch and of a step, epochs, and the model's parameters."""

    num_images: int
    batch_size: int
    epochs: int
    num_params: int


@dataclass(frozen=True)
class Rates:
    """Rates of one device. loader: None if it was not measured; then it is taken for no limit."""

    images_per_second: float
    bytes_per_second: float
    loader: float | None = None


@dataclass(frozen=True)
class Prediction:
    """A prediction between full overlap (least) and none (most)."""

    ranks: int
    step_seconds: tuple[float, float]
    hours: tuple[float, float]
    efficiency: tuple[float, float]  # of the devices' own rates; the lower one first


def predict(job: Job, rates: Rates, ranks: int) -> Prediction:
    """Predict the seconds per step, the hours and the efficiency of a job on `ranks` devices.

    Raises:
        ValueError: fewer images in a step than ranks, or a rate that is not above 0.
    """
    given = [rates.images_per_second, rates.bytes_per_second, rates.loader or 1]
    if not 1 <= ranks <= job.batch_size or min(given) <= 0:
        raise ValueError(
            f"{ranks} ranks with {rates} cannot train batches of {job.batch_size}; use 1 to "
            f"{job.batch_size} ranks and rates above 0"
        )
    compute = job.batch_size / (ranks * rates.images_per_second)
    size = job.num_params * BYTES_PER_PARAMETER
    exchange = 2 * (ranks - 1) / ranks * size / rates.bytes_per_second
    load = job.batch_size / (ranks * rates.loader) if rates.loader else 0.0
    least, most = max(compute, exchange, load), max(compute + exchange, load)
    hours = job.epochs * (job.num_images // job.batch_size) / 3600
    return Prediction(
        ranks, (least, most), (hours * least, hours * most), (compute / most, compute / least)
    )


@dataclass(frozen=True)
class Device:
    """A device that predictions start from; source says where its images/s are from."""

    rates: Rates
    source: str
    kind: str  # "cpu" or "cuda"


@dataclass(frozen=True)
class Loader:
    """Images/s that are decoded for one device, and the source of the number; None: no limit."""

    images_per_second: float | None
    source: str


def loader_rate(benched: Sequence[Record], own_rate: float, cores: int) -> Loader:
    """The reader's own rate; else `cores` times what the loader's newest record shows of one.

    That is of JPEGs of about ImageNet's size, from shards, cropped to bytes as a GPU gets them;
    each worker there had a core.

    Args:
        own_rate: images/s for one device, 0: not known; cores: that decode for one device.
    """
    if own_rate:
        return Loader(own_rate, "the parameter loader_images_per_second")
    if not benched:
        return Loader(None, "no limit, because there is no record of the loader")
    measured = benched[0]
    rates = measured.summary["sets"]["photos"]["rates"]["shards, bytes for a GPU"]
    a_core = median(rates["images_per_second"]) / measured.summary["settings"]["workers"]
    return Loader(cores * a_core, f"{cores} cores of {a_core:.3g} images/s each, {measured.run_id}")


def device_rates(
    benched: Sequence[Record], *, own_rate: float, gb_per_second: float, loader: Loader
) -> dict[str, Device]:
    """The devices that there are predictions for, by name.

    Args:
        benched: Table 2's benches; own_rate: the reader's images/s of one GPU, 0: none.
        gb_per_second: a device's share of the interconnect, the reader's.
    """
    limits = gb_per_second * 1e9, loader.images_per_second
    found = {}
    for record in benched:
        timed = record.summary.get(ROW, {}).get("images_per_second", {}).get("train")
        if timed:
            where = record.environment
            rates = Rates(timed["median"], *limits)
            found[where["device"]] = Device(rates, record.run_id, where["device_kind"])
    if own_rate:
        rates = Rates(own_rate, *limits)
        found["your GPU"] = Device(rates, "the parameter images_per_second", "cuda")
    return found


def imagenet_job(epochs: int) -> Job:
    """The recipe of Table 2's ROW."""
    recipe, info = get_recipe(TABLE2[ROW].recipe), dataset_info("imagenet")
    with torch.device("meta"):  # of shapes alone
        num_params = count_params(recipe.build_model(info.num_classes))
    return Job(info.num_train, recipe.batch_size, epochs, num_params)


def scaling_recipe() -> Recipe:
    """Narrow, with gradients of some megabytes, so that two ranks have something to exchange."""
    return get_recipe(
        "digits/nest_narrow", batch_size=BATCH, train_limit=256, test_limit=16,
        model_options={"embed_dim": 96, "num_hierarchies": 2, "patch_size": 4},
    )  # fmt: skip


def measure_scaling(
    store: Store, *, rounds: int = ROUNDS, steps: int = STEPS, committed: bool = False
) -> Record:
    """Time steps of one batch by one gloo rank and by two, in turn, one thread each."""
    recipe, device = scaling_recipe(), torch.device("cpu")
    environment = describe_environment(device)
    runs = {ranks: partial(_time_ranks, ranks, steps) for ranks in TIMED_RANKS}
    turns = take_turns(runs, rounds, warmup=0)
    return add_record(
        store, environment, committed=committed, kind="bench",
        run_id=bench_id("scaling", "full", device, recipe.precision),
        recipe={"model": recipe.model, "model_options": recipe.model_options, "batch_size": BATCH,
                "num_params": count_params(recipe.build_model(10)), "steps": steps,
                "rounds": rounds, "threads_per_rank": 1, "backend": "gloo", "budget": "full"},
        summary={
            "step_seconds": {str(n): [turn["step"] for turn in turns[n]] for n in TIMED_RANKS},
            "exchange_seconds": [turn["exchange"] for turn in turns[2]],
        },
    )  # fmt: skip


def _time_ranks(ranks: int, steps: int) -> dict[str, float]:
    """Run torchrun once: the median seconds of a step and of an exchange of all gradients."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(ranks), "-m", "nestbook.benchmarks.scaling", "rank", str(steps)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=TURN_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise OSError(f"torchrun with {ranks} ranks failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _run_rank(steps: int) -> None:
    """Run one rank within torchrun; the main rank prints."""
    recipe = scaling_recipe()
    train_set, test_set = load_sets(recipe)
    with TemporaryDirectory() as nowhere:
        trainer = Trainer(
            recipe, recipe.build_model(train_set.num_classes), train_set, test_set, Path(nowhere),
            torch.device("cpu"),
        )  # fmt: skip
    share = BATCH // trainer.ranks.size
    batch = train_set.images[:share], train_set.labels[:share]
    gradients = torch.zeros(count_params(trainer.model))
    taken: dict[str, list[float]] = {"step": [], "exchange": []}
    for i in range(WARMUP + steps):
        start = time.perf_counter()
        trainer.train_step(*batch)
        middle = time.perf_counter()
        trainer.ranks.sum(gradients)
        if i >= WARMUP:
            taken["step"].append(middle - start)
            taken["exchange"].append(time.perf_counter() - middle)
    if trainer.ranks.is_main:
        print(json.dumps({name: sorted(times)[steps // 2] for name, times in taken.items()}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        _run_rank(int(sys.argv[2]))
    else:
        print(measure_scaling(open_store(), committed="--commit-record" in sys.argv).summary)
