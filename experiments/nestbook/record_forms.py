"""What the records of the book's own measurements must hold, by the beginnings of their ids."""

from typing import Annotated

from nestbook.profiles import MACHINE_RATES
from nestbook.records import short_hash
from nestlib.arguments import Count, Matches, Pixels, Share
from nestlib.record_checks import (
    ANY,
    Amount,
    Form,
    Percent,
    Perhaps,
    Positive,
    Real,
    Sha256,
    Whole,
    differ,
    differ_from_run,
    name_run,
)
from nestlib.records import Record

_ROUNDS = (Positive, ...)
_SIZE = (Pixels, Pixels)
_INTERVAL = (Real, Real)
_MODES = {ANY: _ROUNDS}  # seconds of each round, by what was timed
_SETTINGS = {
    "device": str, "precision": str, "torch": str, "onnxruntime": str, "rounds": Count,
    "rounds_done": Count, "threads": Count, "batch_size": Count, "warmup": Whole, "tf32": bool,
    "seconds_per_round": Amount, "workers": Count, "cpus": Count, "images": Count,
    "shards_mb": Positive, "cache_mb": Positive, "seconds": Amount, "load_before": Amount,
}  # fmt: skip
_PRODUCT = {"median": Positive | None, "rounds": [Positive], "size": Count}
_BENCH_RECIPE = {
    **_SETTINGS, "budget": str, "profile": str, "table": str, "model": str, "flop_counter": str,
    "matmul_tflops": _PRODUCT, "backend": str, "steps": Count, "num_params": Count,
    "threads_per_rank": Count, "time_limit_s": Amount | None, "logit_differences": {ANY: Amount},
}  # fmt: skip
# A model that was timed, or the error that it ended with.
_ROW = {
    "name": str, "error": str, "image_size": Pixels, "batch_size": Count, "n": Whole,
    "params": Count, "compile": bool, "tuned": bool, "precision": str, "gflops": Positive,
    "memory_mb": Positive | None, "memory_kind": str | None,
    "images_per_second": {ANY: _PRODUCT},
    "paths": {ANY: {"memory_format": str, "fused_attention": bool | None}},
}  # fmt: skip
_TABLE = {ANY: _ROW}
_CHOICES = {
    "settings": _SETTINGS,
    "rows": ({
        "seconds": {ANY: _MODES}, "rule": str, "multi_query": bool, "layer": str, "gflop": Positive,
        **dict.fromkeys(("blocks", "patches", "heads", "head_dim"), Count),
        **dict.fromkeys(("images", "words", "width_in", "width_out"), Count),
    }, ...),
}  # fmt: skip
_TIMED_ROWS = {
    "settings": _SETTINGS,
    "rows": ({
        "model": str, "image_size": [Pixels], "batch_size": Count, "threads": Count,
        "difference": Amount, "seconds": _MODES,
    }, ...),
}  # fmt: skip
_DATA_FAULTS = {
    ANY: {"how": str, "outcome": str, "left_out": Whole, "lost": Whole | None,
          "doubled": Whole | None},
}  # fmt: skip
_FIT = {"exponent": Real, "last_exponent": Real, "quadratic_share": Real}
_AXIS = Annotated[str, Matches("batch|pixels|depth", "batch, pixels or depth")]
_MODE = Annotated[str, Matches("forward|train", "forward or train")]
_GROWTH = {
    "settings": _SETTINGS,
    "lines": [{
        "name": str, "axis": _AXIS, "mode": _MODE, "memory_kind": str, "stopped": str | None,
        **dict.fromkeys(("seconds", "memory_mb", "multiply_adds"), Perhaps(_FIT)),
        "points": [{
            "x": Count, "batch_size": Count, "image_size": Pixels, "memory_mb": Positive,
            "multiply_adds": Positive, "seconds": {"median": Positive, "rounds": _ROUNDS},
        }],
    }],
}  # fmt: skip
_ROOFLINE = {
    "settings": {**_SETTINGS, "image_size": Pixels},
    "machine": dict.fromkeys(MACHINE_RATES, Positive),
    "overhead": Real, "copy_seconds": Amount, "parts_seconds": Positive, "whole_seconds": Positive,
    "parts_rounds": _ROUNDS, "whole_rounds": _ROUNDS,
    "parts": ({
        "name": str, "calls": Whole, "seconds": Amount, "copy_seconds": Amount, "gflop": Amount,
        "mbytes": Amount, "arithmetic_floor_seconds": Amount, "bytes_floor_seconds": Amount,
    }, ...),
}  # fmt: skip
_KIND = {"calls": Whole, "gflop": Amount, "seconds": _ROUNDS}
_STEP = {
    "settings": _SETTINGS, "matmul_tflops": {**_PRODUCT, "rounds": _ROUNDS},
    "models": {ANY: {"batch_size": Count, "image_size": Pixels, "kinds": {ANY: _KIND},
                     "whole_seconds": _ROUNDS}},
}  # fmt: skip
_INPUT_ALONE = {
    "settings": {**_SETTINGS, "image_size": _SIZE}, "input": _ROUNDS, "training": {ANY: _ROUNDS},
}  # fmt: skip
_WAY = {ANY: {"ms": _ROUNDS, "difference": Amount}}
_LOADER = {
    "settings": {**_SETTINGS, "photo_size": [Pixels], "photo_sources": [str]},
    "decoders": {"decode": _WAY, "resize": _WAY},
    "sets": {ANY: {"image_size": Pixels, "images": Count, "mean_bytes": Positive,
                   "rates": {ANY: {"cpu_ms": _ROUNDS, "images_per_second": _ROUNDS}}}},
}  # fmt: skip
_STREAMING = {
    "settings": _SETTINGS, "epochs": Count, "images": Count, "early_mb": Positive,
    "late_mb": Positive, "mb": _ROUNDS, "seconds": (Amount, ...),
}  # fmt: skip
_STRIKES = {
    ANY: {
        "how": str, "by": str, "outcome": str, "begins": (Whole, ...), "same_history": bool,
        "same_weights": bool,
        **dict.fromkeys(("doubled", "lost", "steps", "steps_again", "struck_step"), Whole),
    },
}  # fmt: skip
_SCORE = {
    **dict.fromkeys(("classifier_score", "inception_score", "frechet_distance", "fid"), Amount),
    **dict.fromkeys(("kernel_distance", "kernel_inception_distance"), Real),
    **dict.fromkeys(("classifier_score_std", "kernel_distance_std", "seconds"), Amount),
    **dict.fromkeys(("num_samples", "num_reference", "splits"), Count),
    **dict.fromkeys(("feature_network", "reference", "reference_fingerprint", "resize"), str),
    "feature_weights_sha256": Sha256, "generator_weights_sha256": Sha256, "note": str,
    "seed": Whole, "subsets": (Count, Count), "reference_size": _SIZE,
}  # fmt: skip
_SCORE_RECIPE = {"run": str, "budget": str, "network": str, "num_samples": Count, "seed": Whole}
_EVALUATION = {
    "images": Count, "num_params": Count, "loss": Real, "top1": Percent, "top5": Percent,
    "top1_half_width": Percent, "weights_sha256": Sha256,
}  # fmt: skip
_VIEW = {
    "image_size": Pixels, "whole_image_at": Pixels, "interpolation": str, "crop_pct": Positive,
    "mean": (Real, Real, Real), "std": (Positive, Positive, Positive),
}  # fmt: skip
_SCORED_RECIPE = {
    "name": str, "dataset": str, "weights": str, "weights_sha256": str, "batch_size": Count,
    "precision": str, "limit": Count | None, "view": _VIEW,
}  # fmt: skip
_ERRORS = {
    "errors": (Percent, ...), "best": {"error": Percent, "threshold": Share, "interval": _INTERVAL},
    "held_out": {"error": Percent, "interval": _INTERVAL, "thresholds": (Share, Share)},
}  # fmt: skip
_MAPS = {
    "row": str, "method": str, "images": Count, "map_size": _SIZE, "image_size": _SIZE,
    "thresholds": (Share, ...), "top1_error": Percent, "max_box_acc_v2": Percent,
    "max_box_acc": {ANY: Percent}, "higher_inside": Share, "contours_disagree": Share,
    "seconds": {ANY: Amount},
    "boxes_timed": {"image_size": _SIZE, "maps": Count, "seconds": _MODES},
    **dict.fromkeys(("top1", "gt_known", "true_boxes_at_map_size"), _ERRORS),
}  # fmt: skip
_BY_CANVAS = {"chance": {ANY: Share}, "queries": Count}
_HITS = {"rate": Share, "interval": _INTERVAL, "of_each_model": (Share, ...)}
_BLANKED = {"rate": Share, "interval": _INTERVAL, "chosen": Real, "random": Real}
_PLANTED = {
    "seeds": (Whole, ...), "runs": (str, ...), "canvases": {ANY: Count}, "models": ({}, ...),
    "together": {
        "blanking": {ANY: _BLANKED}, ANY: {**_BY_CANVAS, "ways": {ANY: {ANY: _HITS}}},
    },
}  # fmt: skip
_BLANKING = {
    "images": Count, "ways": {ANY: {**_BLANKED, "wins": Whole}}, "test/top1": Percent,
    "leaves": Count, "leaf_pixels": Count,
}  # fmt: skip
_COPIES = {
    ANY: {ANY: [{"images": (Whole, Whole), "classes": (Whole, Whole), "distance": Amount,
                 "in_small_subset": bool}]},
    "limit": Amount,
}  # fmt: skip
_FILES = {
    "files": {ANY: Count}, "one_channel": {ANY: Whole}, "equal_bytes": [[(str, str, str)]],
    "boxes": {ANY: {"boxes": Count, "flat": Whole, "least": Whole, "greatest": Whole,
                    "whole_image_finds": Share}},
}  # fmt: skip


def records() -> dict[str, Form]:
    """The form of a record by the beginning of its id."""
    benches = {
        **dict.fromkeys(("table1", "table2", "speed", "small", "figure7"), _TABLE),
        **dict.fromkeys(("attention", "products"), _CHOICES),
        **dict.fromkeys(("explaining", "export"), _TIMED_ROWS),
        "data-faults": _DATA_FAULTS, "growth": _GROWTH, "roofline": _ROOFLINE, "step": _STEP,
        "input": {**_INPUT_ALONE, "one_thread": _INPUT_ALONE}, "loader": _LOADER,
        "streaming": _STREAMING, "rates": dict.fromkeys(MACHINE_RATES, Positive),
        "scaling": {"step_seconds": _MODES, "exchange_seconds": _ROUNDS}, "": {},
    }  # fmt: skip
    return {
        **{f"bench/{name}{'-' * bool(name)}": Form("bench", summary, _BENCH_RECIPE)
           for name, summary in benches.items()},
        **{f"inspect/{name}": Form("inspect", summary, {"dataset": str}, _find_wrong_data)
           for name, summary in {"cifar10": _COPIES, "tiny_imagenet": _FILES}.items()},
        "inspect/": Form("inspect"),
        "score/": Form("score", _SCORE, _SCORE_RECIPE, _find_wrong_score),
        "evaluate/": Form("evaluate", _EVALUATION, _SCORED_RECIPE, _find_wrong_identity),
        "faults/": Form(
            "faults", _STRIKES, {"recipe": str, "checkpoint_every": str, "ranks": Count}
        ),
        "planted/": Form("explain", _PLANTED),
        "localize/": Form("explain", _MAPS, {}, _find_wrong_maps),
        "localize/imagenet/": Form("explain", _MAPS, _SCORED_RECIPE),
        "blanking/": Form("explain", _BLANKING, {}, _find_wrong_run),
    }  # fmt: skip


def _find_wrong_maps(record: Record) -> str:
    cuts = len(record.summary.get("thresholds", ()))
    for name in ("top1", "gt_known", "true_boxes_at_map_size"):
        if len(errors := record.summary.get(name, {}).get("errors", ())) != cuts:
            return f"its {name} has {len(errors)} errors, its thresholds are {cuts}"
    return _find_wrong_run(record)


def _find_wrong_run(record: Record) -> str:
    own = {name: value for name, value in record.recipe.items() if name != "rounded_to"}
    return differ_from_run(record, f"{record.run_id.partition('/')[0]}/{name_run(own)}")


def _find_wrong_data(record: Record) -> str:
    return differ(record, f"inspect/{record.recipe['dataset']}")


def _find_wrong_score(record: Record) -> str:
    return differ(record, f"score/{record.recipe['run']}-{record.recipe['network']}")


def _find_wrong_identity(record: Record) -> str:
    own = {name: value for name, value in record.recipe.items() if name != "batch_size"}
    beginning = record.run_id.rpartition("-")[0]
    return differ(record, f"{beginning}-{short_hash(own)}")
