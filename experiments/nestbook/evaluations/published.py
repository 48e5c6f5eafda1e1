"""Published ImageNet weights as timm describes them: the images they want, and their classes."""

from functools import cache

from timm.data import ImageNetInfo
from timm.models import PretrainedCfg

from nestlib.data.views import View


def view_of(pretrained_cfg: PretrainedCfg) -> View:
    """The view that timm's weights were trained for, not the larger one some are best at.

    Raises:
        ValueError: images that are not square, or are not cut from the middle.
    """
    cfg = pretrained_cfg
    _, height, width = cfg.input_size
    if height != width or cfg.crop_mode != "center":
        raise ValueError(
            f"{cfg.architecture}.{cfg.tag} wants {height} x {width} images, crop mode "
            f"{cfg.crop_mode!r}; only square images cut from the middle are supported: give other "
            "weights"
        )
    return View(height, cfg.crop_pct, cfg.interpolation, tuple(cfg.mean), tuple(cfg.std))


@cache
def imagenet_names() -> tuple[str, ...]:
    """ImageNet-1k's classes in words, the first of each one's synonyms, all different."""
    info = ImageNetInfo()
    names = [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]
    return tuple(
        f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names)
    )
