"""The rows of the paper's tables and of figure 7, each with the name of its recipe."""

from dataclasses import dataclass

from nestlib.recipes.named import UNSAMPLINGS


@dataclass(frozen=True)
class Row:
    """A row of a table: its recipe, and its narrow relative, if there is one: digits/<it> at budget
    quick, small/<it> at small."""

    recipe: str
    narrow: str | None = None

    @property
    def quick(self) -> str | None:
        return self.narrow and f"digits/{self.narrow}"

    @property
    def small(self) -> str | None:
        return self.narrow and f"small/{self.narrow}"

    def on(self, dataset: str) -> str:
        """The recipe's name on a data set: cifar10/nest_tiny, on cifar100: cifar100/nest_tiny."""
        return f"{dataset}/{self.recipe.split('/')[1]}"


# One narrow relative an architecture; the larger sizes of a family have none.
TABLE1: dict[str, Row] = {
    "Pyramid-164-48": Row("cifar10/pyramid164_48", "pyramid_narrow"),
    "WRN28-10": Row("cifar10/wrn28_10", "wrn_narrow"),
    "DeiT-T": Row("cifar10/deit_tiny", "deit_narrow"),
    "DeiT-S": Row("cifar10/deit_small"),
    "DeiT-B": Row("cifar10/deit_base"),
    "PVT-T": Row("cifar10/pvt_tiny", "pvt_narrow"),
    "PVT-S": Row("cifar10/pvt_small"),
    "PVT-B": Row("cifar10/pvt_base"),
    "CCT-7/3x1": Row("cifar10/cct7_3x1", "cct_narrow"),
    "Swin-T": Row("cifar10/swin_tiny", "swin_narrow"),
    "Swin-S": Row("cifar10/swin_small"),
    "Swin-B": Row("cifar10/swin_base"),
    "NesT-T": Row("cifar10/nest_tiny", "nest_narrow"),
    "NesT-S": Row("cifar10/nest_small"),
    "NesT-B": Row("cifar10/nest_base"),
}
TABLE2: dict[str, Row] = {
    "ResNet-50": Row("imagenet/resnet50"),
    "RegNetY-4G": Row("imagenet/regnety_4g"),
    "RegNetY-16G": Row("imagenet/regnety_16g"),
    "EffNet-B3": Row("imagenet/efficientnet_b3"),
    "EffNet-B5": Row("imagenet/efficientnet_b5"),
    "ViT-B/16": Row("imagenet/vit_base_16"),
    "DeiT-S": Row("imagenet/deit_small"),
    "DeiT-B": Row("imagenet/deit_base"),
    "Swin-T": Row("imagenet/swin_tiny"),
    "Swin-S": Row("imagenet/swin_small"),
    "Swin-B": Row("imagenet/swin_base"),
    "NesT-T": Row("imagenet/nest_tiny"),
    "NesT-S": Row("imagenet/nest_small"),
    "NesT-B": Row("imagenet/nest_base"),
}


TABLES = {"table1": TABLE1, "table2": TABLE2}

# Figure 7, left and right: the three generators. Names as in the figure's legend.
FIGURE7_GENERATORS = {"NesT": "gan_nest", "TransGAN": "gan_transgan", "Convnet": "gan_convnet"}
# Figure 7, middle: NesT's un-samplings; pixel shuffle is the NesT of the left.
FIGURE7_UNSAMPLINGS = UNSAMPLINGS
# All rows; NesT stands for pixel shuffle too.
FIGURE7 = FIGURE7_GENERATORS | {
    name: recipe for name, recipe in FIGURE7_UNSAMPLINGS.items() if name != "PS"
}
