"""The GAN's training loop (appendix A.4): a recipe, two networks and images in, samples out.

Non-saturating logistic loss, R1 on real images, Adam, an EMA of the generator. What the paper does
not say is taken from HiT-GAN's public code, by the same group with the same optimiser
(google-research/hit-gan): the loss and the EMA, 0.999 a step from step 10 on. R1 is lazy, as in
StyleGAN2 (arXiv 1912.04958, section 3.1 and appendix B): every r1_every steps the discriminator
takes one step on the penalty alone, in fp32, and its Adam is set for that many more steps.

All randomness is a function of (seed, step, rank), as in the classifier's trainer.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from nestlib.data.datasets import FolderSet, ImageSet
from nestlib.data.diff_augment import diff_augment
from nestlib.files import write_atomically
from nestlib.metrics.generation import (  # fmt: skip
    Statistics,
    compute_statistics,
    frechet_distance,
    pixel_features,
    to_bytes,
)
from nestlib.models import Discriminator
from nestlib.models.tensor_files import write_tensors
from nestlib.recipes.recipe import GanRecipe
from nestlib.training.loop import Loop, NonFiniteLoss, TrainResult
from nestlib.training.optim import build_adam
from nestlib.training.seeding import derive_seed, epoch_order, seed_step

EMA_FROM_STEP = 10
SAMPLES = "samples"  # folder of a run
GRID = 8  # samples along an edge of the picture
PATIENCE = 5  # rows in a row with samples worse than before the first step
SAMPLE_BATCH = 256


class Diverged(RuntimeError):
    """Samples stay worse than those of the untrained generator; the message says how long."""


def train(
    recipe: GanRecipe, generator: nn.Module, discriminator: Discriminator,
    train_set: ImageSet | FolderSet, *, run_dir: Path, device: torch.device,
    deadline: float | None = None, checkpoint_seconds: float = 300, progress_bar: bool = True,
) -> TrainResult:  # fmt: skip
    """Train a generator by a recipe, from the newest checkpoint in `run_dir` if there is one.

    Stops cleanly, with a checkpoint, before `deadline` or at one of nestlib.signals.STOP_SIGNALS.
    Leaves in `samples/`, at each row of the history and of the same noise, a picture and all
    samples as bytes, which can be scored later by any features; at the end `weights.safetensors`,
    the EMA's. A run that diverges ends there: the result's `failure` says how.

    Args:
        run_dir: holds `checkpoints/` and `samples/`; one run, one folder.
        deadline: on time.monotonic's clock.
        checkpoint_seconds: seconds between checkpoints; one more at every stop.

    Raises:
        CheckpointError: the disk refused a checkpoint, or the folder holds one of another recipe or
            of other images, or of no run.
        ValueError: fewer training images than one batch, or a batch that ranks cannot share.
    """
    trainer = Trainer(recipe, generator, discriminator, train_set, run_dir, device)
    trainer.resume_together()
    try:
        return trainer.run(deadline, checkpoint_seconds, progress_bar)
    except (NonFiniteLoss, Diverged) as error:
        return trainer.result(finished=False, failure=str(error))


class Trainer(Loop):
    """One run: both networks, their optimisers and the EMA; a row every steps_per_row steps."""

    # Losses, mean scores of real and generated images, steps; R1's penalty and its steps.
    sum_names = (
        "loss/discriminator", "loss/generator", "score/real", "score/generated", "steps", "r1",
        "r1_steps",
    )  # fmt: skip
    first_row = 0  # what the untrained generator makes
    row_keys = "step", "sample/pixel_distance"

    def __init__(
        self, recipe: GanRecipe, generator: nn.Module, discriminator: Discriminator,
        train_set: ImageSet | FolderSet, run_dir: Path, device: torch.device,
    ):  # fmt: skip
        super().__init__(recipe, train_set, run_dir, device)
        if recipe.batch_size % self.ranks.size:
            raise ValueError(
                f"batch_size {recipe.batch_size} must be a multiple of the {self.ranks.size} ranks"
            )
        self.parts = self.ranks.size
        self.total_steps, self.steps_per_row = recipe.steps, recipe.steps_per_row
        # A row generates num_samples images, and the first looks at as many real ones.
        self.row_steps = 2 * recipe.num_samples / recipe.batch_size
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        for network in self.trained():
            self.ranks.broadcast([*network.parameters(), *network.buffers()])
        # Buffers are copied: the mean of power iteration's unit vectors would be none.
        self.ema = ModelEmaV3(
            self.generator, decay=recipe.ema_decay, update_after_step=EMA_FROM_STEP,
            exclude_buffers=True,
        )  # fmt: skip
        # The discriminator takes 1 + 1 / r1_every steps where the generator takes one.
        share = recipe.r1_every / (recipe.r1_every + 1) if recipe.r1_gamma else 1.0
        self.optimizers = {
            "generator": build_adam(self.generator, recipe.lr),
            "discriminator": build_adam(self.discriminator, recipe.lr, share),
        }
        self.random = torch.Generator(device)
        self.augment = partial(diff_augment, policy=recipe.diff_augment, generator=self.random)
        self.real: Statistics | None = None  # of the training images, measured when first needed

    # The training step

    def train_step(self, images: Tensor) -> None:
        """One step of both networks, by this rank's real images (B, 3, H, W) uint8."""
        recipe, step = self.recipe, self.progress.step
        seed_step(recipe.seed, step, self.ranks.rank, self.random)
        real = prepare(images, recipe.flip, self.random)
        with self.autocast():
            fake = self.generator(self._noise(len(real)))
        loss_d, score_real, score_fake = self._discriminator_step(real, fake.detach())
        if recipe.r1_gamma and step % recipe.r1_every == 0:
            self.add({"r1": self._penalty_step(real), "r1_steps": 1})
        loss_g = self._generator_step(fake)
        self.ema.update(self.generator, step=step + 1)
        self.add({
            "loss/discriminator": loss_d, "loss/generator": loss_g, "score/real": score_real,
            "score/generated": score_fake, "steps": 1,
        })  # fmt: skip
        self.note_loss(loss_d + loss_g)
        self.progress.step += 1

    def _discriminator_step(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        """Trains on images (B, 3, H, W); the loss and the mean scores, () float64 each."""
        with self.autocast():
            real_scores = self.discriminator(self.augment(real)).float()
            fake_scores = self.discriminator(self.augment(fake)).float()
        loss = F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()
        self._update("discriminator", loss)
        return [x.detach().double() for x in (loss, real_scores.mean(), fake_scores.mean())]

    def _penalty_step(self, real: Tensor) -> Tensor:
        penalty = r1_penalty(lambda images: self.discriminator(self.augment(images)), real)
        weight = self.recipe.r1_gamma / 2 * self.recipe.r1_every
        self._update("discriminator", weight * penalty)
        return penalty.detach()

    def _generator_step(self, fake: Tensor) -> Tensor:
        """Train on the images that the discriminator was just trained on: one forward for both."""
        self.discriminator.requires_grad_(False)
        with self.autocast():
            scores = self.discriminator(self.augment(fake)).float()
        loss = F.softplus(-scores).mean()
        self._update("generator", loss)
        self.discriminator.requires_grad_(True)
        return loss.detach().double()

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # R1 does not depend on the last bias; where there is no gradient, no rank has one.
        gradients = [p.grad for p in getattr(self, name).parameters() if p.grad is not None]
        self.ranks.average(gradients)
        optimizer.step()

    def _noise(self, count: int) -> Tensor:
        shape = count, self.generator.latent_dim
        return torch.randn(shape, generator=self.random, device=self.device)

    def batches(self) -> Iterator[tuple[Tensor]]:
        return ((images,) for images, _ in super().batches())

    # Rows: samples, and how near they are

    def end_row(self) -> None:
        super().end_row()
        # Together, as ranks on different processors may round their distances differently.
        self.ranks.together(partial(raise_if_diverged, self.recipe.run_id, self.progress.history))

    def make_row(self, sums: dict[str, float]) -> dict[str, float]:
        samples = self.sample()
        if self.ranks.is_main:
            path = self.run_dir / SAMPLES / f"step-{self.progress.step:08d}.png"
            write_atomically(path, draw_grid(samples[: GRID**2]))
            write_tensors(path.with_suffix(".safetensors"), {"images": to_bytes(samples)})
        row = {"step": self.progress.step}
        if sums["steps"]:  # losses and scores; none where nothing was trained yet
            row |= {name: sums[name] / sums["steps"] for name in self.sum_names if "/" in name}
        if sums["r1_steps"]:
            row["r1"] = sums["r1"] / sums["r1_steps"]
        return row | {"sample/pixel_distance": self._pixel_distance(samples)}

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Images (num_samples, 3, H, W) of the EMA's generator, always of the same noise."""
        model, recipe = self.result_model(), self.recipe
        self.ranks.broadcast(model.buffers())  # running statistics may differ from rank to rank
        self.random.manual_seed(derive_seed(recipe.seed, 4))
        noise = self._noise(recipe.num_samples)
        with self.autocast():
            return torch.cat([model(part).float() for part in noise.split(SAMPLE_BATCH)])

    def _pixel_distance(self, samples: Tensor) -> float:
        if self.real is None:
            order = epoch_order(0, 0, self.train_set, self.recipe.batch_size)
            order = order[: self.recipe.num_samples]
            parts = self.train_set.iterate(order, SAMPLE_BATCH, seed=0)
            features = torch.cat([pixel_features(prepare(images)) for images, _ in parts])
            self.real = compute_statistics(features)
        return frechet_distance(self.real, compute_statistics(pixel_features(samples)))

    # What the loop asks for

    def trained(self) -> list[nn.Module]:
        return [self.generator, self.discriminator]

    def result_model(self) -> nn.Module:
        return self.ema.module

    def stateful(self) -> dict[str, Any]:
        optimizers = {f"{name}_optimizer": part for name, part in self.optimizers.items()}
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return {**networks, **optimizers, "ema": self.ema}

    def describe_loss_of(self, step: int) -> str:
        return (
            f"{self.recipe.run_id}: the loss is not finite at step {step} of "
            f"{self.total_steps}, learning rate {self.recipe.lr:.3g}; try a lower lr or a larger "
            "r1_gamma"
        )

    def describe_sums(self, sums: dict[str, float]) -> dict[str, str]:
        steps = max(sums["steps"], 1)
        return {
            "step": f"{self.progress.step}/{self.total_steps}",
            "d": f"{sums['loss/discriminator'] / steps:.3f}",
            "g": f"{sums['loss/generator'] / steps:.3f}",
        }


def r1_penalty(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The mean over images of the squared norm of score's gradient (arXiv 1801.04406, equation 9,
    without its gamma / 2), differentiable by the score's parameters.

    Args:
        score: images (B, 3, H, W) to scores (B,).
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def prepare(images: Tensor, flip: bool = False, random: torch.Generator | None = None) -> Tensor:
    """Bytes (B, 3, H, W) to -1..1, each mirrored with probability one half if `flip`."""
    images = images.float() / 127.5 - 1
    if not flip:
        return images
    mirrored = torch.rand(len(images), generator=random, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def draw_grid(images: Tensor) -> bytes:
    """Images (B, 3, H, W) in -1..1 as a PNG, eight in a row."""
    pixels = make_grid(to_bytes(images), nrow=GRID, padding=1, pad_value=255)
    buffer = io.BytesIO()
    to_pil_image(pixels.cpu()).save(buffer, "png")
    return buffer.getvalue()


def raise_if_diverged(run_id: str, history: list[dict]) -> None:
    """Stop a run whose samples stay bad.

    Raises:
        Diverged: the last `PATIENCE` rows' samples are all farther from the data than those of the
            untrained generator, the first row's.
    """
    start, *later = [row["sample/pixel_distance"] for row in history]
    # Written so that a distance that is not a number counts as worse.
    if len(later) >= PATIENCE and not any(distance <= start for distance in later[-PATIENCE:]):
        raise Diverged(
            f"{run_id}: the samples of the last {PATIENCE} rows, up to step "
            f"{history[-1]['step']}, are farther from the data than the untrained generator's "
            f"(pixel distance {later[-1]:.3g} against {start:.3g}); try a lower lr or a larger "
            "r1_gamma"
        )
