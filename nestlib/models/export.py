"""Models as graphs for other programs: torch.export's programs, and ONNX files.

A graph takes any number of images, and images of one size. Position embeddings belong to the blocks
of that size, and how many blocks there are, and so the shape of every step, is computed in Python
while the graph is traced. timm's onnx_export.py fixes the size too.
"""

import copy
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from nestlib.arguments import Size, checked
from nestlib.files import write_atomically
from nestlib.models.blocks import as_pair
from nestlib.models.mode import running_mode

if TYPE_CHECKING:
    import onnx

EXAMPLE_BATCH = 2  # torch.export takes an example's 0 or 1 for a constant
CHECKED_BATCHES = (1, 2, 5)
# Of the largest output: rounding in fp32 stays below a hundredth of it.
MOST_DIFFERENCE = 1e-3
# The exporter notes at each operator which lines of which files it is from: paths of this machine.
TRACES = "pkg.torch.onnx.stack_trace"


class OtherOutputs(RuntimeError):
    """An exported model does not compute what the model does."""


@checked
def export_program(model: nn.Module, img_size: Size | None = None) -> ExportedProgram:
    """Trace a model in evaluation mode, for any batch of at least one.

    Args:
        model: a classifier or a generator, on any device; it stays as it is.
        img_size: of the images that a classifier takes; default: model.img_size.

    Returns:
        The program. `.module()` of it runs; images of another size are an AssertionError there.

    Raises:
        ValueError: no image size is known, or one that the model refuses.
    """
    shape = EXAMPLE_BATCH, *_input_shape(model, img_size)
    example = next(model.parameters()).new_zeros(shape)
    free = {0: Dim("batch", min=1)}
    with running_mode(model, training=False), torch.no_grad():
        return torch.export.export(model, (example,), dynamic_shapes=(free,))


@checked
def export_onnx(
    model: nn.Module, path: Path | str, *, img_size: Size | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> float | None:  # fmt: skip
    """Write a model as an ONNX file: fp32, in evaluation mode, for any batch of at least one.

    The file is checked before it is written: by ONNX's checker, and where onnxruntime is installed
    its outputs are compared with the model's. Its input and output are called "images" (B, 3, H, W)
    and "logits" (B, K), of a model without classes "features", a generator's "noise" and "images".

    Args:
        model, img_size: as `export_program` takes them.
        metadata: kept in the file; what is no text is kept as JSON.

    Returns:
        The largest difference of an output from the model's; None without onnxruntime.

    Raises:
        ImportError: onnx or onnxscript is missing.
        OSError: the file cannot be written.
        OtherOutputs: onnxruntime computes something else.
        ValueError: as `export_program`.
    """
    _import_onnx()
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file's name")
    if path.exists() and path.suffix != ".onnx":
        raise FileExistsError(f"{path} exists, and its name is not an ONNX file's; name another")
    model = copy.deepcopy(model).float().cpu().eval()
    classes = getattr(model, "num_classes", 1)  # without a head a model gives features
    names = ("images", "logits" if classes else "features")
    if _is_generator(model):
        names = "noise", "images"
    data = _make_onnx(export_program(model, img_size), names, metadata or {})
    difference = _compare(model, data, _input_shape(model, img_size))
    write_atomically(path, data)
    return difference


def _import_onnx() -> "onnx":
    try:
        importlib.import_module("onnxscript")  # torch's exporter is written in it
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(f"{error.name} is missing: pip install 'nestlib[onnx]'") from error


def _make_onnx(
    program: ExportedProgram, names: tuple[str, str], metadata: Mapping[str, Any]
) -> bytes:
    """The bytes of a file whose input and output have these names; the same on every machine."""
    onnx = _import_onnx()
    exported = torch.onnx.export(
        program, input_names=names[:1], output_names=names[1:], dynamic_shapes=({0: "batch"},),
        dynamo=True, verbose=False,
    )  # fmt: skip
    proto = exported.model_proto
    for node in proto.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != TRACES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    onnx.helper.set_model_props(proto, texts)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _compare(model: nn.Module, data: bytes, shape: tuple[int, ...]) -> float | None:
    """The largest difference of outputs in onnxruntime, over inputs of noise of `shape`."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (name,), largest = (given.name for given in session.get_inputs()), 0.0
    noise = torch.Generator().manual_seed(0)
    for batch in CHECKED_BATCHES:
        inputs = torch.randn(batch, *shape, generator=noise)
        with torch.no_grad():
            expected = model(inputs)
        found = torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])
        difference = (found - expected).abs().max().item()
        if not difference <= MOST_DIFFERENCE * expected.abs().max().item():  # nor NaN
            raise OtherOutputs(
                f"onnxruntime {onnxruntime.__version__} differs from the model by up to "
                f"{difference:.1g}, of outputs up to {expected.abs().max():.1g}; no file is "
                "written. Try another version of torch, onnxscript or onnxruntime"
            )
        largest = max(largest, difference)
    return largest


def _is_generator(model: nn.Module) -> bool:
    return hasattr(model, "latent_dim")


def _input_shape(model: nn.Module, img_size: Size | None) -> tuple[int, ...]:
    """Of one input, without the batch.

    Raises:
        ValueError: no image size is known.
    """
    if _is_generator(model):
        return (model.latent_dim,)
    size = getattr(model, "img_size", None) if img_size is None else img_size
    if size is None:
        name = type(model).__name__
        raise ValueError(f"a {name} does not name its image size; give img_size=...")
    return (getattr(model, "in_chans", 3), *as_pair(size))
