"""The paper's claims as data: each sentence with the comparisons that decide it, in its order.

No verdict is written here: nestbook.claims.claim asks the records, and the paper's own numbers
are compared. What narrow models of budget small can be asked of a sentence stands beside it.
Quotes are the paper's words (arXiv 2105.12723v1), its line breaks and typing kept out. Margins for
words such as "far", "similar" and "marginal" are ours.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

from nestbook import paper
from nestbook.claims.claim import Claim, Comparison, Mean, OwnNumbers
from nestbook.sweeps.plans import (
    ALONE,
    CIFAR,
    EPOCHS,
    FIGURE4_RIGHT,
    FIGURE5,
    HEADS,
    IN_SEQUENCE,
    SMALL_EPOCHS,
    SMALL_HEADS,
)
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT
from nestlib.models.blocks import fit_block_size

FAR = 1.0  # points: what "far better", "clear drop" and "big difference" ask for at least
NEAR = 0.5  # points: what "similar", "matches" and "sufficient" allow
ROUNDING = 0.5  # points: how far below a printed accuracy a mean still "achieves" it
# At budget small: three seeds of narrow models on 10,000 test images tell apart what differs by one
# to two points, so nearness is asked within more.
SMALL_NEAR = 3.0

T1, T2 = paper.TABLE1, paper.TABLE2
_SMALL = {"datasets": ("cifar10",), "budget": "small"}


def _better(a: Mean, b: Mean, low: float = 0.0, high: float = math.inf) -> Comparison:
    return Comparison(((1, a), (-1, b)), low, high)


def _near(a: Mean, b: Mean, margin: float = NEAR) -> Comparison:
    return _better(a, b, -margin, margin)


def _reaches(mean: Mean, percent: float) -> Comparison:
    return Comparison(((1, mean),), percent - ROUNDING)


def _row(name: str, dataset: str = "cifar10", budget: str = "paper") -> Mean:
    return Mean("table2" if dataset == "imagenet" else "table1", (dataset, name), budget)


def _rows(
    one: str, *others: str, low: float = 0.0, datasets: Iterable[str] = CIFAR, budget: str = "paper"
) -> tuple[Comparison, ...]:
    """A row of Table 1 or 2 above others."""
    return tuple(
        _better(_row(one, data, budget), _row(other, data, budget), low)
        for data in datasets for other in others
    )  # fmt: skip


def _steps(family: str) -> list[tuple[Mean, Mean]]:
    """(larger, smaller) of T, S and B."""
    return [
        (_row(f"{family}-{large}", data), _row(f"{family}-{small}", data))
        for data in CIFAR for small, large in ("TS", "SB")
    ]  # fmt: skip


def _design(dataset: str, design: str, plane: str = "image", budget: str = "paper") -> Mean:
    return Mean("figure_a1", (dataset, plane, design), budget)


def _over(
    others: Iterable[str], low: float = 0.0, datasets: Iterable[str] = CIFAR, budget: str = "paper"
) -> tuple[Comparison, ...]:
    """NesT's own aggregation above others on the image plane."""
    return tuple(
        _better(_design(data, DEFAULT, budget=budget), _design(data, other, budget=budget), low)
        for other in others for data in datasets
    )  # fmt: skip


def _depth(
    depth: int, dataset: str = "cifar10", size: str = "T", word: int = 1, budget: str = "paper"
) -> Mean:
    return Mean("figure6", (dataset, size, f"S={word}", f"depth {depth}"), budget)


def _epochs(model: str, number: int, budget: str = "paper") -> Mean:
    return Mean("figure4", ("epochs", model, str(number)), budget)


def _heads(number: int, budget: str = "paper") -> Mean:
    return Mean("table_a3", ("multi_head", str(number)), budget)


def _taught(
    student: str, dataset: str, teacher: str = "PN-164-48", form: str = "standard",
    budget: str = "paper",
) -> Mean:  # fmt: skip
    return Mean("table_a2", (dataset, student, teacher, form, "hard"), budget)


def _steadier(
    figure: str, steady: str, other: str, step: tuple[str, str],
    low: float = 0.0, high: float = math.inf, budget: str = "paper",
) -> Comparison:  # fmt: skip
    """What `other` loses without an augmentation, less what `steady` loses."""
    whole = ("removed" if figure == "figure4" else "in sequence", "none")
    means = [
        Mean(figure, (panel, model, removed), budget)
        for model in (other, steady) for panel, removed in (whole, step)
    ]  # fmt: skip
    return Comparison(tuple(zip((1, -1, -1, 1), means)), low, high)


_SAME_EPOCHS = [
    (_epochs(f"NesT-{size}", n), _epochs(f"DeiT-{size}", n)) for size in "SB" for n in EPOCHS
]
_CROSSING = [name for name, design in AGGREGATIONS.items() if design.crosses]
_REMOVED = [*(("alone", one) for one in ALONE), ("in sequence", " ".join(IN_SEQUENCE))]
_DETAILS = ("conv1x1_ln_maxpool3x3", "conv3x3_maxpool3x3", "conv3x3_ln_maxpool2x2")
_OTHER_TRANSFORMERS = [n for n, row in T1.items() if row.group != "convnet" and n[:4] != "NesT"]


# What the paper's own numbers say

_TITLES = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}
_STEPS = "Table 1, gains from T to S and S to B, on CIFAR-10, then on CIFAR-100"


def _printed_gains(
    *names: str, low: float = -math.inf, high: float = math.inf, text: str = "Table 1"
) -> OwnNumbers:
    """Whether each row of Table 1 gains within bounds over the one before, on both sets."""
    pairs = list(pairwise(T1[name] for name in names))
    gains = [getattr(b, data) - getattr(a, data) for data in CIFAR for a, b in pairs]
    shown = ", ".join(f"{gain:+.2f}" for gain in gains)
    return OwnNumbers(all(low < gain < high for gain in gains), f"{text}: {shown}")


def _printed_speed() -> OwnNumbers:
    _, ours = paper.FIGURE6_NEST3_TINY
    swin = T1["Swin-B"].images_per_second
    return OwnNumbers(ours / swin >= 9.5, f"{ours:,} / {swin} images/s = {ours / swin:.1f} times")


def _printed_layers() -> OwnNumbers:
    layers = {
        len(row.hierarchies): sum(h[2] for h in row.hierarchies) for row in paper.TABLE_A1[:3]
    }
    text = ", ".join(f"{total} at depth {depth}" for depth, total in layers.items())
    return OwnNumbers(len(set(layers.values())) == 1, f"Table A1: {text}")


def _printed_reduction() -> OwnNumbers:
    ours, swin = T2["NesT-S"], T2["Swin-B"]
    percent = 100 * (1 - ours.params_m / swin.params_m)
    holds = ours.top1 >= swin.top1 and round(percent) == 57
    return OwnNumbers(holds, f"Table 2: {percent:.1f} % fewer, {ours.top1} %")


def _printed_steadier() -> OwnNumbers:
    (deit, nest), *_ = paper.FIGURE4_REMOVED.values()
    removed = {name: paper.FIGURE4_REMOVED[name] for name in FIGURE4_RIGHT}
    drops = {name: (deit - a, nest - b) for name, (a, b) in removed.items()}
    text = ", ".join(f"{name} {a:.1f} against {b:.1f}" for name, (a, b) in drops.items())
    return OwnNumbers(all(a > b for a, b in drops.values()), f"Figure 4, points lost: {text}")


def _printed_taught() -> OwnNumbers:
    gains = {
        f"{name}, {title}": row[2 + i] - row[i]
        for name, row in paper.TABLE_A2_TAUGHT.items() for i, title in enumerate(_TITLES)
    }  # fmt: skip
    text = ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items())
    return OwnNumbers(all(gain > 0 for gain in gains.values()), f"Table A2: {text}")


def _printed_heads() -> OwnNumbers:
    spread = max(paper.TABLE_A3.values()) - min(paper.TABLE_A3.values())
    return OwnNumbers(spread < NEAR, f"Table A3 spans {spread:.2f}")


def _printed_cam() -> OwnNumbers:
    errors = dict(paper.FIGURE8)
    ours = errors.pop("NesT CAM")
    best = min(errors.values())
    return OwnNumbers(ours < best, f"figure 8: {ours} against {best} at best")


def _printed_block_edge() -> OwnNumbers:
    one, two = (fit_block_size((32, 32), word, 5) for word in (1, 2))
    return OwnNumbers(one == 2, f"{one}x{one} at S = 1, {two} patch at S = 2")


def _printed_pairs(table: str, pairs: dict[str, tuple[float, float]]) -> OwnNumbers:
    """Whether the first of each pair is the higher one."""
    shown = ", ".join(f"{name}: {a} and {b}" for name, (a, b) in pairs.items())
    return OwnNumbers(all(a > b for a, b in pairs.values()), f"{table}: {shown}")


def _printed_rows(a: str, b: str) -> OwnNumbers:
    """Whether a row of Table 1 is above another on both sets."""
    pairs = {t: (getattr(T1[a], data), getattr(T1[b], data)) for t, data in _TITLES.items()}
    return _printed_pairs("Table 1", pairs)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "abstract-96", "Abstract",
        "Training a NesT with 6M parameters from scratch on CIFAR10 achieves 96% accuracy using a "
        "single GPU, setting a new state of the art for vision transformers.",
        "NesT-T on CIFAR-10 is above 95.5 %, and above every other transformer of Table 1",
        (_reaches(_row("NesT-T"), 96.0),
         *_rows("NesT-T", *_OTHER_TRANSFORMERS, datasets=["cifar10"])),
        printed=OwnNumbers(
            T1["NesT-T"].cifar10 > max(T1[name].cifar10 for name in _OTHER_TRANSFORMERS),
            f"Table 1: {T1['NesT-T'].cifar10}"),
        small_test="narrow NesT above narrow DeiT, PVT, CCT and Swin; the 96 % cannot be asked",
        small=_rows("NesT-T", "DeiT-T", "PVT-T", "CCT-7/3x1", "Swin-T", **_SMALL),
    ),
    Claim(
        "abstract-83.8", "Abstract",
        "a NesT with 68M parameters trained on ImageNet for 100/300 epochs achieves 82.3%/83.8% "
        "accuracy evaluated on 224 \u00d7 224 image size",
        "NesT-B above 81.8 and 83.3 %",
        tuple(_reaches(_epochs("NesT-B", n), paper.FIGURE4_EPOCHS[n]) for n in (100, 300)),
    ),
    Claim(
        "deit-size", "4.1",
        "DeiT [49] performs poorly and does not improve given bigger model size.",
        "no step from T to S to B gains a point on CIFAR-10 or CIFAR-100",
        tuple(_better(*step, -math.inf, FAR) for step in _steps("DeiT")),
        printed=_printed_gains("DeiT-T", "DeiT-S", "DeiT-B", high=FAR, text=_STEPS),
    ),
    Claim(
        "pvt-small", "4.1",
        "PVT-T seems work better than DeiT-T when model size is small",
        "PVT-T above DeiT-T on both sets",
        _rows("PVT-T", "DeiT-T"),
        printed=_printed_rows("PVT-T", "DeiT-T"),
        small_test="narrow PVT above narrow DeiT",
        small=_rows("PVT-T", "DeiT-T", **_SMALL),
    ),
    Claim(
        "pvt-large", "4.1",
        "the performance largely drops and becomes unstable when scaling up",
        "PVT-B at least a point below PVT-S on both sets",
        _rows("PVT-S", "PVT-B", low=FAR),
        printed=_printed_rows("PVT-S", "PVT-B"),
    ),
    Claim(
        "swin-better", "4.1",
        "Swin has better accuracy than DeiT and PVT.",
        "Swin above DeiT and PVT of its letter on both sets",
        tuple(_better(_row(f"Swin-{s}", d), _row(f"{other}-{s}", d))
              for d in CIFAR for s in "TSB" for other in ("DeiT", "PVT")),
        small_test="narrow Swin above narrow DeiT and PVT",
        small=_rows("Swin-T", "DeiT-T", "PVT-T", **_SMALL),
    ),
    Claim(
        "swin-size", "4.1",
        "we find it barely improves with increasing model size",
        "Swin-B within a point of Swin-T on both sets",
        tuple(_near(_row("Swin-B", d), _row("Swin-T", d), FAR) for d in CIFAR),
        printed=_printed_gains("Swin-T", "Swin-B", low=-FAR, high=FAR),
    ),
    Claim(
        "nest-size", "4.1",
        "NesT improves consistently given bigger model size.",
        "each step from T to S to B gains on both sets",
        tuple(_better(*step) for step in _steps("NesT")),
        printed=_printed_gains("NesT-T", "NesT-S", "NesT-B", low=0, text=_STEPS),
    ),
    Claim(
        "nest3-94.5", "4.1",
        "NesT3 -T (S = 2) leads to 94.5% CIFAR10 accuracy",
        "NesT-T of depth 3 at S = 2 above 94.0 %",
        (_reaches(_depth(3, word=2), paper.FIGURE6_NEST3_TINY[0]),),
    ),
    Claim(
        "nest3-speed", "4.1",
        "with 5384 images/s throughout, 10\u00d7 faster than Swin-B with 94.6% accuracy",
        "images/s of both on one GPU; no bench has both rows yet", printed=_printed_speed(),
    ),
    Claim(
        "imagenet-best", "4.1", "NesT achieves the best performance than compared methods.",
        "NesT-B above every other row of Table 2",
        _rows("NesT-B", *(n for n in T2 if n[:4] != "NesT"), datasets=["imagenet"]),
        printed=OwnNumbers(max(T2, key=lambda name: T2[name].top1) == "NesT-B",
                        f"Table 2: {T2['NesT-B'].top1}"),
    ),
    Claim(
        "57-percent", "4.1",
        "NesT-S with 38M parameters matches the 83.3% results of Swin-B, leading to 57% parameter "
        "reduction",
        "NesT-S within half a point of Swin-B",
        (_near(_row("NesT-S", "imagenet"), _row("Swin-B", "imagenet")),),
        printed=_printed_reduction(),
    ),
    Claim(
        "converges", "4.2",
        "NesT achieves better performance than DeiT with the same total epoch of training",
        "NesT-S above DeiT-S, NesT-B above DeiT-B, at 30, 60, 100 and 300 epochs",
        tuple(_better(*pair) for pair in _SAME_EPOCHS),
        small_test="narrow NesT above narrow DeiT at 10, 30, 60 and 100 epochs of 10,000 images",
        small=tuple(_better(*(_epochs(f"{name} narrow", n, "small") for name in ("NesT", "DeiT")))
                    for n in SMALL_EPOCHS),
    ),
    Claim(
        "14-percent", "4.2", "The accuracy improvement over DeiT can be up to 14%.",
        "by 13.5 points for one of S and B at one number of epochs",
        tuple(_better(*pair, 14 - ROUNDING) for pair in _SAME_EPOCHS), one_suffices=True,
    ),
    Claim(
        "100-epochs", "4.2",
        "NesT-B merely loses 1.5% when reducing the training epoch from 300 to 100.",
        "300 epochs are less than 2 points above 100",
        (_better(_epochs("NesT-B", 300), _epochs("NesT-B", 100), -math.inf, 1.5 + ROUNDING),),
        printed=OwnNumbers(
            paper.FIGURE4_EPOCHS[300] - paper.FIGURE4_EPOCHS[100] < 1.5 + ROUNDING,
            f"{paper.FIGURE4_EPOCHS[300]} - {paper.FIGURE4_EPOCHS[100]}"),
    ),
    Claim(
        "less-augmentation", "4.2", "NesT shows less reliance on data augmentation.",
        "DeiT-B loses more than NesT-T on ImageNet, whichever augmentation goes",
        tuple(_steadier("figure4", "NesT-T", "DeiT-B", ("removed", step))
              for step in FIGURE4_RIGHT), printed=_printed_steadier(),
        small_test="narrow DeiT loses more than narrow NesT, whichever augmentation goes",
        small=tuple(_steadier("figure4", "NesT narrow", "DeiT narrow", ("removed", step),
                              budget="small") for step in FIGURE4_RIGHT),
    ),
    Claim(
        "image-plane", "4.3",
        "when performing these spatial operations, it is always important to apply on the holistic "
        "image plane versus the block plane",
        "every aggregation whose planes differ is better on the image plane, on both CIFAR sets",
        tuple(_better(_design(d, name), _design(d, name, "block"))
              for d in CIFAR for name in _CROSSING),
        small_test="each of figure 5's aggregations whose planes differ is better on the image "
                   "plane",
        small=tuple(
            _better(*(_design("cifar10", name, p, "small") for p in ("image", "block")))
            for name in FIGURE5 if name in _CROSSING),
    ),
    Claim(
        "small-kernel", "4.3", "small kernel convolution is sufficient",
        "a 5x5 convolution is not half a point better than the 3x3 one",
        tuple(_better(_design(d, "conv5x5_ln_maxpool3x3"), _design(d, DEFAULT), -math.inf, NEAR)
              for d in CIFAR),
        small_test="a 5x5 convolution is not 3 points better than the 3x3 one",
        small=_over(["conv5x5_ln_maxpool3x3"], -SMALL_NEAR, **_SMALL),
    ),
    Claim(
        "ahead-of-pooling", "4.3", "has to be applied ahead of pooling",
        "the convolution before the pool is better than behind it",
        _over(["maxpool3x3_conv3x3_ln"]),
        small_test="the convolution before the pool is better than behind it",
        small=_over(["maxpool3x3_conv3x3_ln"], **_SMALL),
    ),
    Claim(
        "max-pool", "4.3",
        "Max pooling is far better than other options, such as stride-2 sub-sampling and average "
        "pooling",
        "by a point: with the same convolution and norm over stride 2 and average pooling",
        _over(["conv3x3_stride2_ln", "conv3x3_ln_avgpool3x3"], FAR),
        small_test="max-pooling above stride 2 and above average pooling, by any margin",
        small=_over(["conv3x3_stride2_ln", "conv3x3_ln_avgpool3x3"], **_SMALL),
    ),
    Claim(
        "figure5", "4.3", "the design of block aggregation is actually critical for performance",
        "ours a point above each other design of figure 5, on both CIFAR sets",
        _over(FIGURE5[1:], FAR),
        small_test="NesT's own aggregation above each other one of figure 5, by any margin",
        small=_over(FIGURE5[1:], **_SMALL),
    ),
    Claim(
        "query-sampling", "4.3",
        "sub-sampling the query sequence length (similar to performing sub-sampling on the block "
        "plane as illustrated in Figure 2), as used by Halonet [51], performs poorly on data "
        "efficient benchmarks",
        "ours a point above it on both CIFAR sets", _over(["query_sampling2x2"], FAR),
        small_test="NesT's own aggregation a point above query sampling",
        small=_over(["query_sampling2x2"], FAR, **_SMALL),
    ),
    Claim(
        "patch-merge", "4.3",
        "conceptually negligible difference in aggregating nested transformers can lead to big "
        "difference in model performance",
        "ours a point above patch merge on CIFAR-10, CIFAR-100 and ImageNet",
        _over(["patch_merge"], FAR, (*CIFAR, "imagenet")),
        small_test="NesT's own aggregation a point above patch merge",
        small=_over(["patch_merge"], FAR, **_SMALL),
    ),
    Claim(
        "shallow", "4.4", "Shallower NesT has clear accuracy drop",
        "depth 3 a point below depth 4, and depth 2 below depth 3: T at S = 1, both sets",
        tuple(_better(_depth(n, d), _depth(n - 1, d), FAR) for d in CIFAR for n in (4, 3)),
        small_test="depth 3 above depth 2, and depth 4 above depth 3, at S = 2 and equal width",
        small=tuple(_better(*(_depth(n - i, "cifar10", "narrow", 2, "small") for i in (0, 1)))
                    for n in (4, 3)),
    ),
    Claim(
        "layers", "4.4", "the total number of self-attention layers are the same",
        "layers times hierarchies, by Table A1", printed=_printed_layers(),
    ),
    Claim(
        "depth5", "4.4", "Depth= 5 has marginal decrease",
        "depth 5 less than a point below depth 4, and not above: T at S = 1, both sets",
        tuple(_better(_depth(4, d), _depth(5, d), 0.0, FAR) for d in CIFAR),
    ),
    Claim(
        "depth5-n", "4.4", "the sequence length of all blocks is only n = 2 \u00d7 2",
        "the block edge that 32 pixels leave at depth 5 and S = 1",
        printed=_printed_block_edge(),
    ),
    Claim(
        "generator-fid", "4.5",
        "NesT-decoder enjoys significantly faster convergence and achieves the best FID and "
        "Inception score, importantly, has 8\u00d7 throughput over TransGAN.",
        "FID, inception score and images/s of three generators",
    ),
    Claim(
        "pixel-shuffle", "4.5",
        "Pixel shuffle [44] works the best and the margin is considered surprisingly large",
        "FID of NesT decoders by their un-sampling",
    ),
    Claim(
        "lighter", "4.6",
        "the ground truth class - lighter/matchstick - actually defines the bottom-right "
        "matchstick object while the most salient visual features are actually from the "
        "upper-left red light",
        "GradCAT's path on that one image of ImageNet",
    ),
    Claim(
        "cam", "4.6", "NesT with basic CAM can even outperform methods specifically for this task.",
        "Top-1 localization error on ImageNet's validation images", printed=_printed_cam(),
    ),
    Claim(
        "jitter", "A.1",
        "color jittering similar to [8, 9] which seems to reduce dependency on local texture cues "
        "and slightly improves generalization (\u223c0.3% on ImageNet)",
        "NesT-T with it is above NesT-T without it, by less than a point",
        (_better(_row("NesT-T", "imagenet"),
                 Mean("recipe", ("imagenet/nest_tiny", "augmentation.color_jitter=0")), 0.0, FAR),),
    ),
    Claim(
        "aggregation-detail", "A.2",
        "Although many of them has tiny difference, it is interesting that the impact to "
        "performance is non-trivial.",
        "kernel 1, no LayerNorm or a 2x2 window each cost half a point, on both CIFAR sets",
        _over(_DETAILS, NEAR),
        small_test="kernel 1, no LayerNorm or a 2x2 window each cost accuracy",
        small=_over(_DETAILS, **_SMALL),
    ),
    Claim(
        "stability", "A.3",
        "our method shows the high stability in augmentation ablation studies compared with DeiT.",
        "DeiT-S loses more than NesT-S on CIFAR-10 by each removal alone, and by all in sequence",
        tuple(_steadier("figure_a2", "NesT-S", "DeiT-S", step) for step in _REMOVED),
        small_test="narrow DeiT loses more than narrow NesT by each removal alone, and by all in "
                   "sequence",
        small=tuple(_steadier("figure_a2", "NesT", "DeiT", step, budget="small")
                    for step in _REMOVED),
    ),
    Claim(
        "swin-stability", "A.3", "Swin Transformer also shows comparable stability.",
        "what Swin-T and NesT-S lose on CIFAR-10 differs by less than a point, removal by removal",
        tuple(_steadier("figure_a2", "NesT-S", "Swin-T", ("alone", one), -FAR, FAR)
              for one in ALONE),
        small_test="what narrow Swin and NesT lose differs by less than 3 points, removal by "
                   "removal",
        small=tuple(_steadier("figure_a2", "NesT", "Swin", ("alone", one), -SMALL_NEAR, SMALL_NEAR,
                              "small") for one in ALONE),
    ),
    Claim(
        "taught-84.9", "A.3",
        "With such a weak teacher distillation, NesT-B is able to achieve 84.9% CIFAR100 accuracy "
        "with 300 epochs",
        "NesT-B taught by PN-164-270 (standard) above 84.4 %",
        (_reaches(_taught("NesT-B", "cifar100", "PN-164-270"),
                  paper.TABLE_A2_NEST_BASE["PN-164-270"][0]),),
    ),
    Claim(
        "taught-86.1", "A.3", "even 86.1% with 1000 epoch training using 2 GPUs.",
        "the same at 1,000 epochs above 85.6 %; the sentence does not name the teacher",
        (_reaches(Mean("table_a2", ("cifar100", "NesT-B", "PN-164-270", "standard", "hard",
                                   "1000 epochs")), paper.TABLE_A2_1000_EPOCHS),),
    ),
    Claim(
        "teaching-helps", "A.3",
        "Convnet teacher distillation [49] is effective to further improve our method as well as "
        "DeiT.",
        "NesT-B and DeiT-B taught by PN-164-48 (standard) above themselves alone, on both sets",
        tuple(_better(_taught(n, d), _row(n, d)) for n in ("NesT-B", "DeiT-B") for d in CIFAR),
        printed=_printed_taught(),
        small_test="narrow NesT and DeiT taught by a narrow PyramidNet above themselves alone",
        small=tuple(_better(_taught(n, "cifar10", "PN", budget="small"),
                            Mean("table_a2", ("cifar10", n, "alone"), "small"))
                    for n in ("NesT", "DeiT")),
    ),
    Claim(
        "strong-teachers", "A.3", "data augmentation can improve teacher performance",
        "both teachers better with strong augmentation",
        tuple(_better(Mean("table_a2", ("cifar100", "teacher", n, "strong")),
                      Mean("table_a2", ("cifar100", "teacher", n, "standard")))
              for n in paper.TABLE_A2_TEACHERS),
        printed=_printed_pairs(
            "Table A2", {n: (b, a) for n, (a, b) in paper.TABLE_A2_TEACHERS.items()}),
    ),
    Claim(
        "strong-lessons", "A.3",
        "If the teacher and target model are both trained with strong augmentation, the "
        "performance decreases either for a small teacher or a big teacher.",
        "NesT-B better taught by the standard one of either teacher",
        tuple(_better(_taught("NesT-B", "cifar100", n), _taught("NesT-B", "cifar100", n, "strong"))
              for n in paper.TABLE_A2_NEST_BASE),
        printed=_printed_pairs("Table A2", paper.TABLE_A2_NEST_BASE),
    ),
    Claim(
        "heads", "A.3", "the number of heads affects less to the final performance.",
        "each of 1 to 96 heads within half a point of 12 (multi-head, so at equal parameters)",
        tuple(_near(_heads(n), _heads(12)) for n in HEADS if n != 12), printed=_printed_heads(),
        small_test="1, 3 and 6 heads within 3 points of 12 (multi-head, d = 48)",
        small=tuple(_near(_heads(n, "small"), _heads(12, "small"), SMALL_NEAR)
                    for n in SMALL_HEADS if n != 12),
    ),
)  # fmt: skip
