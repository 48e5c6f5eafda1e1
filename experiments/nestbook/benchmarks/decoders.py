"""Measure ways to decode, cut and resize a JPEG: their time, and how far they are from Pillow's."""

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from nestbook.benchmarks.rates import take_turns
from nestlib.data.decoding import decode_image, simplejpeg


def decoder_times(files: list[bytes], *, rounds: int = 7, size: int = 224) -> dict:
    """The processor's milliseconds per image to decode it, and then to cut and resize it.

    Returns:
        {"decode": {name: {"ms": [of a round, ...], "difference": of a pixel from Pillow's at
        most}}, "resize": likewise, of one crop to `size` square}
    """
    first = np.asarray(decode_image(files[0], "the first"))
    crop = (slice(10, 10 + 3 * first.shape[0] // 4), slice(10, 10 + 3 * first.shape[1] // 4))
    resizers = {name: partial(resize, size=size) for name, resize in RESIZERS.items()}
    return {
        "decode": _time_all(_decoders(), files, rounds),
        "resize": _time_all(resizers, [first.copy()[crop]] * len(files), rounds),
    }


def _decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
    """Pillow first: the others are compared with it."""
    found = {"Pillow": lambda data: np.asarray(decode_image(data, "it"))}
    if simplejpeg is not None:
        found["simplejpeg"] = simplejpeg.decode_jpeg
        # Its fast modes: another transform, and chroma repeated where it should be interpolated.
        found["simplejpeg, fast and inexact"] = partial(
            simplejpeg.decode_jpeg, fastdct=True, fastupsample=True
        )
    found["OpenCV"] = _decode_opencv
    return found


def _decode_opencv(data: bytes) -> np.ndarray:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _resize_torch(part: np.ndarray, size: int) -> np.ndarray:
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


# (image, size): Pillow first, likewise.
RESIZERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "Pillow": lambda part, size: np.asarray(
        Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR)
    ),
    "torch, uint8": _resize_torch,
    "OpenCV, without averaging": lambda part, size: cv2.resize(
        part, (size, size), interpolation=cv2.INTER_LINEAR
    ),
}


def _time_all(ways: dict[str, Callable], inputs: list, rounds: int) -> dict:
    reference = next(iter(ways.values()))(inputs[0]).astype(int)
    turns = {name: partial(_cpu_ms, way, inputs) for name, way in ways.items()}
    times = take_turns(turns, rounds, warmup=0)
    return {
        name: {"ms": times[name], "difference": int(np.abs(way(inputs[0]) - reference).max())}
        for name, way in ways.items()
    }


def _cpu_ms(way: Callable, inputs: list) -> float:
    begin = time.process_time()
    for one in inputs:
        way(one)
    return 1000 * (time.process_time() - begin) / len(inputs)
