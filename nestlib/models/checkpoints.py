"""Read the weights that others have published: JAX checkpoints, timm's files, files of torch.save.

What a file is follows from its content, never from its name. No file is unpickled beyond tensors
and plain values.
"""

import argparse
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nestlib.files import open_regular
from nestlib.models.flax_files import read_flax_params
from nestlib.models.tensor_files import read_tensors
from nestlib.models.weights import ForeignWeights, State

JAX, TIMM, OURS = "a JAX checkpoint of the authors' code", "timm's weights", "nestlib's weights"
FILES = "ckpt-<number>.flax, model.safetensors or pytorch_model.bin"
READ = "a flax checkpoint, a .safetensors file or a file of torch.save"
FLAX = re.compile(rb"(?s)([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9-\xdb]")  # a dict, then a text
TORCH = re.compile(rb"PK\x03\x04|\x80[\x02-\x05]")  # an archive, or a pickle
MOST_UNPACKED = 8  # times its own size; torch.save does not compress
SMALL_FILE = 2**20  # bytes of what lies beside weights
# Where files of torch.save keep a state dict; timm's train.py has an average of weights too.
STATES = ("state_dict_ema", "state_dict", "model", "")
WRAPPERS = r"^(?:module\.|_orig_mod\.)+"  # of torch's parallel and compiled models


@dataclass(frozen=True)
class Foreign:
    """Weights as a file holds them.

    Attributes:
        path: the file; name: what to call it.
        kind: JAX, TIMM or OURS.
        place: the key under which the weights stand; empty at the top.
        weights: a nested dict of arrays for JAX, else a state dict.
        architecture: timm's name of the model, where the file or its folder tells.
    """

    path: Path
    name: str
    kind: str = ""
    place: str = ""
    weights: Mapping[str, Any] | None = None
    architecture: str = ""


def read_foreign(source: Path | str) -> Foreign:
    """Read a NesT's weights.

    Args:
        source: a file; a folder as the authors' download script, timm or the Hub leaves it; or
            timm's name of published weights, such as "nest_tiny_jx.goog_in1k", which are fetched.

    Raises:
        FileNotFoundError: no such file, folder or name.
        OSError: a cut or damaged file, one of a kind that is not read, or no network.
        ForeignWeights: a ValueError; weights that are no NesT's.
    """
    path = Path(source)
    if path.is_file():
        found = Foreign(path, path.name)
    else:
        found = _look_into(path) if path.is_dir() else _fetch_from_timm(str(source))
    path = found.path
    with open_regular(path) as file:
        head = file.read(16)
    if is_safetensors(head):  # first: the length of its header may look like any other kind
        state = read_tensors(path)
    elif FLAX.match(head):
        weights, place = read_flax_params(path)
        return replace(found, kind=JAX, place=place, weights=weights)
    elif TORCH.match(head):
        state, place, architecture = _read_torch(path)
        found = replace(found, place=place, architecture=found.architecture or architecture)
    else:
        raise OSError(
            f"{path} is not {READ}, it begins with {head!r}; of a folder of the authors' code give "
            "the file that ends in .flax, or the folder"
        )
    kinds = {"levels.0.pos_embed": TIMM, "pos_embeds.0": OURS}
    kind = next((kind for name, kind in kinds.items() if name in state), None)
    if kind is None:
        raise ForeignWeights(
            f"{path} holds no NesT: neither {' nor '.join(kinds)} is among its {len(state)} "
            f"tensors, {', '.join(list(state)[:3])}, ...; give weights of a NesT"
        )
    return replace(found, kind=kind, weights=state)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins like this is meant for a .safetensors file."""
    return head[4:9] == b"\0\0\0\0{"  # the header's length, then the header


def _look_into(folder: Path) -> Foreign:
    names = sorted(entry.name for entry in folder.iterdir())
    steps = {int(n[5:-5]): n for n in names if re.fullmatch(r"ckpt-\d{1,15}\.flax", n)}
    chosen = [steps[max(steps)]] if steps else []
    # The authors' code loads the checkpoint that this file names.
    latest = re.search(r'^model_checkpoint_path: "([^"/]+)"', _read_text(folder / "checkpoint"))
    if latest and f"{latest[1]}.flax" in names:
        chosen = [f"{latest[1]}.flax"]
    chosen += [n for n in ("model.safetensors", "pytorch_model.bin") if n in names]
    if not chosen:
        raise FileNotFoundError(
            f"{folder} holds no {FILES}, but {', '.join(names[:6]) or 'nothing'}; give the file of "
            "the weights itself"
        )
    name = f"{folder.resolve().name}/{chosen[0]}"
    return Foreign(folder / chosen[0], name, architecture=_read_architecture(folder))


def _read_text(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(SMALL_FILE).decode(errors="replace")


def _read_architecture(folder: Path) -> str:
    """timm's name in a folder's config.json; empty where there is no such name."""
    try:
        config = json.loads(_read_text(folder / "config.json"))
    except (ValueError, RecursionError):
        return ""
    name = config.get("architecture") if isinstance(config, dict) else ""
    return name if isinstance(name, str) else ""


def _fetch_from_timm(name: str) -> Foreign:
    import timm  # takes seconds
    from huggingface_hub import hf_hub_download

    published = timm.list_pretrained("nest_*")
    if name not in {*published, *(tagged.partition(".")[0] for tagged in published)}:
        raise FileNotFoundError(
            f"{name!r} is no file or folder, and no weights of timm; give a file, a folder, or one "
            f"of {', '.join(published)}"
        )
    repo = timm.get_pretrained_cfg(name).hf_hub_id
    try:
        path = hf_hub_download(repo, "model.safetensors")
    except (OSError, ValueError, RuntimeError) as error:  # a missing network is of several types
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"{name} could not be fetched from huggingface.co/{repo} ({reason}); check the "
            "network, or give a file that you have"
        ) from error
    return Foreign(Path(path), f"{repo}/model.safetensors", architecture=name.partition(".")[0])


def _read_torch(path: Path) -> tuple[State, str, str]:
    """The state dict of a file of torch.save, its place, and timm's name of the model, if told."""
    _check_archive(path)
    try:
        # timm's train.py keeps its Namespace. torch warns of pickles that it refuses next.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives end in errors of many types
        reason = " ".join(str(error).split())
        if isinstance(error, pickle.UnpicklingError):
            wanted = re.search(r"GLOBAL (\S+)", reason)
            what = wanted[1] if wanted else reason[:150]
            raise OSError(
                f"{path} is refused: it is a pickle of more than tensors and plain values "
                f"({what}), which could run any code; save the state dict alone, with torch.save "
                "or as .safetensors"
            ) from error
        raise OSError(
            f"{path} is not a whole file of torch.save ({reason[:150]}); fetch or make it again"
        ) from error
    outer = found if isinstance(found, Mapping) else {}
    place = next(name for name in STATES if not name or isinstance(outer.get(name), Mapping))
    state = {}
    for name, tensor in (outer[place] if place else outer).items():
        if place or isinstance(tensor, Tensor):
            _check_tensor(path, name, tensor)
            state[re.sub(WRAPPERS, "", name)] = tensor
    architecture = outer.get("arch", "")
    return state, place, architecture if isinstance(architecture, str) else ""


def _check_archive(path: Path) -> None:
    """Raise OSError for an archive that would unpack to many times its own size."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # a pickle alone, or a damaged archive: torch says so
    size = path.stat().st_size
    if unpacked > MOST_UNPACKED * size:
        raise OSError(
            f"{path} has {size:,} bytes and would unpack to {unpacked:,}: no weights are packed so "
            "well; fetch the file again, or save it with torch.save"
        )


def _check_tensor(path: Path, name: Any, tensor: Any) -> None:
    whole = (
        isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout is torch.strided
        and not tensor.is_quantized and tensor.device.type == "cpu"
        # A view may claim more numbers than the file has.
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )  # fmt: skip
    if not whole:
        shown = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ForeignWeights(
            f"{path}: {str(name)[:80]} is not a plain tensor with all of its numbers ({shown}); "
            "save the state dict of a model"
        )
