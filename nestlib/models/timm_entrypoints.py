"""NesT in timm's registry: `timm.create_model("nestlib_nest_tiny_imagenet")`.

timm's own scripts then train, validate and benchmark these models, once `import nestlib` has run.
"""

import importlib.util
import sys
from functools import partial
from importlib.abc import MetaPathFinder

from nestlib.models import PUBLISHED, create_model
from nestlib.models.nest import NEST_MODELS, NesT

_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


def register_with_timm() -> None:
    """Register all NesTs: now if timm is imported already, else when it is.

    So `import nestlib` does not wait for timm, whose import takes longer than torch's.
    """
    if "timm" in sys.modules:
        _register_all()
    else:
        sys.meta_path.insert(0, _TimmFinder())


class _TimmFinder(MetaPathFinder):
    """Registers behind timm's import. To look for timm without importing it changes nothing."""

    looking = False

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "timm" or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.looking = False
        if spec is not None:
            spec.loader.exec_module = partial(self._import, spec.loader.exec_module)
        return spec

    def _import(self, execute, module):
        execute(module)
        sys.meta_path.remove(self)
        _register_all()


def _register_all() -> None:
    from timm.models import register_model

    for name in NEST_MODELS:
        register_model(_make_entrypoint(name))


def _make_entrypoint(name: str):
    def entrypoint(pretrained: bool = False, **options) -> NesT:
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        # timm hands these to every model; they say nothing about the architecture.
        for meta in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            options.pop(meta, None)
        model = create_model(name, pretrained=pretrained, **options)
        imagenet = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
        model.pretrained_cfg = model.default_cfg = {
            "architecture": entrypoint.__name__,
            "input_size": (model.patch_embed.in_channels, *model.img_size),
            "num_classes": model.num_classes,
            **(_CIFAR if name.endswith("_cifar") else imagenet),
            "interpolation": "bicubic", "crop_mode": "center",
            "crop_pct": 0.875 if name.endswith("_imagenet") else 1.0,  # small images stay whole
            "first_conv": "patch_embed", "classifier": "head",
            "hf_hub_id": f"timm/{PUBLISHED[name]}" if name in PUBLISHED else None,
        }  # fmt: skip
        return model

    entrypoint.__name__ = f"nestlib_{name}"
    entrypoint.__module__ = __name__
    return entrypoint
