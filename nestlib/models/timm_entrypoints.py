"""NesT in timm's registry: `timm.create_model("nestlib_nest_tiny_imagenet")`.

timm has no entry point for other packages: `import nestlib` registers the models. timm's scripts do
not import it, so `python -m nestlib.timm train.py ...` runs them (`nestlib/timm.py`).
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib.abc import MetaPathFinder
from typing import Any

from torch import Tensor, nn

from nestlib.choices import check_choice
from nestlib.models import PUBLISHED, create_model
from nestlib.models.blocks import as_pair
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.weights import from_timm

PREFIX = "nestlib_"
ALL_LEVELS = {"out_indices": None}  # of features_only=True, where timm would ask for five


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
    from timm.models import generate_default_cfgs, register_model

    # register_model finds the configurations of a module's models under this name.
    globals()["default_cfgs"] = generate_default_cfgs({_tag(n): _describe(n) for n in NEST_MODELS})
    for name in NEST_MODELS:
        register_model(_make_entrypoint(name))


def _tag(name: str) -> str:
    """timm's name of a model and its published weights: nestlib_nest_tiny_imagenet.goog_in1k."""
    _, dot, tag = PUBLISHED.get(name, "").partition(".")
    return f"{PREFIX}{name}{dot}{tag}"


def _describe(name: str) -> dict[str, Any]:
    """timm's configuration: of a model's weights, its images and the names of its parts."""
    from nestlib.data.datasets import dataset_info  # imports torchvision

    build, options = NEST_MODELS[name]
    default = inspect.signature(build).parameters["img_size"].default
    small = name.endswith("_cifar")
    data = dataset_info("cifar10" if small else "imagenet")
    return {
        "input_size": (3, *as_pair(options.get("img_size", default))), "fixed_input_size": True,
        "mean": data.mean, "std": data.std, "interpolation": "bicubic",
        "crop_pct": 0.875 if name.endswith("_imagenet") else 1.0,  # small images stay whole
        "num_classes": 1000, "first_conv": "patch_embed", "classifier": "head",
        "license": "apache-2.0", "paper_ids": "arXiv:2105.12723",
        "hf_hub_id": f"timm/{PUBLISHED[name]}" if name in PUBLISHED else None,
    }  # fmt: skip


def _make_entrypoint(name: str) -> Callable[..., nn.Module]:
    def entrypoint(pretrained: bool = False, **options) -> nn.Module:
        from timm.models import build_model_with_cfg

        chosen = options.get("feature_cls", "getter")
        check_choice("feature_cls", chosen, ("getter",), "(hooks would see blocks, not maps)")
        model = build_model_with_cfg(
            partial(create_model, name), entrypoint.__name__, pretrained,
            pretrained_filter_fn=_to_ours, feature_cfg={"feature_cls": "getter", **ALL_LEVELS},
            **options,
        )  # fmt: skip
        if isinstance(model, NesT):
            model.remember()
        return model

    entrypoint.__name__ = entrypoint.__qualname__ = f"{PREFIX}{name}"
    entrypoint.__module__ = __name__
    return entrypoint


def _to_ours(state: dict[str, Tensor], model: NesT) -> dict[str, Tensor]:
    """The state dict of timm's NesT or of ours, as ours."""
    return from_timm(state, model) if "levels.0.pos_embed" in state else state
