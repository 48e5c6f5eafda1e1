"""The card of a trained model, README.md on the Hugging Face Hub: every number is its record's."""

import json
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import nn

from nestlib.data.datasets import dataset_info
from nestlib.metrics.intervals import CONFIDENCE, wilson
from nestlib.models import NesT, NesTDecoder
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store

LICENSE = "apache-2.0"  # of this project, its weights included
PAPER = "https://arxiv.org/abs/2105.12723"
# The Hub's own name of a data set whose images we take as they are.
ON_THE_HUB = {
    "cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100",
    "imagenet": "ILSVRC/imagenet-1k",
}  # fmt: skip
MANY_CLASSES = 20  # of which a card does not list the names
Rows = list[tuple[str, str]]


def write_card(
    recipe: Recipe | GanRecipe, record: Record, store: Store, *, rounded: bool,
    kind: type[nn.Module] = nn.Module, repo_id: str = "",
) -> ModelCard:  # fmt: skip
    """The card of a run's model.

    Args:
        store: where scores of a generator, and runs of other seeds, are looked for.
        rounded: the weights were rounded to fp16 after they were measured.
        kind: the model's class, for what loads it beside `load_pretrained`.
        repo_id: the repository that the card is for; empty for a folder.
    """
    is_gan = isinstance(recipe, GanRecipe)
    what = recipe.generator if is_gan else recipe.model
    data = ModelCardData(
        license=LICENSE, library_name="nestlib", model_name=recipe.run_id,
        pipeline_tag="unconditional-image-generation" if is_gan else "image-classification",
        tags=["arxiv:2105.12723", "nestlib", what, *([] if is_gan else ["image-classification"])],
        datasets=[ON_THE_HUB[recipe.dataset]] if recipe.dataset in ON_THE_HUB else None,
        eval_results=None if is_gan else list_results(record) or None,
        metrics=None if is_gan else ["accuracy"],
    )  # fmt: skip
    title = dataset_info(recipe.dataset).title
    task = "generates images like those of" if is_gan else "classifies images of"
    parts = [
        f"# {recipe.name}, seed {recipe.seed}",
        f"`{what}`, {record.summary['num_params'] / 1e6:.2f} M parameters, {task} {title}. It was "
        f"trained by the recipe `{recipe.name}` of nestlib, a companion of "
        f'["Aggregating Nested Transformers"]({PAPER}). This card is made from the record of that '
        f"run, `{recipe.run_id}`.",
        "## Use", _describe_loading(kind, repo_id),
        "## Results", _tabulate("Measure", _score_rows(recipe, record, store)),
        _describe_results(recipe, record, store, rounded),
        "## Data", _tabulate("Images", _data_rows(recipe, record)),
        "## Training", _tabulate("Where and how", _training_rows(record)),
        "## Recipe", _tabulate("Field", [(k, _code(v)) for k, v in sorted(record.recipe.items())]),
        "## Intended use and limits", _describe_limits(recipe, title),
        "## Licence",
        "Code and weights: Apache License 2.0. The images that it was trained on have terms of "
        "their own.",
    ]  # fmt: skip
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def _describe_loading(kind: type[nn.Module], repo_id: str) -> str:
    source = repo_id or "FOLDER"
    lines = [
        "from nestlib.runs.hub import load_pretrained", "",
        f'model = load_pretrained("{source}")  # in evaluation mode',
    ]  # fmt: skip
    if kind is NesTDecoder:
        lines = ["import nestlib.models", *lines, "# or"]
        lines += [f'model = nestlib.models.NesTDecoder.from_pretrained("{source}")']
    if kind is NesT:
        place = f"hf-hub:{repo_id}" if repo_id else "local-dir:FOLDER"
        lines = ["import nestlib", "import timm", *lines, "# or"]
        lines += [f'model = nestlib.NesT.from_pretrained("{source}")', "# or"]
        lines += [f'model = timm.create_model("{place}", pretrained=True)']
    return "\n".join(["```python", *lines, "```"])


def list_results(record: Record) -> list[EvalResult]:
    """A classifier's accuracies for the card's model-index, with images and 95 % intervals."""
    found = []
    for metric, percent in _accuracies(record).items():
        images = _count_images(record)
        found.append(
            EvalResult(
                task_type="image-classification",
                dataset_type=ON_THE_HUB.get(record.recipe["dataset"], record.recipe["dataset"]),
                dataset_name=dataset_info(record.recipe["dataset"]).title,
                dataset_split="test" if record.top1[1] == "test" else "train",
                dataset_args={"images": images, "fingerprint": _evaluated(record)["fingerprint"]},
                metric_type="accuracy", metric_name=metric, metric_value=percent,
                metric_args={
                    "unit": "%", "confidence": CONFIDENCE, "interval": _interval(percent, images)
                },
            )
        )  # fmt: skip
    return found


def _accuracies(record: Record) -> dict[str, float]:
    """Top-1 and, where the history has it, top-5 of the reported epoch, in percent."""
    if record.top1 is None:
        return {}
    percent, split = record.top1
    last = record.epochs[-1] if record.epochs else {}
    top5 = {"top-5": last[f"{split}/top5"]} if f"{split}/top5" in last else {}
    return {"top-1": percent} | top5


def _evaluated(record: Record) -> dict[str, Any]:
    return record.environment["data"][record.top1[1]]


def _count_images(record: Record) -> int:
    return _evaluated(record)["images"]


def _interval(percent: float, images: int) -> list[float]:
    return [round(100 * end, 4) for end in wilson(round(percent * images / 100), images)]


def _score_rows(recipe: Recipe | GanRecipe, record: Record, store: Store) -> Rows:
    summary = record.summary
    if isinstance(recipe, Recipe):
        _, split = record.top1
        images = _count_images(record)
        of = f"{images:,} {'test' if split == 'test' else 'held-out training'} images"
        rows = []
        for metric, value in _accuracies(record).items():
            low, high = _interval(value, images)
            shown = f"{value:.2f} %, {100 * CONFIDENCE:.0f} % interval {low:.2f} to {high:.2f} %"
            rows.append((f"{metric} on {of}", shown))
        return [*rows, (f"loss on {of}", f"{summary[f'{split}/loss']:.4f}")]
    rows = [(f"pixel distance at step {summary['reported_step']:,}",
             f"{summary['sample/pixel_distance']:.4g}")]  # fmt: skip
    for scored in store.find_committed(f"score/{recipe.run_id}-"):
        found = scored.summary
        if found.get("generator_weights_sha256") != summary["weights_sha256"]:
            continue
        of = (
            f"{found['num_samples']:,} samples against {found['num_reference']:,} images "
            f"({found['reference']}), features of {found['feature_network']}"
        )
        rows += [
            (f"{name.replace('_', ' ')}, {of}", f"{found[name]:.4g}")
            for name in ("frechet_distance", "kernel_distance", "classifier_score")
            if name in found
        ]
    return rows


def _describe_results(
    recipe: Recipe | GanRecipe, record: Record, store: Store, rounded: bool
) -> str:
    said = []
    if isinstance(recipe, Recipe):
        said.append(
            f"Measured after epoch {record.summary['reported_epoch']}, the last one, even if an "
            "earlier one was better. The interval is Wilson's, for the draw of the images alone; "
            "runs of other seeds differ too."
        )
        runs = [run for run in store.find_seeds(recipe) if run.top1]
        if len(runs) > 1:
            listed = [f"seed {run.recipe['seed']} {run.top1[0]:.2f} %" for run in runs]
            said.append(f"All runs of the recipe, top-1: {', '.join(listed)}.")
    if rounded:
        said.append("The weights here are rounded to fp16; the numbers are of those before.")
    said.append(f"SHA-256 of the measured weights: `{record.summary['weights_sha256']}`.")
    return " ".join(said)


def _data_rows(recipe: Recipe | GanRecipe, record: Record) -> Rows:
    info = dataset_info(recipe.dataset)
    rows = [("data set", f"{info.title} (`{recipe.dataset}`)")]
    for split, found in record.environment["data"].items():
        fingerprint = f"{found['images']:,} images, fingerprint `{found['fingerprint']}`"
        rows.append((split.replace("_", " "), fingerprint))
    names = record.class_names
    if names and isinstance(recipe, Recipe):
        shown = _code(names) if len(names) <= MANY_CLASSES else "named in config.json"
        rows.append((f"{len(names)} classes, by number", shown))
    pixels = f"{recipe.image_size}x{recipe.image_size} pixels, "
    if isinstance(recipe, GanRecipe):
        return [*rows, ("what comes out", f"{pixels}RGB, meant for -1..1")]
    scale = f"RGB in 0..1, less the mean {list(info.mean)}, over {list(info.std)}"
    return [*rows, ("what goes in", pixels + scale)]


def _training_rows(record: Record) -> Rows:
    where, summary = record.environment, record.summary
    rows = [
        ("device", where["device"]),
        ("processes", str(where.get("ranks", 1))),
        ("time", f"{summary['train_seconds']:,.0f} s ({summary['train_seconds'] / 3600:.2f} h)"),
        ("precision", record.recipe["precision"]),
        ("ended", where["finished"]),
        ("commit", _describe_commit(where)),
        *((name, made) for name, made in sorted(where["packages"].items()) if made),
        ("Python", where["python"]),
    ]
    if "peak_memory_mb" in summary:
        rows.insert(3, ("peak memory", f"{summary['peak_memory_mb']:,.0f} MB"))
    return rows


def _describe_commit(where: dict[str, Any]) -> str:
    changed = {True: ", with changes that are not committed", None: ", of a copy"}
    return f"`{where['commit']}`{changed.get(where['dirty'], '')}" if where["commit"] else "unknown"


def _describe_limits(recipe: Recipe | GanRecipe, title: str) -> str:
    made = "what it makes" if isinstance(recipe, GanRecipe) else "how well it does"
    return (
        "For research: to repeat the paper's results, or to compare with them. It was measured on "
        f"{title} alone. Nobody measured {made} elsewhere: other cameras, light or noise, other "
        "groups of people. Do not use it for decisions about people."
    )


def _tabulate(head: str, rows: Rows) -> str:
    lines = [f"| {head} | |", "|---|---|"]
    for cells in rows:
        shown = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`".replace("``", "none")
