"""A training step as one CUDA graph: the host launches it once, and not a thousand kernels one by
one, which takes longer than a small model's arithmetic."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

WARMUP = 3  # calls before the recording: libraries choose kernels then, and a model is compiled


class CapturedStep:
    """A function of device tensors, recorded once and then replayed.

    What is recorded must neither read a value back nor take a number from the host that changes
    from call to call. Random numbers are those of an eager call after the same seeding, which
    belongs between `prepare` and the call.

    Args:
        step: called with a batch; returns nothing.
        changed: gives all tensors that `step` changes, those included that its first call makes
            (an optimiser's), which begin at zero.
        generators: that `step` draws from, beside torch's own.
    """

    def __init__(
        self, step: Callable[..., None], changed: Callable[[], Iterable[Tensor]],
        generators: Sequence[torch.Generator] = (),
    ):  # fmt: skip
        self.step, self.changed, self.generators = step, changed, generators
        self.batch: tuple[Tensor, ...] = ()
        self.replay: Callable[[], None] | None = None

    def prepare(self, *batch: Tensor) -> None:
        """Record the step for batches of these shapes, once; what it changes stays as it was."""
        if self.replay is not None:
            return
        self.batch = tuple(tensor.clone() for tensor in batch)
        kept = {tensor.data_ptr(): tensor.clone() for tensor in self.changed()}
        self._warm_up()
        self.replay = self._record()
        with torch.no_grad():
            for tensor in self.changed():
                if tensor.data_ptr() in kept:
                    tensor.copy_(kept[tensor.data_ptr()])
                else:
                    tensor.zero_()

    def __call__(self, *batch: Tensor) -> None:
        """The step of one batch; a batch of other shapes, as after a bad image, is eager."""
        if any(new.shape != held.shape for new, held in zip(batch, self.batch, strict=True)):
            self.step(*batch)
            return
        for held, new in zip(self.batch, batch):
            held.copy_(new)
        self.replay()

    def _warm_up(self) -> None:
        # On a stream of its own, as torch asks for: work begun on the default one is not captured.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARMUP):
                self.step(*self.batch)
        torch.cuda.current_stream().wait_stream(aside)

    def _record(self) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self.step(*self.batch)
        return graph.replay
