"""What the paper prints: its numbers as data, keyed by its own row names (arXiv 2105.12723v1).

Nothing here was measured by us. A test compares these with an independent transcription.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table1Row:
    """Table 1, input 32x32, 300 epochs. A question mark is the paper's own."""

    group: str
    params_m: float  # millions
    gpu_memory_mb: float
    images_per_second: float  # inference on a single GPU, which the table does not name
    cifar10: float  # test accuracy, %
    cifar100: float
    unsure: bool = False  # "?": training tends to diverge


_FULL, _LOCAL = "transformer, full attention", "transformer, local attention"

# The original misplaces CCT-7/3x1 between the groups; it attends to the whole image.
TABLE1 = {
    "Pyramid-164-48": Table1Row("convnet", 1.7, 126, 3715.9, 95.97, 80.70),
    "WRN28-10": Table1Row("convnet", 36.5, 202, 1510.8, 95.83, 80.75),
    "DeiT-T": Table1Row(_FULL, 5.3, 158, 1905.3, 88.39, 67.52),
    "DeiT-S": Table1Row(_FULL, 21.3, 356, 734.7, 92.44, 69.78),
    "DeiT-B": Table1Row(_FULL, 85.1, 873, 233.7, 92.41, 70.49),
    "PVT-T": Table1Row(_FULL, 12.8, 266, 1478.1, 90.51, 69.62),
    "PVT-S": Table1Row(_FULL, 24.1, 477, 707.2, 92.34, 69.79),
    "PVT-B": Table1Row(_FULL, 60.9, 990, 315.1, 85.05, 43.78, unsure=True),
    "CCT-7/3x1": Table1Row(_FULL, 3.7, 94, 3040.2, 94.72, 76.67),
    "Swin-T": Table1Row(_LOCAL, 27.5, 183, 2399.2, 94.46, 78.07),
    "Swin-S": Table1Row(_LOCAL, 48.8, 311, 1372.5, 94.17, 77.01),
    "Swin-B": Table1Row(_LOCAL, 86.7, 497, 868.3, 94.55, 78.45),
    "NesT-T": Table1Row(_LOCAL, 6.2, 187, 1616.9, 96.04, 78.69),
    "NesT-S": Table1Row(_LOCAL, 23.4, 411, 627.9, 96.97, 81.70),
    "NesT-B": Table1Row(_LOCAL, 90.1, 984, 189.8, 97.20, 82.56),
}


@dataclass(frozen=True)
class Table2Row:
    """Table 2, ImageNet-1k at the size given, 300 epochs in the paper's own runs."""

    group: str
    image_size: int  # pixels
    params_m: float  # millions
    gflops: float  # multiply-adds
    images_per_second: float  # inference on a single GPU, which the table does not name
    top1: float  # accuracy on the validation images, %


TABLE2 = {
    "ResNet-50": Table2Row("convnet", 224, 25, 3.9, 1226.1, 76.2),
    "RegNetY-4G": Table2Row("convnet", 224, 21, 4.0, 1156.7, 80.0),
    "RegNetY-16G": Table2Row("convnet", 224, 84, 16.0, 334.7, 82.9),
    "EffNet-B3": Table2Row("convnet", 300, 12, 1.8, 732.1, 81.6),
    "EffNet-B5": Table2Row("convnet", 456, 30, 9.9, 169.1, 83.6),
    "ViT-B/16": Table2Row(_FULL, 384, 86, 55.4, 85.9, 77.9),
    "DeiT-S": Table2Row(_FULL, 224, 22, 4.6, 940.4, 79.8),
    "DeiT-B": Table2Row(_FULL, 224, 86, 17.5, 292.3, 81.8),
    "Swin-T": Table2Row(_LOCAL, 224, 29, 4.5, 755.2, 81.3),
    "Swin-S": Table2Row(_LOCAL, 224, 50, 8.7, 436.9, 83.0),
    "Swin-B": Table2Row(_LOCAL, 224, 88, 15.4, 278.1, 83.3),
    "NesT-T": Table2Row(_LOCAL, 224, 17, 5.8, 633.9, 81.5),
    "NesT-S": Table2Row(_LOCAL, 224, 38, 10.4, 374.5, 83.3),
    "NesT-B": Table2Row(_LOCAL, 224, 68, 17.9, 235.8, 83.8),
}


@dataclass(frozen=True)
class TableA1Row:
    """One line of Table A1: [d, h] x layers, blocks of each hierarchy, in the paper's order 1 to 5
    (1 is the top; "forward direction is 5 to 1")."""

    input_size: int
    patch_size: int  # S
    block_edge: int  # sequence length n = block_edge**2
    hierarchies: tuple[tuple[str, str, int | str, int], ...]  # width, heads, layers, blocks


# Figure 8, right: top-1 localization error (%) on ImageNet's validation images, each method with
# the threshold that is best for it on them (appendix A.5).
FIGURE8 = {
    "DeiT RollOut": 67.6,
    "ADL": 55.1,
    "ACoL": 54.2,
    "R50 GradCAM++": 53.5,
    "NesT CAM": 51.8,
}
FIGURE8_CITED = ("ADL", "ACoL")  # from their own papers; the others are the authors' runs
# What later methods print of themselves on the same images: 100 - their top-1 accuracy.
FIGURE8_LATER = {
    "TS-CAM (2021)": (46.6, "README of github.com/vasgaowei/TS-CAM, DeiT-S"),
    "SAT (2023)": (39.85, "README of github.com/wpy1999/SAT"),
}

# d, h and k of the tiny, small and base models.
TABLE_A1_CIFAR = {"d": (192, 384, 768), "h": (3, 6, 12)}
TABLE_A1_IMAGENET = {"d": (96, 96, 128), "h": (3, 6, 12), "k": (8, 20, 20)}
# The authors' correction (nested-transformer issue 2) and their code.
TABLE_A1_IMAGENET_CORRECTED = {"d": (96, 96, 128), "h": (3, 3, 4), "k": (8, 20, 20)}


def _equal_hierarchies(layers: int, depth: int) -> tuple[tuple[str, str, int | str, int], ...]:
    return tuple(("d", "h", layers, 4**i) for i in range(depth))


TABLE_A1 = (
    TableA1Row(32, 1, 8, _equal_hierarchies(4, 3)),
    TableA1Row(32, 1, 4, _equal_hierarchies(3, 4)),
    TableA1Row(32, 1, 2, _equal_hierarchies(2, 5)),
    TableA1Row(224, 4, 14, (("d", "h", 2, 1), ("2d", "2h", 2, 4), ("4d", "4h", "k", 16))),
)
TABLE_A1_IMAGENET_ROW_CORRECTED = TableA1Row(
    224, 4, 14, (("4d", "4h", "k", 1), ("2d", "2h", 2, 4), ("d", "h", 2, 16))
)

# Figure 1, the body of Aggregate; z stands where the print has x, a slip, in its second line.
FIGURE1_AGGREGATE = ("z = UnBlock(x)", "z = ConvNormMaxPool_i(z)", "return Block(z)")

# Figure 4, left: NesT-B on ImageNet by total epochs, as the text names them; the rest are curves.
FIGURE4_EPOCHS = {30: 75.9, 100: 82.3, 300: 83.8}
# Figure 4, right: ImageNet top-1 of (DeiT-B, NesT-T) with one augmentation removed.
FIGURE4_REMOVED = {
    "none": (81.8, 81.5), "RandomErasing": (4.3, 81.4), "RandAugment": (79.6, 81.2),
    "CutMix&MixUp": (75.8, 79.8),
}  # fmt: skip
# Section 4.1 on figure 6: NesT3-T with S = 2, CIFAR-10 accuracy and images/s.
FIGURE6_NEST3_TINY = (94.5, 5384)
# Table A2, left: CIFAR-100 with a teacher trained by (standard, strong) augmentation.
TABLE_A2_TEACHERS = {"PN-164-48": (80.7, 81.5), "PN-164-270": (83.4, 84.9)}
TABLE_A2_NEST_BASE = {"PN-164-48": (84.5, 83.7), "PN-164-270": (84.9, 83.8)}  # by teacher
# Table A2, right: CIFAR-10 and CIFAR-100 alone, then taught by PN-164-48 (standard).
TABLE_A2_TAUGHT = {"DeiT-B": (92.4, 70.5, 95.5, 81.5), "NesT-B": (97.2, 82.6, 97.1, 84.5)}
TABLE_A2_1000_EPOCHS = 86.1  # NesT-B on CIFAR-100; the teacher is not said
# Table A3: CIFAR-10 accuracy of NesT4-B by number of heads.
TABLE_A3 = {1: 97.1, 2: 96.85, 3: 96.92, 6: 97.07, 12: 97.21, 24: 97.01, 48: 97.03, 96: 97.08}

# Table A4, 64x64: d = 1024, h = 4, n = 8x8; hierarchy: (width, heads, layers, blocks), in forward
# direction. The table prints the widths as d, d/4, d/16 and d/64.
TABLE_A4 = {4: (1024, 4, 5, 1), 3: (256, 4, 3, 4), 2: (64, 4, 3, 16), 1: (16, 4, 2, 64)}
TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE = 8, 64

# Figure 7 prints curves and bars without numbers; these two stand in the text (section 4.5).
FIGURE7_THROUGHPUT_RATIO = 8  # NesT's decoder over TransGAN's
FIGURE7_BEST_UNSAMPLING = "PS"
