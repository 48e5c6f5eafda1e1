"""Which part of a model an operator belongs to, by the modules that run and what it does."""

import re
from collections.abc import Sequence

# What an aten operator does, by its name without a trailing underscore; the first that fits.
KINDS = {
    "matrix products": r"mm|addmm",
    "attention": r"bmm|baddbmm|.*attention.*",  # nothing else here multiplies in batches
    "softmax": r"_(log_)?softmax(_backward_data)?",
    "convolutions": r"convolution(_backward)?",
    "norms": r".*(layer|batch|group|rms)_norm.*",
    "activations": r"(gelu|relu|silu|hardtanh|threshold)(_backward)?",
    "pooling": r".*pool.*|mean",
    "additions": r"add",
    "sums": r"sum",
    "copies": r"clone|copy|_to_copy|cat|stack|roll|constant_pad_nd",
    "optimizer": r"_fused_adamw",
}


def operator_kind(name: str) -> str:
    """One of KINDS for an aten operator's name, "other" if none fits."""
    name = name.removesuffix("_")
    return next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), "other")


def name_part(path: str, kind: str, done: Sequence[str]) -> str:
    """The part of any model that an operator belongs to: the outermost module, and its kind.

    Args:
        path: dotted name of the innermost running module, "" for the model itself.
        kind: `operator_kind`.
        done: children of that module that have already run in this call.
    """
    return f"{path.split('.')[0]}: {kind}" if path else kind


def name_nest_part(path: str, kind: str, done: Sequence[str]) -> str:
    """As `name_part`, for NesT: by its modules' names, what a module itself runs by its kind."""
    root, level, *names = [*path.split("."), "", ""]
    if root == "hierarchies":
        return f"hierarchy {level}: {_layer_part(names[1:-2], kind)}"
    if root == "aggregations":
        return f"aggregation {level}: {names[0] or _aggregation_part(kind, done)}"
    if root == "patch_embed":
        return "patch embedding"
    level = sum(child.startswith("hierarchies.") for child in done)
    if root != "" or "norm" in done:
        return "head"
    if level == 0 and kind == "copies":
        return "patch embedding"
    return f"hierarchy {level}: position embedding"


def _layer_part(names: Sequence[str], kind: str) -> str:
    """names: of the modules below a transformer layer, the innermost last."""
    innermost = names[-1] if names else ""
    if innermost == "attn":
        return {"copies": "attention's copies", "matrix products": kind}.get(kind, "attention")
    if innermost in ("", "drop_path"):
        return "residual additions" if kind == "additions" else kind
    return {"norm1": "norms", "norm2": "norms", "act": "activation"}.get(innermost, innermost)


def _aggregation_part(kind: str, done: Sequence[str]) -> str:
    if kind == "copies":
        return "block" if any(child.endswith(".conv") for child in done) else "unblock"
    return "pool" if kind == "pooling" else kind
