"""Trained models on the Hugging Face Hub, or in folders as it keeps them, with a card each.

A folder holds model.safetensors, config.json and README.md. config.json says under "nestlib" what
`create_model` or `create_generator` is called with, so that `load_pretrained` builds a model of any
family. What NesT.from_pretrained, NesTDecoder.from_pretrained and timm read of a config.json stands
beside it.
"""

import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.utils import validate_repo_id
from torch import nn

from nestlib import __version__
from nestlib.choices import check_choice, choose
from nestlib.data.datasets import dataset_info
from nestlib.data.decoding import centre_crop
from nestlib.files import write_atomically
from nestlib.json_files import read_json
from nestlib.models import (
    NesT,
    create_generator,
    create_model,
    list_generators,
    list_models,
)
from nestlib.models.hub_mixin import HubMixin, add_entries
from nestlib.models.nest import NEST_MODELS
from nestlib.models.weights import load_new, save_weights
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.model_card import write_card
from nestlib.runs.weights import count_classes, find_weights

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

WEIGHTS, CONFIG, CARD = constants.SAFETENSORS_SINGLE_FILE, constants.CONFIG_NAME, "README.md"
_FREE = {"img_size", "block_size", "drop_rate", "drop_path_rate"}  # which shapes decide, or nothing
_FAMILIES = {"model": (list_models, create_model), "generator": (list_generators, create_generator)}


def load_pretrained(source: Path | str, *, revision: str | None = None) -> nn.Module:
    """Build the model of a folder or of a repository on the Hub, and load its weights.

    Args:
        source: a folder as `save_pretrained_run` or `save_model` fills it, or "OWNER/NAME".
        revision: branch, tag or commit of a repository.

    Returns:
        The model, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: a folder without config.json or weights.
        ValueError: a config.json that names no model of nestlib, options that the model refuses,
            or weights that do not fit it.
        OSError: no such repository, no network, or a damaged file.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _fetch(str(source), revision)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG} in {folder}; give a folder that `nest push` wrote")
    said = _read_config(path)
    families, build = _FAMILIES[said["kind"]]
    check_choice(said["kind"], said["name"], families(), f"({path} names it)")
    try:
        return load_new(partial(build, said["name"], **said["options"]), folder / WEIGHTS)
    except OSError:
        raise
    except Exception as error:  # libraries answer wrong options with errors of many types
        raise ValueError(
            f"no model can be built of {path} and {WEIGHTS} beside it: {error}; fetch or make both "
            "again"
        ) from error


def save_model(
    model: nn.Module, folder: Path | str, name: str, *, config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Write a model's weights and config.json, for `load_pretrained`.

    Args:
        name: what `create_model` or `create_generator` built it of.
        config: further entries of config.json. Of a NesT, timm reads label_names and, under
            "pretrained_cfg", mean, std, crop_pct and interpolation.
        metadata: texts for the header of the weights.
        options: what it was built with. A NesT's own image size, classes and pooling win.

    Raises:
        ValueError: an unknown name, another model than its options build, or an entry of `config`
            that is an argument of the model's, with another value.
        TypeError: an entry of `config` that JSON does not hold.
    """
    kind = "generator" if name in list_generators() else "model"
    families, build = _FAMILIES[kind]
    check_choice(kind, name, families())
    if isinstance(model, NesT):
        options |= {
            "img_size": model.img_size, "num_classes": model.num_classes,
            "global_pool": model.global_pool,
        }  # fmt: skip
    with torch.device("meta"):  # shapes alone
        again = build(name, **options)
    other = _compare(model, again)
    if other:
        raise ValueError(
            f"the model is not what {name} is with {options}: {', '.join(other)} differ; give the "
            "options that it was built with"
        )
    said: dict[str, Any] = dict(config or {})
    if name in NEST_MODELS:
        said = _describe_for_timm(name, options, said)
    if isinstance(again, HubMixin):
        said = add_entries(again._hub_mixin_config, said)
    said["nestlib"] = {"kind": kind, "name": name, "options": options, "version": __version__}
    text = json.dumps(said, indent=2, sort_keys=True, allow_nan=False)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS, metadata={"format": "pt", **(metadata or {})})
    write_atomically(folder / CONFIG, f"{text}\n".encode())


def _compare(model: nn.Module, again: nn.Module) -> list[str]:
    """The names of weights whose shapes differ, and of options that both note."""
    shapes = [{k: tuple(t.shape) for k, t in m.state_dict().items()} for m in (model, again)]
    noted = [
        {k: json.dumps(v) for k, v in (getattr(m, "_hub_mixin_config", None) or {}).items()}
        for m in (model, again)
    ]  # lists and tuples alike
    differ = sorted(dict.fromkeys(key for key, _ in shapes[0].items() ^ shapes[1].items()))
    both = noted[0].keys() & noted[1].keys() - _FREE
    return differ + sorted(key for key in both if noted[0][key] != noted[1][key])


def save_pretrained_run(
    recipe: Recipe | GanRecipe, store: Store, folder: Path | str, *,
    runs_dir: Path | None = None, repo_id: str = "",
) -> Path:  # fmt: skip
    """Write a finished run's weights, config.json and card into a folder, as the Hub keeps them.

    The run's own weights are taken, else the committed ones. What an earlier call left is replaced.

    Args:
        folder: is made if it does not exist.
        runs_dir: as `load_trained` has it.
        repo_id: the repository that the card shall name.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: no record, or no weights; the message says which command makes them.
        FileExistsError: the folder has a file of those names that no such call left.
        OSError: weights of another run than the record's.
        ValueError: the run of a GAN that failed.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    weights = find_weights(recipe, store, runs_dir)
    record = weights.record
    if record.summary.get("status") == "failed":
        raise ValueError(
            f"{recipe.run_id} failed ({record.summary['failure']}); publish a run that ended"
        )
    model = weights.load()
    if isinstance(recipe, GanRecipe):
        name, options = recipe.generator, {"img_size": recipe.image_size}
        options |= recipe.generator_options
    else:
        name, options = recipe.model, {"img_size": recipe.image_size}
        options |= recipe.model_options | {"num_classes": count_classes(recipe, record)}
    said = {
        "run_id": recipe.run_id, "weights_sha256": record.summary["weights_sha256"],
        "rounded_to_fp16": str(weights.rounded),
    }  # fmt: skip
    save_model(
        model, folder, name, config=_describe_images(recipe, record), metadata=said, **options
    )
    card = write_card(
        recipe, record, store, rounded=weights.rounded, kind=type(model), repo_id=repo_id
    )
    write_atomically(folder / CARD, str(card).encode())
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Raise FileExistsError if what a model's folder holds is there, and may be somebody's own."""
    there = [path for name in (CARD, CONFIG, WEIGHTS) if os.path.lexists(path := folder / name)]
    if not there:
        return
    try:
        _read_config(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"{there[0]} would be replaced, and no {CONFIG} beside it says that it is of a model "
            "of nestlib; give another folder"
        ) from error


def push_run(
    recipe: Recipe | GanRecipe, store: Store, repo_id: str, *, private: bool = False,
    runs_dir: Path | None = None, api: HfApi | None = None,
) -> str:  # fmt: skip
    """Upload what `save_pretrained_run` writes to a repository on the Hub, made if necessary.

    Files of the same names there are replaced; the repository's history keeps the old ones.

    Args:
        repo_id: "OWNER/NAME".
        private: make a new repository private; one that exists stays as it is.
        api: the Hub's; default: the one that `hf auth login` or $HF_TOKEN gives access to.

    Returns:
        The address of the commit.

    Raises:
        OSError: no access, no such owner, or no network; nothing or a whole commit is there then.
        As `save_pretrained_run`.
    """
    validate_repo_id(repo_id)
    api = api or HfApi(library_name="nestlib", library_version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained_run(recipe, store, folder, runs_dir=runs_dir, repo_id=repo_id)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit: CommitInfo = api.upload_folder(
                repo_id=repo_id, folder_path=folder,
                commit_message=f"{recipe.run_id}, by nestlib {__version__}",
            )  # fmt: skip
        except Exception as error:  # what a missing network raises depends on the Hub's version
            raise _explain(error, f"{recipe.run_id} could not be pushed to {repo_id}") from error
    return commit.commit_url


def _fetch(repo_id: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        raise _explain(
            error, f"{repo_id} is no folder here, and could not be fetched from the Hub"
        ) from error


def _explain(error: Exception, what: str) -> OSError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return OSError(
        f"{what}: {reason}; check the name OWNER/NAME, the network, and that `hf auth login` has "
        "given you access"
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch or make it again") from error
    said = config.get("nestlib") if isinstance(config, dict) else None
    kinds = {"kind": str, "name": str, "options": dict}
    if not isinstance(said, dict) or not all(isinstance(said.get(k), t) for k, t in kinds.items()):
        raise ValueError(
            f'{path} names no model of nestlib: under "nestlib" there must be kind, name and '
            "options; of weights that NesT.save_pretrained wrote use NesT.from_pretrained"
        )
    choose("kind of model", said["kind"], _FAMILIES, f"({path} names it)")
    if "pretrained" in said["options"]:  # it would fetch the published weights first
        raise ValueError(f"{path}: pretrained is no option of a model whose weights lie here")
    return said


def _describe_images(recipe: Recipe | GanRecipe, record: Record) -> dict[str, Any]:
    """What timm's transforms have to know of a classifier's images, and the classes' names."""
    if isinstance(recipe, GanRecipe):
        return {}
    info = dataset_info(recipe.dataset)
    seen: dict[str, Any] = {"mean": info.mean, "std": info.std, "crop_pct": 1.0}
    if not info.image_sizes:  # images of any size are cut as test images are
        cut = inspect.signature(centre_crop).parameters
        seen |= {name: cut[name].default for name in ("crop_pct", "interpolation")}
    names = record.class_names
    return {"pretrained_cfg": seen} | ({"label_names": names} if names else {})


def _describe_for_timm(name: str, options: dict[str, Any], config: dict[str, Any]) -> dict:
    """timm's own config.json of a NesT, with what `config` says of its images and classes."""
    import timm

    from nestlib.models.timm_entrypoints import PREFIX, register_with_timm

    if not timm.is_model(f"{PREFIX}{name}"):  # as in the command `nest`
        register_with_timm()
    model = timm.create_model(f"{PREFIX}{name}", **options)
    given = dict(config)
    with tempfile.TemporaryDirectory() as folder:
        timm.models.save_for_hf(
            model, folder, model_config=given, data_config=config.get("pretrained_cfg"),
            safe_serialization=True,
        )  # fmt: skip
        return read_json(Path(folder) / CONFIG)
