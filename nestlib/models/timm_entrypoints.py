"""NesT in timm's registry: `timm.create_model("nestlib_nest_tiny_imagenet")`.

timm's own scripts then train, validate and benchmark these models, once `import nestlib` has run.
"""

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import register_model

from nestlib.models import PUBLISHED, create_model
from nestlib.models.nest import NEST_MODELS, NesT

_IMAGENET = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **options) -> NesT:
        # timm hands these to every model; they say nothing about the architecture.
        for meta in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            options.pop(meta, None)
        model = create_model(name, pretrained=pretrained, **options)
        model.pretrained_cfg = model.default_cfg = {
            "architecture": entrypoint.__name__,
            "input_size": (model.patch_embed.in_channels, *model.img_size),
            "num_classes": model.num_classes,
            **(_CIFAR if name.endswith("_cifar") else _IMAGENET),
            "interpolation": "bicubic", "crop_mode": "center",
            "crop_pct": 0.875 if name.endswith("_imagenet") else 1.0,  # small images stay whole
            "first_conv": "patch_embed", "classifier": "head",
            "hf_hub_id": f"timm/{PUBLISHED[name]}" if name in PUBLISHED else None,
        }  # fmt: skip
        return model

    entrypoint.__name__ = f"nestlib_{name}"
    entrypoint.__module__ = __name__
    register_model(entrypoint)


for _name in NEST_MODELS:
    _register(_name)
