"""The most that a machine can reach in the plan's steps, from their FLOPs and bytes.

Nothing is computed: models are on the meta device, where operators give shapes alone. So the first
figure that a new machine gives can be judged against what its two rates allow.

Parameters and images are bfloat16 throughout, to stand for autocast. That keeps norms and the
additions behind them in fp32 and casts between, so it moves more bytes than are counted here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nestbook.benchmarks.bench import SPEED_BATCH_SIZES
from nestbook.benchmarks.rates import Machine
from nestbook.benchmarks.rivals import MODELS, Rival
from nestbook.profiles.operators import Operator, OperatorTimer
from nestbook.sweeps.cost import count_images_seen
from nestlib.data.datasets import dataset_info
from nestlib.metrics.cost import count_params
from nestlib.recipes.recipe import Recipe

# In bf16; a session on a GPU measures its own (nestbook.benchmarks.rates.measure_machine).
H200 = Machine(flops_per_second=790e12, bytes_per_second=4.3e12)
H200_SOURCE = (
    "assumed of an H200, no record of this project: large bf16 matrix products and copies; a "
    "session on a GPU measures its own first"
)
FORWARD = (
    Rival("nest_tiny", "nestlib"), Rival("nest_tiny", "timm"), Rival("deit_small", "timm"),
)  # fmt: skip
TRAINING = "cifar10/nest_tiny_s2_depth3"

# Fused AdamW reads a parameter, its gradient and two moments, and writes all but the gradient; fp32
# values.
ADAMW_BYTES = 7 * 4

aten = torch.ops.aten
META = torch.device("meta")


@dataclass(frozen=True)
class Estimate:
    """The work of a step on one batch, and the least seconds that it takes.

    Attributes:
        flops: two a multiply-add, of matrix products and convolutions.
        bytes: inputs, weights and outputs of each operator, once.
        product_seconds: of the FLOPs alone, at the rate of a large product: the best that perfect
            fusion could reach.
        operator_seconds: of operators one by one, each by the larger of its FLOPs at that rate and
            its bytes at the rate of a large copy: the best of eager code, but for what a cache
            holds from one operator to the next.
    """

    num_images: int
    flops: int
    bytes: int
    product_seconds: float
    operator_seconds: float

    @property
    def gflops(self) -> float:
        """Multiply-adds per image, in units of 10**9, as nestlib.metrics.cost counts them."""
        return self.flops / 2 / self.num_images / 1e9

    @property
    def images_per_second(self) -> tuple[float, float]:
        """Images per second at most: by products alone, and by each operator by itself."""
        return self.num_images / self.product_seconds, self.num_images / self.operator_seconds


@dataclass(frozen=True)
class TrainingEstimate:
    """passes: forward and backward of a step; optimizer: its update; num_steps: of all epochs."""

    passes: Estimate
    optimizer: Estimate
    num_steps: int

    @property
    def step(self) -> Estimate:
        passes, optimizer = self.passes, self.optimizer
        return Estimate(
            passes.num_images, passes.flops, passes.bytes + optimizer.bytes,
            passes.product_seconds, passes.operator_seconds + optimizer.operator_seconds,
        )  # fmt: skip

    @property
    def run_flops(self) -> int:
        return self.num_steps * self.step.flops

    @property
    def run_seconds(self) -> tuple[float, float]:
        """Seconds of all epochs at least: by products alone, and by each operator by itself."""
        step = self.step
        return self.num_steps * step.product_seconds, self.num_steps * step.operator_seconds


def estimate_forward(rival: Rival, machine: Machine) -> Estimate:
    """A forward pass in bf16 of the bench's batch on a GPU (evaluation, eager, no gradients)."""
    size = MODELS[rival.model].image_size
    with META:
        model = rival.build().to(torch.bfloat16).eval()
    images = make_images(SPEED_BATCH_SIZES[size, "cuda"], size)
    operators = list_operators(model, partial(run_forward, model, images))
    return make_estimate(operators, len(images), machine)


def estimate_training(recipe: Recipe, machine: Machine) -> TrainingEstimate:
    """A step of a recipe in bf16 (forward, backward, AdamW), and how many its epochs take.

    Clipping and a moving average of weights are not counted.

    Raises:
        ValueError: another optimizer than AdamW, or a teacher.
    """
    if recipe.optimizer != "adamw" or recipe.distillation:
        raise ValueError(
            f"{recipe.name} has optimizer {recipe.optimizer!r} and distillation "
            f"{recipe.distillation}, whose work is not counted here; use a recipe with optimizer "
            "'adamw' and distillation None"
        )
    num_classes = dataset_info(recipe.dataset).num_classes
    with META:
        model = recipe.build_model(num_classes).to(torch.bfloat16).train()
    images = make_images(recipe.batch_size, recipe.image_size)
    targets = images.new_empty(len(images), num_classes)  # soft ones, of mixed images
    operators = list_operators(model, partial(run_backward, model, images, targets))
    update = ADAMW_BYTES * count_params(model)
    return TrainingEstimate(
        make_estimate(operators, len(images), machine),
        Estimate(len(images), 0, update, 0.0, update / machine.bytes_per_second),
        num_steps=count_images_seen(recipe) // recipe.batch_size,
    )


def make_images(batch_size: int, image_size: int) -> Tensor:
    """(B, 3, S, S) in bfloat16, without values."""
    return torch.empty(batch_size, 3, image_size, image_size, dtype=torch.bfloat16, device=META)


def run_forward(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        model(images)


def run_backward(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    """targets: (B, num_classes), a distribution for each image."""
    F.cross_entropy(model(images), targets).backward()


def list_operators(model: nn.Module, step: Callable[[], None]) -> list[Operator]:
    """The operators of a model's step on the meta device, as a GPU would run them."""
    with _FusedAttention(), OperatorTimer(model, META) as counter:
        step()
    return counter.operators


def make_estimate(operators: Iterable[Operator], num_images: int, machine: Machine) -> Estimate:
    """Sums over the operators of a step on so many images."""
    work = [(one.flops, one.bytes) for one in operators]
    flops, moved = (sum(column) for column in zip(*work, strict=True))
    return Estimate(
        num_images, flops, moved, flops / machine.flops_per_second,
        sum(max(f / machine.flops_per_second, b / machine.bytes_per_second) for f, b in work),
    )  # fmt: skip


class _FusedAttention(TorchFunctionMode):
    """Attention by the fused operator where a GPU's kernels take it: four dimensions, no mask.

    The meta device would take it apart into products in fp32, with every score written and read.
    That is what a GPU does with the five dimensions of timm's NesT, so these stay apart.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_fused(*args, **kwargs):
            return aten._scaled_dot_product_flash_attention(*args[:3])[0]
        return func(*args, **kwargs)


def _is_fused(query: Tensor, key: Tensor, value: Tensor, attn_mask=None, **options) -> bool:
    return query.ndim == 4 and attn_mask is None and not any(options.values())
