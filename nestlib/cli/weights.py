"""Commands on weights: `nest export` writes those of a run, for this library or for another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nestlib.cli.options import (
    WeightsDir,
    local_path,
    named_options,
    path_option,
    refuse,
    seed_option,
)
from nestlib.recipes.named import get_recipe
from nestlib.records import open_store

if TYPE_CHECKING:
    from torch import nn

    Export = tuple[nn.Module, int | None, dict[str, Any]]  # model, image size, what a file says


def export(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="a name that `nest recipes` lists; with --onnx also a model's, such as "
            "nest_tiny_imagenet", metavar="RECIPE|MODEL",
        ),
    ],
    seed: Annotated[int, seed_option("seed of the run")] = 0,
    runs_dir: WeightsDir = None,
    onnx: Annotated[
        Path | None, path_option("write an ONNX file, for any batch size", "FILE")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="take a model's published weights")
    ] = False,
    weights: Annotated[
        Path | None, path_option("take a model's weights from a .safetensors file", "FILE")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="classes of a model")] = None,
    img_size: Annotated[int | None, typer.Option(help="edge of a model's images, pixels")] = None,
) -> None:  # fmt: skip
    """Save a run's weights in fp16, or a model as an ONNX file.

    Weights in fp16 are written beside the committed records, so that the model can be loaded by
    name. An ONNX file is compared with the model before it is written.
    """
    given = named_options(context)
    if onnx is not None:
        asked = {"pretrained": pretrained, "num_classes": num_classes, "img_size": img_size}
        if "/" in model:
            refuse(sorted(given & {*asked, "weights"}), "a recipe, trained as it is,")
            found = _load_run(model, seed, runs_dir)
        else:
            refuse(sorted(given & {"seed", "runs_dir"}), "a model that is no recipe's")
            found = _build_model(model, weights, {k: v for k, v in asked.items() if k in given})
        typer.echo(_write_onnx(onnx, *found))
        return
    from nestlib.runs.weights import commit_weights

    if "/" not in model:
        raise ValueError(
            f"{model} is no recipe, so it has no run to save weights of; give a recipe (`nest "
            "recipes` lists them), or --onnx FILE to write a model"
        )
    others = given - {"model", "seed", "runs_dir"}
    refuse(sorted(others), "`nest export` without --onnx")
    path = commit_weights(get_recipe(model, seed=seed), open_store(), runs_dir=runs_dir)
    typer.echo(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


def _load_run(name: str, seed: int, runs_dir: Path | None) -> "Export":
    """A recipe's trained model, its image size, and what a file says of it."""
    from nestlib.data.datasets import dataset_info
    from nestlib.recipes.recipe import GanRecipe
    from nestlib.runs.weights import find_weights

    recipe = get_recipe(name, seed=seed)
    run = find_weights(recipe, open_store(), runs_dir)
    weights = "rounded_from_sha256" if run.rounded else "weights_sha256"
    says = {"run_id": recipe.run_id, weights: run.record.summary["weights_sha256"]}
    if not isinstance(recipe, GanRecipe):
        data = dataset_info(recipe.dataset)
        says |= {"mean": data.mean, "std": data.std, "class_names": run.record.class_names}
    return run.load(), recipe.image_size, says


def _build_model(name: str, weights: Path | None, options: dict[str, Any]) -> "Export":
    """Likewise a model by name."""
    from nestlib.data.datasets import dataset_info
    from nestlib.models import PUBLISHED, create_model
    from nestlib.models.weights import load_weights

    pretrained = options.get("pretrained", False)
    if pretrained and weights is not None:
        raise ValueError("--pretrained and --weights both name weights; give one of them")
    model, says = create_model(name, **options), {"model": name}
    if weights is not None:
        load_weights(model, weights)
    elif not pretrained:
        typer.echo(
            "the weights are random; --pretrained or --weights FILE takes trained ones", err=True
        )
    elif name in PUBLISHED:
        data = dataset_info("imagenet")
        says |= {"weights": PUBLISHED[name], "mean": data.mean, "std": data.std}
    return model, options.get("img_size"), says


def _write_onnx(path: Path, model: "nn.Module", img_size: int | None, says: dict[str, Any]) -> str:
    """Write the file, and say what it is."""
    from nestlib.models.export import export_onnx

    difference = export_onnx(model, path, img_size=img_size, metadata=says)
    checked = (
        "not compared with the model, because onnxruntime is not installed"
        if difference is None
        else f"onnxruntime's outputs differ from the model's by at most {difference:.1g}"
    )
    return f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB; {checked}"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="a JAX checkpoint of the authors' code or its folder, a .safetensors, .bin or "
            ".pth file, or timm's name of weights to fetch, such as nest_tiny_jx.goog_in1k"
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(help="a .safetensors file; replaced if it exists", parser=local_path),
    ],
    model: Annotated[
        str, typer.Option(help="nest_tiny_imagenet, ...; default: the one that the shapes fit")
    ] = "",
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", help="an option of the model, such as img_size=384: option=value; may be "
            "repeated",
        ),
    ] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Turn published weights into a .safetensors file.

    They may be the authors', or timm's. The kind of the source follows from its content. Nothing in
    it is run.
    """
    from nestlib.models.convert import convert_weights

    options = dict(map(_read_option, set_))
    done = convert_weights(source, out, model=model or None, **options)
    found, size = done.source, done.path.stat().st_size / 1e6
    place = f" ({found.place})" if found.place else ""
    takes = "".join(f", {key}={value!r}" for key, value in done.options.items())
    how = "as asked" if model else "by its shapes"
    typer.echo(
        f"read {found.name}: {found.kind}{place}\n"
        f"took it for {done.model}, {how}; {done.num_params:,} parameters\n"
        f"wrote {done.path}, {size:.2f} MB; load it in Python:\n"
        f"nestlib.load_weights(nestlib.create_model({done.model!r}{takes}), {str(done.path)!r})"
    )
    if done.unsure_of_padding:
        typer.echo(
            "If this model was trained as timm's nest_tiny, nest_small or nest_base, and not as "
            "their _jx forms, add --set aggregation_padding=symmetric",
            err=True,
        )


def _read_option(assignment: str) -> tuple[str, Any]:
    from nestlib.recipes.recipe import parse_value

    name, equals, text = assignment.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"{assignment[:100]!r} is not an assignment; write option=value")
    return name, parse_value(text)


def push(
    recipe: Annotated[str, typer.Argument(help="a name that `nest recipes` lists")],
    repository: Annotated[
        str, typer.Argument(help="on the Hugging Face Hub; it is made if necessary",
                            metavar="[OWNER/NAME]", show_default=False),
    ] = "",
    folder: Annotated[
        Path | None, path_option("write the files here, and upload nothing")
    ] = None,
    seed: Annotated[int, seed_option("seed of the run")] = 0,
    private: Annotated[
        bool, typer.Option("--private", help="make a new repository private")
    ] = False,
    runs_dir: WeightsDir = None,
) -> None:  # fmt: skip
    """Upload a finished run's model to the Hugging Face Hub.

    A card is made from the run's record. It says the recipe, the data, the accuracy on how many
    images, the device and the licence.
    """
    from nestlib.runs.hub import push_run, save_pretrained_run

    if bool(repository) == (folder is not None):
        raise ValueError("give a repository, OWNER/NAME, to upload to, or --folder FOLDER")
    if folder is not None:
        refuse(["private"] if private else [], "--folder, which uploads nothing,")
    chosen, store = get_recipe(recipe, seed=seed), open_store()
    if folder is not None:
        save_pretrained_run(chosen, store, folder, runs_dir=runs_dir)
        typer.echo(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}")
        return
    address = push_run(chosen, store, repository, private=private, runs_dir=runs_dir)
    typer.echo(f"pushed {chosen.run_id}: {address}")
