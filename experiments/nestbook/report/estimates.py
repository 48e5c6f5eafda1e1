"""What a machine should reach at most in steps of the plan, by its two rates."""

from nestbook.benchmarks.rates import Machine
from nestbook.profiles import MACHINE_RATES
from nestbook.report.tables import Cell, Sources, Table, significant
from nestbook.run_plan.estimates import (
    ADAMW_BYTES,
    FORWARD,
    H200,
    H200_SOURCE,
    TRAINING,
    Estimate,
    TrainingEstimate,
    estimate_forward,
    estimate_training,
)
from nestlib.recipes.named import get_recipe
from nestlib.records import Store

MACHINE_OF = "rates"  # the profile whose newest record of a GPU takes the assumption's place
COUNTED = "counted on the meta device"


def find_machine(store: Store) -> tuple[Machine, str]:
    """A GPU's rates, and where they are from: the newest record of one, else what is assumed."""
    for record in store.find_benches(MACHINE_OF):
        if record.environment["device_kind"] == "cuda":
            product, copy = (1e9 * record.summary[key] for key in MACHINE_RATES)
            return Machine(product, copy), f"{record.run_id} ({record.environment['device']})"
    return H200, H200_SOURCE


def estimates_table(machine: Machine, source: str) -> Table:
    """Forward passes and a training run: images/s at most and minutes at least, by two bounds.

    source: where the machine's rates are from.
    """
    recipe = get_recipe(TRAINING)
    training = estimate_training(recipe, machine)
    forward = [(rival.name, estimate_forward(rival, machine)) for rival in FORWARD]
    computed = f"computed from FLOPs and bytes {COUNTED}; rates {source}"
    return Table(
        "What the machine should reach at most, in bf16",
        ("Step", "Batch", "GFLOPs per image", "Images/s, products alone", "by operator",
         f"Minutes of {recipe.epochs} epochs, products alone", "by operator"),
        [
            *((f"{name}, forward", *_speeds(found, computed), "", "") for name, found in forward),
            *_training_rows(f"{recipe.name}, training", training, computed),
        ],
        ["Products alone: FLOPs at the rate of a large product, which perfect fusion could at best "
         "reach. By operator: each operator by itself, by its FLOPs or its bytes, whichever takes "
         "longer; eager code is faster only by what a cache holds between operators"],
        Sources(
            f"Computed from {machine.flops_per_second / 1e12:,.3g} TFLOP/s and "
            f"{machine.bytes_per_second / 1e12:,.3g} TB/s, read and written; {source}",
            _details(training),
        ),
    )  # fmt: skip


def _training_rows(name: str, training: TrainingEstimate, source: str) -> list[tuple[Cell, ...]]:
    whole = [significant(seconds / 60, source) for seconds in training.run_seconds]
    update = training.num_steps * training.optimizer.operator_seconds / 60
    return [
        (name, *_speeds(training.step, source), *whole),
        ("of which AdamW", *[""] * 5, significant(update, source)),
    ]


def _details(training: TrainingEstimate) -> tuple[str, ...]:
    return (
        f"GFLOPs: billions of multiply-adds, {COUNTED}: matrix products and convolutions; in "
        "training with the scores that fused attention computes again. Bytes: each operator's "
        "inputs, weights and outputs once",
        "Everything is counted in bf16. Autocast keeps norms and the additions behind them in "
        "fp32 and casts between, so eager code under it moves more and stays further below",
        "Attention is the fused operator where a GPU's kernels take it. They refuse the five "
        "dimensions of timm's NesT as it comes, so there it stands as products and a softmax in "
        "fp32. Without fused_attn it moves less",
        f"Training: forward, backward and fused AdamW ({ADAMW_BYTES} bytes per parameter), "
        f"{training.num_steps:,} steps, {_power(training.run_flops)} operations, two per "
        "multiply-add. Not counted: launching kernels, loading and augmenting images, evaluation, "
        "checkpoints",
    )


def _power(value: float) -> str:
    """Such as "5.8 x 10^16"."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits} x 10^{int(exponent)}"


def _speeds(estimate: Estimate, source: str) -> list[Cell]:
    """Batch, GFLOPs and images/s by both bounds."""
    speeds = [significant(speed, source) for speed in estimate.images_per_second]
    return [str(estimate.num_images), significant(estimate.gflops, COUNTED), *speeds]
