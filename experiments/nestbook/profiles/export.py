"""The speed of a NesT's ONNX file in onnxruntime, beside eager torch, on the CPU.

B images of a batch.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from nestbook.benchmarks.rates import describe_settings, take_turns, time_step
from nestlib.models.export import export_onnx
from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT

CPU = torch.device("cpu")


def export_speeds(
    models: Mapping[str, NesT], batch_sizes: Sequence[int], threads: Sequence[int], *,
    rounds: int = 7, seconds_per_round: float = 0.5, progress: bool = True,
) -> dict:  # fmt: skip
    """Time forward passes in fp32, eager and in onnxruntime in turn, on the same noise.

    Args:
        models: by name, at their own image size.
        batch_sizes: B of each row.
        threads: how many, of torch's and of onnxruntime's operators.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds model, image_size, batch_size,
        threads, difference (the largest, of a logit of the file) and seconds: {"eager" or
        "onnxruntime": [of a pass in each round, ...]}.
    """
    import onnxruntime

    rows = []
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder, running_mode(model, training=False):
            file = Path(folder) / f"{name}.onnx"
            difference = export_onnx(model, file)
            shared = {"model": name, "image_size": list(model.img_size), "difference": difference}
            for count, batch_size in product(threads, batch_sizes):
                images = torch.randn(batch_size, model.in_chans, *model.img_size)
                steps = {
                    "eager": partial(model, images), "onnxruntime": _load(file, count, images)
                }  # fmt: skip
                turns = {
                    way: partial(time_step, step, CPU, seconds_per_round)
                    for way, step in steps.items()
                }
                title = f"{name}, batch {batch_size}, {count} threads"
                with _using(count), torch.inference_mode():
                    seconds = take_turns(turns, rounds, title=title, progress=progress)
                row = {"batch_size": batch_size, "threads": count, "seconds": seconds}
                rows.append(shared | row)
    settings = describe_settings(
        CPU, "fp32", rounds, seconds_per_round=seconds_per_round,
        onnxruntime=onnxruntime.__version__,
    )  # fmt: skip
    return {"settings": settings, "rows": rows}


def _load(file: Path, threads: int, images: Tensor) -> Callable[[], object]:
    """A pass of a file over images (B, 3, H, W)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"images": images.numpy()})


@contextmanager
def _using(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
