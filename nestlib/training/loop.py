"""The loop of a training run: steps, rows of its history, checkpoints, stops.

`classifier.Trainer` and `gan.Trainer` say what a step, a row and a checkpoint of theirs are.
"""

import platform
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from nestlib.data.containers import FolderSet, ImageSet
from nestlib.models.weights import hash_weights, save_weights
from nestlib.precision import autocast
from nestlib.processor import keep_freed_memory
from nestlib.recipes.recipe import RunRecipe
from nestlib.signals import stop_signal
from nestlib.training.checkpoint import CheckpointError, load_newest_checkpoint, save_checkpoint
from nestlib.training.devices import Ranks
from nestlib.training.same_run import CHECKPOINT_FORMAT, check_images, check_run, describe_images
from nestlib.training.seeding import derive_seed, epoch_order
from nestlib.training.states import (
    check_alike,
    check_keys,
    check_part,
    check_progress,
    check_rows,
    load_part,
)
from nestlib.training.stopping import Clock, Overdue, is_out_of_memory

ADDED_KEYS = frozenset(("data", "total_steps", "faults", "right"))  # not always in checkpoints
RUN_WEIGHTS = "weights.safetensors"  # what a finished run leaves in its folder
CHECKPOINTS = "checkpoints"  # the folder in it of what a stopped run leaves
LOOK_EVERY = 50  # steps between looks at the loss on a GPU: each look waits for the device


class OutOfMemory(RuntimeError):
    """A step does not fit into memory; the message says what would."""


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or not a number; the message names step and learning rate."""


@dataclass
class Progress:
    """How far a run has come; checkpoints keep all of it."""

    step: int = 0
    train_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    evaluation_seconds: float = 0.0  # the last one's


@dataclass(frozen=True)
class TrainResult:
    """The result of a run. `finished` is False when it stopped before its last step.

    `failure` says why it can go no further, where it cannot.
    """

    finished: bool
    step: int
    history: list[dict]
    train_seconds: float
    weights_sha256: str
    is_main: bool  # of several ranks, the one that keeps the record
    failure: str | None = None
    right: str | None = None  # which images a classifier has right at the end, as `pack_right` does


class Loop(ABC):
    """One run. A subclass sets the attributes that are declared here without a value.

    sum_names: of what is added up on the device for a row of the history.
    first_row: 0 where a row comes before the first step.
    row_keys: of every row of the history.
    parts: into how many equal parts a batch is cut; ranks share them.
    row_steps: as many training steps as the first row may take; later ones take as the one before.
    """

    sum_names: tuple[str, ...]
    first_row = 1
    compiled = False  # whether torch.compile sees the models
    row_keys: tuple[str, ...]
    total_steps: int
    steps_per_row: int
    parts: int
    row_steps: float

    def __init__(
        self, recipe: RunRecipe, train_set: ImageSet | FolderSet, run_dir: Path,
        device: torch.device,
    ):  # fmt: skip
        self.recipe, self.run_dir, self.device = recipe, run_dir, device
        self.image_sets = [train_set]  # as they were given: they keep their fingerprints
        self.train_set = train_set.to(device)
        self.steps_per_epoch = len(train_set) // recipe.batch_size
        if not self.steps_per_epoch:
            raise ValueError(
                f"batch_size {recipe.batch_size} must be at most the {len(train_set)} training "
                "images"
            )
        self.ranks = Ranks.join(device)
        self.progress = Progress()
        self.stopped = threading.Event()  # `run` has it set by a signal
        self.saved_step: int | None = None
        self.right: str | None = None  # TrainResult's
        self.sums = torch.zeros(len(self.sum_names), device=device, dtype=torch.float64)
        # Steps since the last row, and which of them was the first whose loss was not finite: both
        # counted on the device, which a captured step could not be told.
        self.counted, self.first_bad = (torch.zeros((), device=device) for _ in range(2))
        self._reset_sums()

    @abstractmethod
    def train_step(self, *batch: Tensor) -> None:
        """One step; counts progress.step and adds to the sums."""

    @abstractmethod
    def make_row(self, sums: dict[str, float]) -> dict[str, Any] | None:
        """A row of the history, from all ranks' sums since the last one and an evaluation; None
        where `stopped` was set before its end."""

    @abstractmethod
    def stateful(self) -> dict[str, Any]:
        """Objects whose state a checkpoint keeps, by name: models, optimisers, averages."""

    @abstractmethod
    def trained(self) -> Sequence[nn.Module]:
        """The models whose weights are trained."""

    @abstractmethod
    def result_model(self) -> nn.Module:
        """The model whose weights the run leaves."""

    @abstractmethod
    def describe_loss_of(self, step: int) -> str:
        """The message of a loss that is not finite at `step`."""

    @abstractmethod
    def describe_sums(self, sums: dict[str, float]) -> dict[str, str]:
        """The run's progress and its sums so far, for the progress bar."""

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Arguments of `train_step`: the rest of the epoch or of the row, whichever is shorter."""
        step, batch_size, seed = self.progress.step, self.recipe.batch_size, self.recipe.seed
        epoch, done = divmod(step, self.steps_per_epoch)
        steps = min(self.steps_per_epoch - done, self.steps_per_row - step % self.steps_per_row)
        order = epoch_order(seed, epoch, self.train_set, batch_size)
        order = order[done * batch_size :][: steps * batch_size]
        order = self.ranks.share(order, batch_size, self.parts)
        local = len(self.ranks.own_parts(self.parts)) * batch_size // self.parts
        return self.train_set.iterate(order, local, seed=derive_seed(seed, epoch))

    def end_row(self) -> None:
        """Append a row to the history and begin new sums; neither where the run is stopped."""
        begin = time.monotonic()
        row = self.make_row(self._by_name(self.ranks.sum(self.sums.clone())))
        if row is None:
            return  # the next call makes it, from the checkpoint's sums
        self.progress.history.append(row)
        self.progress.evaluation_seconds = time.monotonic() - begin
        self._reset_sums()

    def row_seconds(self, clock: Clock) -> float:
        """Seconds that `end_row` may take."""
        return 1.5 * self.progress.evaluation_seconds or self.row_steps * clock.longest_step()

    def state(self) -> dict[str, Any]:
        """State that a checkpoint keeps beside the loop's own."""
        return {name: part.state_dict() for name, part in self.stateful().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        for name, part in self.stateful().items():
            load_part(part, state[name])

    def run(
        self, deadline: float | None, checkpoint_seconds: float, progress_bar: bool
    ) -> TrainResult:
        """Train to the end, or until the deadline or a signal (nestlib.signals.STOP_SIGNALS)."""
        if self.device.type == "cpu" and isinstance(self.train_set, ImageSet):
            # Streams of images of many sizes would leave holes in what is kept.
            keep_freed_memory()
        # A first guess at saving: weights and two moments, at 100 MB/s.
        num_values = sum(p.numel() for model in self.trained() for p in model.parameters())
        save_seconds = 1 + 12e-8 * num_values
        clock = Clock(self.progress.train_seconds, deadline, checkpoint_seconds, save_seconds)
        try:
            return self._run(clock, progress_bar)
        except Overdue:  # nothing was done in this call: the newest checkpoint is what it was
            warnings.warn(
                f"the first step of {self.recipe.run_id} was given up, because it outlasts the "
                "time limit: give more time, or train fewer images at once, or a smaller model",
                stacklevel=3,
            )
            return self.result(finished=False)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{self.recipe.run_id}: a step of {self.recipe.batch_size} images does not fit "
                f"into the memory of {self.device}; take a smaller batch_size, fewer images at "
                f"once (a classifier's micro_batch=...) or a smaller model ({error!s:.200})"
            ) from error

    def _run(self, clock: Clock, progress_bar: bool) -> TrainResult:
        # A GPU's layers are only launched, and other ranks would wait for one that gives up.
        watches = self.device.type == "cpu" and self.ranks.size == 1 and not self.compiled
        models = [*self.trained(), self.result_model()] if watches else []
        with (
            stop_signal() as stopped,
            self._bar(progress_bar) as bar,
            clock.watch(models) as first,
        ):
            self.stopped = stopped
            while True:
                if len(self.progress.history) < self._rows_due(self.progress.step):
                    over = stopped.is_set() or clock.is_over(self.row_seconds(clock))
                    (over,) = self._agree(over)
                    if over:
                        return self._leave(clock, finished=False)
                    with clock.apart():
                        self.raise_if_not_finite()
                        self.end_row()
                    if len(self.progress.history) < self._rows_due(self.progress.step):
                        return self._leave(clock, finished=False)
                if self.progress.step == self.total_steps:
                    return self._leave(clock, finished=True)
                for batch in self.batches():
                    self.train_step(*batch)
                    first.close()
                    bar.update(self.recipe.batch_size)
                    looking = self.device.type == "cpu" or self.progress.step % LOOK_EVERY == 0
                    lost = looking and self._look(bar)
                    clock.step_done()
                    if not looking and self.ranks.size > 1:
                        continue  # GPUs ask one another only when they wait anyway
                    stop, save, lost = self._agree(
                        stopped.is_set() or clock.is_over(2 * clock.longest_step()),
                        clock.checkpoint_is_due(), lost,
                    )  # fmt: skip
                    if lost:
                        self.raise_if_not_finite()
                    if stop:
                        return self._leave(clock, finished=False)
                    if save:
                        with clock.apart():
                            self._save(clock)

    # Stopping, resuming, failing

    @cached_property
    def data(self) -> dict[str, dict[str, Any]]:
        """Facts that tell this run's images from others, by split."""
        return describe_images(self.image_sets)

    def resume_together(self) -> None:
        """`resume` on all ranks, from one checkpoint.

        Raises:
            CheckpointError: as `resume`, or ranks have different checkpoints.
        """
        self.ranks.together(self.resume)
        starts: dict[str, list[str]] = {}
        for rank, (start, node) in enumerate(
            self.ranks.gather((self._describe_start(), platform.node()))
        ):
            starts.setdefault(start, []).append(f"{rank} on {node}")
        if len(starts) > 1:
            have = "; ".join(f"rank {', '.join(who)} {start}" for start, who in starts.items())
            raise CheckpointError(
                f"ranks would resume from different checkpoints: {have}. Give runs_dir=... a "
                f"folder that all ranks share, or copy {self.run_dir / 'checkpoints'} from the "
                "node that is furthest to the others"
            )

    def _describe_start(self) -> str:
        if self.saved_step is None:
            return "does not have a checkpoint"
        return f"has step {self.saved_step}, weights {hash_weights(self.result_model())[:8]}"

    def resume(self) -> None:
        """Resume from the newest checkpoint that can be used, if there is one.

        Raises:
            CheckpointError: it is of another recipe or of other images, or no checkpoint holds the
                state of such a run.
        """
        # `data` is looked at now, a minute where files are a million, and not at the first save.
        load_newest_checkpoint(self.run_dir / CHECKPOINTS, partial(self._restore, self.data))

    def _restore(self, data: dict[str, dict], state: dict[str, Any]) -> None:
        """Restore a checkpoint's state.

        Raises:
            CheckpointError: it is of another run.
            ValueError: it is not the state of a run; this one is as it was.
        """
        check_run(state, self.recipe.run_id, self.run_dir)
        check_keys(state, self._state(self.sums), "it", ADDED_KEYS)
        check_images(state, data, self.total_steps, self.run_dir)
        check_progress(state, self.total_steps)
        check_rows(state["history"], self._row_counts(state["step"]), self.row_keys)
        progress = Progress(**{f.name: state[f.name] for f in fields(Progress)})
        check_alike(state["sums"], self.sums, "sums")
        for name, part in self.stateful().items():
            check_part(state[name], part, name, progress.step)
        self.load_state(state)
        if self.ranks.is_main:  # all ranks' sums; the others begin with none
            self.sums.copy_(state["sums"].detach())
        self.progress = progress
        self.saved_step = self.sums_from = progress.step

    def _rows_due(self, step: int) -> int:
        return step // self.steps_per_row + 1 - self.first_row

    def _row_counts(self, step: int) -> list[int]:
        """How many rows a history may have; a run may stop after a row's last step."""
        due = self._rows_due(step)
        return [due - 1, due] if step % self.steps_per_row == 0 else [due]

    def _save(self, clock: Clock) -> None:
        self.raise_if_not_finite()  # a checkpoint of lost weights would be worse than none
        begin = time.monotonic()
        self.progress.train_seconds = clock.train_seconds()
        clock.checkpointed(0.0)
        if self.saved_step == self.progress.step:
            return
        self.saved_step = self.progress.step
        sums = self.ranks.sum(self.sums.clone())
        if not self.ranks.is_main:
            return
        save_checkpoint(self.run_dir / CHECKPOINTS, self.progress.step, self._state(sums))
        clock.checkpointed(time.monotonic() - begin)

    def _state(self, sums: Tensor) -> dict[str, Any]:
        return {
            "format": CHECKPOINT_FORMAT,
            "run_id": self.recipe.run_id,
            "data": self.data,
            "total_steps": self.total_steps,
            **asdict(self.progress),
            "sums": sums,
            **self.state(),
        }

    def _leave(self, clock: Clock, finished: bool) -> TrainResult:
        self._save(clock)
        if finished and self.ranks.is_main:
            save_weights(self.result_model(), self.run_dir / RUN_WEIGHTS)
        return self.result(finished)

    def result(self, finished: bool, failure: str | None = None) -> TrainResult:
        """The result of the run so far."""
        return TrainResult(
            finished, self.progress.step, self.progress.history, self.progress.train_seconds,
            hash_weights(self.result_model()), self.ranks.is_main, failure, self.right,
        )  # fmt: skip

    # Sums of a row, kept on the device

    def _reset_sums(self) -> None:
        self.sums_from = self.progress.step
        self.sums.zero_()
        self.counted.zero_()
        self.first_bad.fill_(-1)

    def add(self, values: Mapping[str, Tensor | int]) -> None:
        """Add values () to the row's sums of these names; the host does not wait."""
        for name, value in values.items():
            self.sums[self.sum_names.index(name)] += value

    def _by_name(self, sums: Tensor) -> dict[str, float]:
        return dict(zip(self.sum_names, sums.tolist()))

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step if its loss () is not finite; the host does not wait."""
        is_first = ~torch.isfinite(loss) & (self.first_bad < 0)
        self.first_bad.copy_(torch.where(is_first, self.counted, self.first_bad))
        self.counted += 1

    def raise_if_not_finite(self) -> None:
        """Stop the run on all ranks if its loss or its weights are lost on any. All ranks call it.

        Raises:
            NonFiniteLoss: a loss since the last row, or the weights now, are not finite.
        """
        first = int(self.first_bad)
        step = first if first < 0 else self.sums_from + first
        if step < 0 and not self._weights_are_finite():  # lost in the last step's backward pass
            step = self.progress.step
        # Each rank knows the loss of its own images; the exchange of gradients loses the weights of
        # all. A rank that left alone would leave the others waiting.
        lost = [step for step in self.ranks.gather(step) if step >= 0]
        if lost:
            raise NonFiniteLoss(self.describe_loss_of(min(lost)))

    def _weights_are_finite(self) -> bool:
        parameters = [p.detach() for model in self.trained() for p in model.parameters()]
        return bool(torch.stack(torch._foreach_norm(parameters)).isfinite().all())

    # Small parts

    def autocast(self) -> torch.autocast:
        return autocast(self.recipe.precision, self.device)

    def _look(self, bar: tqdm) -> bool:
        """Show the sums; whether a loss of this rank was not finite. The host waits."""
        bar.set_postfix(self.describe_sums(self._by_name(self.sums)), refresh=False)
        return int(self.first_bad) >= 0

    def _agree(self, *wishes: bool) -> list[bool]:
        """Do on all ranks what any rank wishes: ranks stop, and save, together or not at all."""
        if self.ranks.size == 1:
            return list(wishes)
        votes = self.ranks.sum(torch.tensor(wishes, dtype=torch.float, device=self.device))
        return [votes > 0 for votes in votes.tolist()]

    def _bar(self, wanted: bool) -> tqdm:
        size = self.recipe.batch_size
        return tqdm(
            desc=self.recipe.run_id, total=self.total_steps * size, unit="img", unit_scale=True,
            initial=self.progress.step * size, disable=not (wanted and self.ranks.is_main),
            mininterval=2, leave=False, dynamic_ncols=True,
        )  # fmt: skip
