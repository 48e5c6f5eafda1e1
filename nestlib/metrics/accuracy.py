"""Accuracy of trained classifiers: many models in one pass over the test images.

To decode a JPEG takes longer than a GPU needs to classify it, so each image is decoded once for all
models of a pass, and cut once for all that want it cut alike.

B images of a batch, s pixels along a view's edge, K outputs of a model.
"""

import base64
import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from nestlib.data.augment import normalize
from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.views import TransformedImages, View, class_numbers
from nestlib.data.workers import read_batches
from nestlib.models.mode import running_mode
from nestlib.precision import autocast, check_precision


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained model, (B, 3, s, s) to logits (B, K), and the view that it wants.

    own: it was trained on the classes of the images, and does not bring ImageNet's.
    """

    name: str
    model: nn.Module
    view: View
    own: bool = False


def measure_accuracy(
    candidates: Sequence[Candidate], images: ImageSet | FolderSet, *, device: str | torch.device,
    batch_size: int = 32, precision: str = "fp32", num_workers: int | None = None,
    memory_bytes: int | None = None, progress: bool = True,
) -> dict[str, dict]:  # fmt: skip
    """Score models on all images of a set: {name: {"top1", "top5" (%), "loss", "images"}}.

    Models go through the images together as far as their weights and a batch of each view fit
    `memory_bytes`; what does not fit waits for a pass of its own. A batch that a model has no
    memory for is given to it in halves; a model that fails on a single image, or whose logits are
    not finite, gets {"error": reason} while the others go on.

    Args:
        images: the files of a FolderSet are read whole, its own crop is not applied.
        precision: "fp32" or "bf16" (autocast).
        num_workers: processes that decode; default the set's own, none for images in memory.
        memory_bytes: default half of what a GPU has free, the other half being for activations;
            on a CPU no limit, where the models lie in its memory already.

    Raises:
        ValueError: an unknown precision, candidates that share a name, no images, or a model whose
            outputs cannot be told to stand for the set's classes.
        OSError: an image that cannot be read; the message names the file.
    """
    _check(candidates, images, precision, batch_size)
    device = torch.device(device)
    if memory_bytes is None:
        memory_bytes = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else None
    # Convolutions get TF32 only where matrix products do: what is called fp32 shall be that.
    tf32 = torch.get_float32_matmul_precision() != "highest"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
        runners = [_Runner(candidate, device, precision, batch_size) for candidate in candidates]
        for runner in runners:
            runner.match_classes(images)
        groups = _group([r for r in runners if not r.error], memory_bytes, batch_size)
        if num_workers is None:
            num_workers = images.num_workers if isinstance(images, FolderSet) else 0
        load = partial(
            DataLoader, batch_size=batch_size, num_workers=num_workers,
            pin_memory=device.type == "cuda", generator=torch.Generator(),
        )  # fmt: skip
        bar = tqdm(
            desc=f"models: {len(runners)}, passes: {len(groups)}", total=len(images) * len(groups),
            unit="img", disable=not progress, leave=False, mininterval=1, dynamic_ncols=True,
        )  # fmt: skip
        with bar:
            for group in groups:
                _pass_over(group, images, load, device, bar)
    return {runner.candidate.name: runner.result(len(images)) for runner in runners}


def find_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each of the five largest logits is the label's: (B, K) and (B,) to (B, 5) bool.

    The first column says which images are right. `argmax` does not always: of equal logits, which
    bf16 often has, it takes the first class and topk another one (torch 2.14). An image with a NaN
    among its logits has no hit; topk takes NaN for the largest.

    Raises:
        ValueError: other shapes or types, or a label that is none of the K (seen on the CPU alone:
            a GPU would have to be waited for, and its cross-entropy asserts the same).
    """
    _check_labels(logits, labels)
    hit = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return hit & ~logits.isnan().any(1, keepdim=True)


def _check_labels(logits: Tensor, labels: Tensor) -> None:
    real = isinstance(logits, Tensor) and logits.is_floating_point()
    if not real or logits.ndim != 2 or not logits.shape[1]:
        raise ValueError(f"logits are {_describe(logits)}; give a tensor (B, K) of real numbers")
    (B, K), given = logits.shape, isinstance(labels, Tensor)
    whole = given and labels.dtype != torch.bool and not labels.dtype.is_floating_point
    if not whole or labels.is_complex() or labels.shape != (B,):
        raise ValueError(
            f"labels are {_describe(labels)}; give a class for each image, whole numbers ({B},)"
        )
    if labels.device.type == "cpu" and B and not 0 <= labels.min() <= labels.max() < K:
        outside = labels[(labels < 0) | (labels >= K)][0]
        raise ValueError(f"label {outside} is none of the {K} classes; give 0 to {K - 1}")


def _describe(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"{value.dtype} of shape {tuple(value.shape)}"


def score(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy, top-1 hits and top-5 hits: (B, K) and (B,) to (3,) float64."""
    hit = find_hits(logits, labels)
    loss = F.cross_entropy(logits, labels.long(), reduction="sum")
    return torch.stack([loss.double(), hit[:, 0].sum().double(), hit.sum().double()])


def pack_right(right: Tensor) -> str:
    """Which images a model has right: (N,) bool on the CPU to N / 8 bytes in base64."""
    return base64.b64encode(np.packbits(right.numpy()).tobytes()).decode()


def unpack_right(packed: str, num_images: int) -> np.ndarray:
    """What `pack_right` packed: (num_images,) bool.

    Raises:
        ValueError: it is no base64, or holds another number of images.
    """
    try:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(packed, validate=True), np.uint8))
    except (TypeError, ValueError) as error:  # binascii's is a ValueError
        raise ValueError(
            f"{reprlib.repr(packed)} does not say which images were right ({error}); give what "
            "pack_right made"
        ) from error
    whole = type(num_images) is int and num_images >= 0
    if not whole or len(bits) != 8 * math.ceil(num_images / 8) or bits[num_images:].any():
        raise ValueError(
            f"{len(bits) // 8} bytes do not say which of {num_images} images were right; give the "
            "number of images that the model was scored on"
        )
    return bits[:num_images].astype(bool)


def _check(candidates: Sequence[Candidate], images, precision: str, batch_size: int) -> None:
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names):
        raise ValueError(f"candidates {names} share a name; name each differently")
    check_precision(precision)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} would measure nothing; use 1 or more")
    if not len(images):
        raise ValueError(f"{images.name} {images.split} holds no images; give one or more")


class _Runner:
    """One candidate, what it has scored so far, and why it failed if it did."""

    def __init__(self, candidate: Candidate, device: torch.device, precision: str, batch_size: int):
        self.candidate, self.device = candidate, device
        self.autocast = partial(autocast, precision, device)
        self.most = batch_size  # images that the model is given at once
        self.sums = torch.zeros(3, dtype=torch.float64)
        self.error: str | None = None

    def match_classes(self, images: ImageSet | FolderSet) -> None:
        """Run the model on a black image, on its own device, to see which outputs it has."""
        model, size = self.candidate.model, self.candidate.view.image_size
        try:
            with running_mode(model, training=False), torch.inference_mode():
                logits = model(torch.zeros(1, 3, size, size, device=_device_of(model)))
        except (RuntimeError, MemoryError) as error:
            self.error = describe_error(error)
            return
        try:
            self.numbers = class_numbers(images, logits.shape[-1], own=self.candidate.own)
        except ValueError as error:
            raise ValueError(f"{self.candidate.name}: {error}") from None

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Put the model on the device in evaluation mode, and restore both afterwards."""
        model, home = self.candidate.model, _device_of(self.candidate.model)
        with running_mode(model, training=False):
            try:
                try:
                    model.to(self.device)
                except (RuntimeError, MemoryError) as error:
                    self.error = describe_error(error)
                self.numbers, self.sums = (t.to(self.device) for t in (self.numbers, self.sums))
                yield
            finally:
                model.to(home)

    def count(self, images: Tensor, labels: Tensor) -> None:
        """Score a batch, (B, 3, s, s) normalised and (B,), in parts if it does not fit whole."""
        start = 0
        while start < len(images) and not self.error:
            part = slice(start, start + self.most)
            reason = self._try(images[part], labels[part])
            tried = len(images[part])
            if reason is None:
                start += tried
            elif tried == 1:
                self.error = reason
            else:
                self.most = (tried + 1) // 2

    def _try(self, images: Tensor, labels: Tensor) -> str | None:
        try:
            with self.autocast():
                logits = self.candidate.model(images).float()
            self.sums += score(logits, self.numbers[labels])
            return None
        # Memory runs out under several names (torch's, cuDNN's, cuBLAS's): all are RuntimeErrors.
        except (RuntimeError, MemoryError) as error:
            reason = describe_error(error)
        # Outside the handler, whose traceback would keep the tensors of the failed pass alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return reason

    def result(self, num_images: int) -> dict:
        loss, top1, top5 = self.sums.tolist()
        if not (self.error or math.isfinite(loss)):
            self.error = "its logits are not finite"
        if self.error:
            return {"error": self.error}
        return {
            "top1": 100 * top1 / num_images, "top5": 100 * top5 / num_images,
            "loss": loss / num_images, "images": num_images,
        }  # fmt: skip


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def describe_error(error: Exception) -> str:
    """An error's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def _group(
    runners: Sequence[_Runner], memory_bytes: int | None, batch_size: int
) -> list[list[_Runner]]:
    """Divide the models into passes, in order; one that alone is too large still gets a pass."""
    groups: list[list[_Runner]] = []
    for runner in runners:
        joined = [*groups[-1], runner] if groups else None
        if joined and (memory_bytes is None or _bytes(joined, batch_size) <= memory_bytes):
            groups[-1] = joined
        else:
            groups.append([runner])
    return groups


def _bytes(group: Sequence[_Runner], batch_size: int) -> int:
    """What a group holds on its device between two batches: weights, and pixels of all views."""
    models = {id(runner.candidate.model): runner.candidate.model for runner in group}
    weights = sum(t.nbytes for m in models.values() for t in (*m.parameters(), *m.buffers()))
    edges = [view.image_size for view in {runner.candidate.view for runner in group}]
    return weights + batch_size * sum(3 * edge**2 * (1 + 4) for edge in edges)  # uint8 and float32


def _pass_over(
    group: Sequence[_Runner], images: ImageSet | FolderSet, load: Callable[..., DataLoader],
    device: torch.device, bar: tqdm,
) -> None:  # fmt: skip
    by_view: dict[View, list[_Runner]] = {}
    for runner in group:
        by_view.setdefault(runner.candidate.view, []).append(runner)
    with ExitStack() as stack:
        for runner in group:
            stack.enter_context(runner.on_device())
        # Not before: weights moved under inference mode could not be trained any more.
        stack.enter_context(torch.inference_mode())
        loader = load(TransformedImages(images, [view.crop for view in by_view]))
        for crops, labels in read_batches(loader):
            labels = labels.to(device, non_blocking=True)
            for pixels, (view, runners) in zip(crops, by_view.items()):
                batch = normalize(pixels.to(device, non_blocking=True), view.mean, view.std)
                for runner in runners:
                    runner.count(batch, labels)
            bar.update(len(labels))
            if all(runner.error for runner in group):
                break
