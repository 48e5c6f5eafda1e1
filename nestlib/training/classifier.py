"""The classifier's training loop: a recipe, data and a model in, a history and weights out.

A step's batch is cut into equal parts, one per rank or more, whose gradients are averaged. All
randomness is a function of (seed, step, part): orders, crops, mixing and stochastic depth are
seeded again at every step, so that a run resumed at any step goes on exactly as if it had never
stopped. On the CPU the weights are the same bit for bit. With the same parts any number of ranks
computes the same but for rounding; only running statistics of batch norm are those of the main
rank's parts.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nestlib.choices import check_choice
from nestlib.data.augment import augment, normalize
from nestlib.data.datasets import FolderSet, ImageSet
from nestlib.metrics.accuracy import find_hits, pack_right, score, unpack_right
from nestlib.models.mode import running_mode
from nestlib.recipes.recipe import Recipe
from nestlib.training.capture import CapturedStep
from nestlib.training.distill import Teacher
from nestlib.training.loop import Loop, NonFiniteLoss, TrainResult
from nestlib.training.optim import build_optimizer, compute_lr, make_capturable, set_lr
from nestlib.training.seeding import seed_step

__all__ = ["NonFiniteLoss", "TrainResult", "Trainer", "train"]

STEPS = ("eager", "compiled", "graph", "compiled_graph")
EVALUATION_BATCH = 250  # at most 65,535 blocks even at depth 5: a limit of fused attention kernels


def train(
    recipe: Recipe, model: nn.Module, train_set: ImageSet | FolderSet,
    test_set: ImageSet | FolderSet, *, run_dir: Path, device: torch.device,
    teacher: nn.Module | None = None, deadline: float | None = None,
    checkpoint_seconds: float = 300, progress_bar: bool = True, micro_batch: int | None = None,
    step: str = "",
) -> TrainResult:  # fmt: skip
    """Train a classifier by a recipe, from the newest checkpoint in `run_dir` if there is one.

    Stops cleanly, with a checkpoint, before `deadline` or at one of nestlib.signals.STOP_SIGNALS.
    At the end it writes `weights.safetensors` (the EMA's weights where the recipe has one).

    Args:
        run_dir: holds `checkpoints/`; one run, one folder.
        teacher: the trained model that a recipe with `distillation` learns from.
        deadline: on time.monotonic's clock.
        checkpoint_seconds: seconds between checkpoints; one more at every stop.
        micro_batch: at most so many images go through the model at once; the step's other images
            follow, and their gradients are added.
        step: one of STEPS, how the device gets a step's work: kernel by kernel, of a compiled
            model, as one CUDA graph, or both. It changes nothing but rounding, and the compiled
            model's draws of stochastic depth. Default: as the recipe's `compile` says.

    Raises:
        NonFiniteLoss: with step and learning rate; the last checkpoint is from before.
        CheckpointError: the disk refused a checkpoint, or the folder holds one of another recipe or
            of other images, or of no run.
        ValueError: fewer training images than one batch, fewer images in it than ranks, a teacher
            for a recipe without distillation, or the reverse, or a graph of what can be none.
    """
    trainer = Trainer(
        recipe, model, train_set, test_set, run_dir, device, teacher, micro_batch, step
    )  # fmt: skip
    trainer.resume_together()
    return trainer.run(deadline, checkpoint_seconds, progress_bar)


def count_parts(batch_size: int, ranks: int, micro_batch: int | None = None) -> int:
    """The number of equal parts that a batch is cut into: the fewest that give each rank at least
    one and hold at most `micro_batch` images.

    Raises:
        ValueError: fewer images than ranks, or a micro_batch below 1.
    """
    largest = batch_size if micro_batch is None else micro_batch
    if batch_size < ranks or largest < 1:
        raise ValueError(
            f"a batch of {batch_size} images cannot be shared by {ranks} ranks in parts of at most "
            f"{largest}; use {batch_size} ranks or fewer, and parts of 1 or more"
        )
    fewest = max(ranks, math.ceil(batch_size / largest))
    return next(parts for parts in range(fewest, batch_size + 1) if batch_size % parts == 0)


class Trainer(Loop):
    """One run: model, optimiser and EMA; a row of its history is `evaluate_every` epochs."""

    sum_names = "loss", "steps"

    def __init__(
        self, recipe: Recipe, model: nn.Module, train_set: ImageSet | FolderSet,
        test_set: ImageSet | FolderSet, run_dir: Path, device: torch.device,
        teacher: nn.Module | None = None, micro_batch: int | None = None, step: str = "",
    ):  # fmt: skip
        super().__init__(recipe, train_set, run_dir, device)
        self.image_sets.append(test_set)
        self.row_keys = "epoch", f"{test_set.split}/loss", f"{test_set.split}/top1"
        step = step or ("compiled" if recipe.compile else "eager")
        check_choice("form of a step", step, STEPS)
        self.test_set = test_set.to(device)
        self.parts = count_parts(recipe.batch_size, self.ranks.size, micro_batch)
        self.steps_per_row = self.steps_per_epoch * recipe.evaluate_every
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.row_steps = len(test_set) / recipe.batch_size
        self.model = model.to(device)
        decay = recipe.ema_decay
        # timm's, as torch's AveragedModel asks the device at each step whether it is the first.
        self.ema = decay and ModelEmaV3(self.model, decay=decay)
        self.optimizer = build_optimizer(
            self.model, recipe.optimizer, weight_decay=recipe.weight_decay
        )
        self.replica = DistributedDataParallel(model) if self.ranks.size > 1 else self.model
        self.forward = torch.compile(self.replica) if "compiled" in step else self.replica
        self.compiled = "compiled" in step
        self.takes_targets = "targets" in inspect.signature(model.forward).parameters
        if (teacher is None) != (recipe.distillation is None) or (teacher and self.takes_targets):
            raise ValueError(
                f"distillation of {recipe.run_id} is {recipe.distillation}; give a teacher if and "
                "only if this is set, and none to a model that takes targets"
            )
        self.teacher = teacher and Teacher(teacher, recipe.distillation, device)
        self.generator = torch.Generator(device)
        self.captured = self._capture() if "graph" in step else None

    def _capture(self) -> CapturedStep:
        if self.device.type != "cuda" or self.parts > 1:
            raise ValueError(
                f"a step of {self.parts} parts on {self.device} cannot be one graph: that takes a "
                "GPU and the whole batch at once; choose eager or compiled"
            )
        return CapturedStep(self._step, self._changed, [self.generator])

    def _changed(self) -> Iterator[Tensor]:
        """Everything that a step changes."""
        yield from self.model.state_dict().values()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        if self.ema:
            yield from self.ema.module.state_dict().values()
        yield from (self.sums, self.counted, self.first_bad)

    def train_step(self, images: Tensor, labels: Tensor) -> None:
        """One step by this rank's share of the batch, part by part.

        Args:
            images, labels: (B, 3, H, W) uint8 and (B,) int64.
        """
        if self.captured:
            make_capturable(self.optimizer, self.device)
            self.captured.prepare(images, labels)
            self._seed(0)  # the recording cannot
        set_lr(self.optimizer, self.lr)
        (self.captured or self._step)(images, labels)
        self.progress.step += 1

    def _step(self, images: Tensor, labels: Tensor) -> None:
        """The device's work of a step."""
        recipe, own = self.recipe, self.ranks.own_parts(self.parts)
        loss = torch.zeros((), device=self.device)
        # A batch that lacks unreadable images is split as evenly as it goes; of fewer images than
        # parts the last are empty, and left out.
        own = own[: len(images)]
        parts = images.tensor_split(len(own)), labels.tensor_split(len(own))
        for part, part_images, part_labels in zip(own, *parts, strict=True):
            # Gradients are exchanged once a step, behind the last part.
            waits = self.ranks.size > 1 and part != own[-1]
            with self.replica.no_sync() if waits else nullcontext():
                loss += self._backward(part_images, part_labels, part)
        if recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.model)
        self.add({"loss": loss, "steps": 1})
        self.note_loss(loss)

    def _seed(self, part: int) -> None:
        seed_step(self.recipe.seed, self.progress.step, part, self.generator)

    def _backward(self, images: Tensor, labels: Tensor, part: int) -> Tensor:
        """Add a part's gradients; its share of the rank's loss, of which ranks take the mean."""
        recipe = self.recipe
        if not self.captured:
            self._seed(part)
        images, targets = augment(
            images, labels, recipe.augmentation, num_classes=self.train_set.num_classes,
            mean=self.train_set.mean, std=self.train_set.std, generator=self.generator,
        )  # fmt: skip
        with self.autocast():
            loss = self._loss(images, targets) * (self.ranks.size / self.parts)
        loss.backward()
        return loss.detach()

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.takes_targets:  # ACoL: what it erases depends on them, and each classifier learns
            return sum(F.cross_entropy(x, targets) for x in self.forward(images, targets))
        logits = self.forward(images)
        if self.teacher:
            return self.teacher.compute_loss(images, logits, targets)
        return F.cross_entropy(logits, targets)

    def make_row(self, sums: dict[str, float]) -> dict[str, float] | None:
        if self.train_set.faults is not None:  # each rank met its own
            for found in self.ranks.gather(self.train_set.faults.found):
                self.train_set.faults.add(found)
        scores = self.evaluate()
        return scores and {
            "epoch": self.progress.step // self.steps_per_epoch,
            "train/loss": sums["loss"] / sums["steps"],
            "lr": self.lr,
            **scores,
        }

    def evaluate(self) -> dict[str, float] | None:
        """Loss and accuracies (%) on the whole test set, with the EMA's weights if there are any;
        None where `stopped` was set meanwhile: to look at many images may take minutes.

        Keys begin with the set's split. At the run's end it also notes which images were right, so
        that two models can be compared on the same images.
        """
        model = self.result_model()
        self.ranks.broadcast(model.buffers())  # running statistics may differ from rank to rank
        sums = torch.zeros(3, device=self.device, dtype=torch.float64)
        right = [torch.zeros(0, dtype=torch.bool, device=self.device)]  # a rank may have no image
        stopped = False
        mine = torch.arange(self.ranks.rank, len(self.test_set), self.ranks.size)
        with running_mode(model, training=False), torch.inference_mode(), self.autocast():
            for images, labels in self.test_set.iterate(mine, EVALUATION_BATCH, seed=0):
                logits = model(normalize(images, self.test_set.mean, self.test_set.std)).float()
                sums += score(logits, labels)
                right.append(find_hits(logits, labels)[:, 0])
                if stopped := self.stopped.is_set():
                    break
        if any(self._agree(stopped)):
            return None
        loss, top1, top5 = self.ranks.sum(sums).tolist()
        n, split = len(self.test_set), self.test_set.split
        row = {"loss": loss / n, "top1": 100 * top1 / n, "top5": 100 * top5 / n}
        if self.progress.step == self.total_steps:
            self.right = self._join_right(torch.cat(right).cpu())
        return {f"{split}/{key}": value for key, value in row.items()}

    def _join_right(self, own: Tensor) -> str | None:
        """All ranks' right images, packed; None if one could not be read: the rest would slip."""
        n, size = len(self.test_set), self.ranks.size
        parts = self.ranks.gather(own)
        if sum(map(len, parts)) != n:
            return None
        right = torch.empty(n, dtype=torch.bool)
        for rank, part in enumerate(parts):
            right[rank::size] = part
        return pack_right(right)

    def trained(self) -> list[nn.Module]:
        return [self.model]

    def result_model(self) -> nn.Module:
        """The EMA's model if there is one, else the trained model."""
        return self.ema.module if self.ema else self.model

    def stateful(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer}
        return parts | {"ema": self.ema} if self.ema else parts

    def state(self) -> dict[str, Any]:
        faults = self.train_set.faults and dict(self.train_set.faults.found)
        return super().state() | {"faults": faults, "right": self.right}

    def load_state(self, state: dict[str, Any]) -> None:
        right, faults = state.get("right"), state.get("faults") or {}
        if right is not None:
            unpack_right(str(right), len(self.test_set))  # raises where it is of other images
        if faults and (self.train_set.faults is None or not _are_faults(faults)):
            raise ValueError(f"faults are {faults!r:.60}, not images with reasons")
        super().load_state(state)
        self.right = right
        if faults:
            self.train_set.faults.add(faults)

    def describe_loss_of(self, step: int) -> str:
        return (
            f"{self.recipe.run_id}: the loss is not finite at step {step} (epoch "
            f"{step / self.steps_per_epoch:.2f}), learning rate {self._lr_at(step):.3g}; try a "
            "lower lr_per_256 or a longer warm-up (20 epochs cured most cases that users report)"
        )

    def describe_sums(self, sums: dict[str, float]) -> dict[str, str]:
        epoch = min(self.progress.step // self.steps_per_epoch + 1, self.recipe.epochs)
        loss = sums["loss"] / max(sums["steps"], 1)
        return {"epoch": f"{epoch}/{self.recipe.epochs}", "loss": f"{loss:.3f}"}

    @property
    def lr(self) -> float:
        return self._lr_at(self.progress.step)

    def _lr_at(self, step: int) -> float:
        recipe = self.recipe
        return compute_lr(
            step / self.steps_per_epoch, peak=recipe.peak_lr, epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
        )  # fmt: skip


def _are_faults(found: Any) -> bool:
    """Whether this is what `Faults` holds: reasons by the names of images."""
    return isinstance(found, dict) and all(
        isinstance(text, str) for pair in found.items() for text in pair
    )
