"""The classifier's training loop: a recipe, data and a model in, a history and weights out.

All randomness is a function of (seed, step, rank): orders, crops, mixing and stochastic depth are
seeded anew at every step, so that a run resumed at any step goes on exactly as if it had never
stopped. On the CPU the weights are the same bit for bit.
"""

import copy
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from nestlib.data.augment import augment, normalize
from nestlib.data.datasets import FolderSet, ImageSet
from nestlib.measure.accuracy import score
from nestlib.models.weights import hash_weights, save_weights
from nestlib.recipe import Recipe
from nestlib.training.checkpoint import CheckpointError, load_newest_checkpoint, save_checkpoint
from nestlib.training.devices import Ranks
from nestlib.training.distill import Teacher
from nestlib.training.optim import build_optimizer, compute_lr, set_lr
from nestlib.training.seeding import derive_seed, epoch_order, seed_step
from nestlib.training.stopping import Clock, stop_signal

CHECKPOINT_FORMAT = 1
RUN_WEIGHTS = "weights.safetensors"  # what a finished run leaves in its folder
EVALUATION_BATCH = 250  # at most 65,535 blocks even at depth 5: a limit of fused attention kernels
LOOK_EVERY = 50  # steps between looks at the loss on a GPU: each look waits for the device


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or not a number; the message says where and at which rate."""


@dataclass
class Progress:
    """Where a run stands; all of it is kept in checkpoints."""

    step: int = 0
    train_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    evaluation_seconds: float = 0.0  # the last one's


@dataclass(frozen=True)
class TrainResult:
    """What `train` leaves. `finished` is False when it stopped before its last step."""

    finished: bool
    step: int
    history: list[dict]
    train_seconds: float
    weights_sha256: str
    is_main: bool  # of several ranks, the one that keeps the record


def train(
    recipe: Recipe, model: nn.Module, train_set: ImageSet | FolderSet,
    test_set: ImageSet | FolderSet, *, run_dir: Path, device: torch.device,
    teacher: nn.Module | None = None, deadline: float | None = None,
    checkpoint_seconds: float = 300, progress_bar: bool = True,
) -> TrainResult:  # fmt: skip
    """Train a classifier by a recipe, from the newest checkpoint in `run_dir` if there is one.

    Stops cleanly, with a checkpoint, before `deadline` or at SIGTERM. At the end it writes
    `weights.safetensors` (the EMA's weights where the recipe has one).

    Args:
        run_dir: holds `checkpoints/`; one run, one folder.
        teacher: the trained model that a recipe with `distillation` learns from.
        deadline: on time.monotonic's clock.
        checkpoint_seconds: seconds between checkpoints; one more at every stop.

    Raises:
        NonFiniteLoss: with step and learning rate; the last checkpoint is from before.
        CheckpointError: the disk refused a checkpoint, or the folder holds another recipe's.
        ValueError: fewer training images than one batch, a batch that ranks cannot share, or a
            teacher for a recipe without distillation, or the reverse.
    """
    trainer = Trainer(recipe, model, train_set, test_set, run_dir, device, teacher)
    trainer.resume()
    return trainer.run(deadline, checkpoint_seconds, progress_bar)


class Trainer:
    """One run: model, optimiser, EMA and progress, with the loop over them."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, train_set: ImageSet | FolderSet,
        test_set: ImageSet | FolderSet, run_dir: Path, device: torch.device,
        teacher: nn.Module | None = None,
    ):  # fmt: skip
        self.recipe, self.run_dir, self.device = recipe, run_dir, device
        self.ranks = Ranks.join(device)
        self.train_set, self.test_set = train_set.to(device), test_set.to(device)
        self.steps_per_epoch = len(train_set) // recipe.batch_size
        if not self.steps_per_epoch or recipe.batch_size % self.ranks.size:
            raise ValueError(
                f"batch_size {recipe.batch_size} must be at most the {len(train_set)} training "
                f"images and a multiple of the {self.ranks.size} ranks"
            )
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.model = model.to(device)
        decay = recipe.ema_decay
        # timm's, as torch's AveragedModel asks the device at each step whether it is the first.
        self.ema = decay and ModelEmaV3(self.model, decay=decay)
        self.optimizer = build_optimizer(
            self.model, recipe.optimizer, weight_decay=recipe.weight_decay
        )
        self.replica = DistributedDataParallel(model) if self.ranks.size > 1 else self.model
        self.forward = torch.compile(self.replica) if recipe.compile else self.replica
        self.takes_targets = "targets" in inspect.signature(model.forward).parameters
        if (teacher is None) != (recipe.distillation is None) or (teacher and self.takes_targets):
            raise ValueError(
                f"distillation of {recipe.run_id} is {recipe.distillation}; give a teacher where "
                "there is one, else none, and none to a model that takes targets"
            )
        self.teacher = teacher and Teacher(teacher, recipe.distillation, device)
        self.generator = torch.Generator(device)
        self.progress = Progress()
        self.saved_step: int | None = None
        self._reset_sums()

    def _reset_sums(self) -> None:
        # Of the epoch so far, kept on the device: loss, steps; and the first step gone non-finite.
        self.sums = torch.zeros(2, device=self.device, dtype=torch.float64)
        self.bad_step = torch.full((), -1, device=self.device)

    # The training step, and the loop around it

    def train_step(self, images: Tensor, labels: Tensor) -> None:
        recipe, step = self.recipe, self.progress.step
        seed_step(recipe.seed, step, self.ranks.rank, self.generator)
        images, targets = augment(
            images, labels, recipe.augmentation, num_classes=self.train_set.num_classes,
            mean=self.train_set.mean, std=self.train_set.std, generator=self.generator,
        )  # fmt: skip
        set_lr(self.optimizer, self.lr)
        with self.autocast():
            loss = self._loss(images, targets)
        loss.backward()
        if recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.model)
        loss = loss.detach()
        self.sums += torch.stack([loss.double(), torch.ones_like(loss, dtype=torch.float64)])
        first_bad = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step = torch.where(first_bad, step, self.bad_step)
        self.progress.step += 1

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.takes_targets:  # ACoL: what it erases depends on them, and each classifier learns
            return sum(F.cross_entropy(x, targets) for x in self.forward(images, targets))
        logits = self.forward(images)
        if self.teacher:
            return self.teacher.compute_loss(images, logits, targets)
        return F.cross_entropy(logits, targets)

    def run(
        self, deadline: float | None, checkpoint_seconds: float, progress_bar: bool
    ) -> TrainResult:
        # A first guess at saving: weights and two moments, at 100 MB/s.
        save_seconds = 1 + 12e-8 * sum(p.numel() for p in self.model.parameters())
        clock = Clock(self.progress.train_seconds, deadline, checkpoint_seconds, save_seconds)
        with stop_signal() as stopped, self._bar(progress_bar) as bar:
            while True:
                if len(self.progress.history) < self.progress.step // self.steps_per_epoch:
                    if self._agree(clock.is_over(self._evaluation_seconds(clock))):
                        return self._leave(clock, finished=False)
                    with clock.apart():
                        self._end_epoch()
                if self.progress.step == self.total_steps:
                    return self._leave(clock, finished=True)
                for images, labels in self._rest_of_epoch():
                    self.train_step(images, labels)
                    bar.update(self.recipe.batch_size)
                    if self.device.type == "cpu" or self.progress.step % LOOK_EVERY == 0:
                        self._look(bar)
                    clock.step_done()
                    if self._agree(stopped.is_set() or clock.is_over(2 * clock.longest_step())):
                        return self._leave(clock, finished=False)
                    if clock.checkpoint_is_due():
                        with clock.apart():
                            self._save(clock)

    def _rest_of_epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, done = divmod(self.progress.step, self.steps_per_epoch)
        order = epoch_order(self.recipe.seed, epoch, len(self.train_set))
        order = order[: self.steps_per_epoch * self.recipe.batch_size]
        order = self.ranks.share(order[done * self.recipe.batch_size :], self.recipe.batch_size)
        local = self.recipe.batch_size // self.ranks.size
        seed = derive_seed(self.recipe.seed, epoch)
        return self.train_set.iterate(order, local, seed=seed)

    def _evaluation_seconds(self, clock: Clock) -> float:
        """What an evaluation may take: as the last one, at first as so many training steps."""
        steps = len(self.test_set) / self.recipe.batch_size
        return 1.5 * self.progress.evaluation_seconds or steps * clock.longest_step()

    def _end_epoch(self) -> None:
        self._raise_if_not_finite()
        begin = time.monotonic()
        loss, steps = self.ranks.sum(self.sums).tolist()
        row = {
            "epoch": self.progress.step // self.steps_per_epoch,
            "train/loss": loss / steps,
            "lr": self.lr,
            **self.evaluate(),
        }
        self.progress.history.append(row)
        self.progress.evaluation_seconds = time.monotonic() - begin
        self._reset_sums()

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracies (%) on the whole test set, by the EMA's weights where there are."""
        model = self.ema.module if self.ema else self.model
        model.eval()
        self.ranks.broadcast(model.buffers())  # running statistics may differ from rank to rank
        sums = torch.zeros(3, device=self.device, dtype=torch.float64)
        mine = torch.arange(self.ranks.rank, len(self.test_set), self.ranks.size)
        with torch.inference_mode(), self.autocast():
            for images, labels in self.test_set.iterate(mine, EVALUATION_BATCH, seed=0):
                logits = model(normalize(images, self.test_set.mean, self.test_set.std)).float()
                sums += score(logits, labels)
        model.train()
        loss, top1, top5 = self.ranks.sum(sums).tolist()
        n = len(self.test_set)
        return {"test/loss": loss / n, "test/top1": 100 * top1 / n, "test/top5": 100 * top5 / n}

    # Stopping, resuming, failing

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        state = load_newest_checkpoint(self.run_dir / "checkpoints", self.device)
        if state is None:
            return
        if (state["format"], state["run_id"]) != (CHECKPOINT_FORMAT, self.recipe.run_id):
            raise CheckpointError(
                f"{self.run_dir} holds a checkpoint of {state['run_id']} (format "
                f"{state['format']}), not of {self.recipe.run_id}; give another run folder or "
                "delete this one"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        if self.ranks.is_main:  # its own part of the epoch so far; the others' is not kept
            self.sums.copy_(state["sums"])
        self.progress = Progress(
            state["step"], state["train_seconds"], state["history"], state["evaluation_seconds"]
        )
        self.saved_step = self.progress.step

    def _save(self, clock: Clock) -> None:
        self._raise_if_not_finite()  # a checkpoint of lost weights would be worse than none
        begin = time.monotonic()
        self.progress.train_seconds = clock.train_seconds()
        clock.checkpointed(0.0)
        if not self.ranks.is_main or self.saved_step == self.progress.step:
            return
        state = {
            "format": CHECKPOINT_FORMAT,
            "run_id": self.recipe.run_id,
            "step": self.progress.step,
            "train_seconds": self.progress.train_seconds,
            "history": copy.deepcopy(self.progress.history),
            "evaluation_seconds": self.progress.evaluation_seconds,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }
        save_checkpoint(self.run_dir / "checkpoints", self.progress.step, state)
        self.saved_step = self.progress.step
        clock.checkpointed(time.monotonic() - begin)

    def _leave(self, clock: Clock, finished: bool) -> TrainResult:
        self._save(clock)
        evaluated = self.ema.module if self.ema else self.model
        if finished and self.ranks.is_main:
            save_weights(evaluated, self.run_dir / RUN_WEIGHTS)
        return TrainResult(
            finished, self.progress.step, self.progress.history, self.progress.train_seconds,
            hash_weights(evaluated), self.ranks.is_main,
        )  # fmt: skip

    def _raise_if_not_finite(self) -> None:
        step = int(self.bad_step)
        if step < 0 and not self._weights_are_finite():  # lost in the last step's backward pass
            step = self.progress.step
        if step >= 0:
            lr = self._lr_at(step)
            raise NonFiniteLoss(
                f"{self.recipe.run_id}: the loss is not finite at step {step} (epoch "
                f"{step / self.steps_per_epoch:.2f}), learning rate {lr:.3g}; try a lower "
                "lr_per_256 or a longer warm-up (20 epochs cured most cases that users report)"
            )

    def _weights_are_finite(self) -> bool:
        norms = torch._foreach_norm([p.detach() for p in self.model.parameters()])
        return bool(torch.stack(norms).isfinite().all())

    # Small parts

    @property
    def lr(self) -> float:
        return self._lr_at(self.progress.step)

    def _lr_at(self, step: int) -> float:
        recipe = self.recipe
        return compute_lr(
            step / self.steps_per_epoch, peak=recipe.peak_lr, epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
        )  # fmt: skip

    def autocast(self) -> torch.autocast:
        bf16 = self.recipe.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    def _look(self, bar: tqdm) -> None:
        if int(self.bad_step) >= 0:
            self._raise_if_not_finite()
        loss, steps = self.sums.tolist()
        bar.set_postfix(loss=f"{loss / max(steps, 1):.3f}", refresh=False)

    def _agree(self, stop: bool) -> bool:
        """Ranks stop together or not at all; on GPUs they ask one another only when they look."""
        if self.ranks.size == 1:
            return stop
        if self.device.type == "cuda" and self.progress.step % LOOK_EVERY:
            return False
        return bool(self.ranks.sum(torch.tensor(float(stop), device=self.device)))

    def _bar(self, wanted: bool) -> tqdm:
        size = self.recipe.batch_size
        return tqdm(
            desc=self.recipe.run_id, total=self.total_steps * size, unit="img", unit_scale=True,
            initial=self.progress.step * size, disable=not (wanted and self.ranks.is_main),
            mininterval=2, leave=False, dynamic_ncols=True,
        )  # fmt: skip
