"""Class maps of NesT and of its rivals in the paper's figures 8 and A4, by one call.

"cam": Zhou et al. (arXiv 1512.04150) and nestlib.explain.cam, for any linear head over a mean.
"gradcam", "gradcam++": arXiv 1610.02391 and 1710.11063, computed by pytorch-grad-cam. "rollout":
Abnar and Zuidema (2005.00928), as improved by github.com/jacobgil/vit-explain, the paper's [18].

Shapes: B images, C channels and h x w places of the last map, K classes; N tokens, L layers of a
vision transformer.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from nestlib.choices import choose
from nestlib.explain.cam import (
    Classes,
    cam,
    check_classifier,
    check_finite,
    check_images,
    check_logits,
    choose_classes,
    exact_maps,
)
from nestlib.models.mode import running_mode, taking_gradients
from nestlib.models.nest import NesT

DISCARDED = 0.9  # of an image's attention values in every layer, by rollout


def class_maps(method: str, model: nn.Module, images: Tensor, classes: Classes = None) -> Tensor:
    """Maps (B, h, w) on the model's own grid, neither resized nor normalised; high where it looked.

    "cam": any sign, and its mean is the logit. "gradcam" and "gradcam++": 0 or more; on a linear
    head over a mean Grad-CAM is relu(cam - bias) / (h w), so it adds nothing to CAM but a ReLU.
    "rollout": shares of the class token's attention, the same for every class. All run a batch at
    once and leave the model as it was: its mode, its gradients, its hooks.

    Args:
        method: one of METHODS.
        model: a nestlib NesT; for the first three also a timm convnet, for "rollout" a timm
            VisionTransformer with a class token.
        images: (B, 3, H, W), normalised as the model was trained, of the model's type.
        classes: one for all images or one per image; None takes the predicted ones.

    Raises:
        ValueError: an unknown method, images that do not fit or are not finite, a model without
            classes, unknown classes, or weights made in inference mode.
        TypeError: a model that the method cannot explain.
    """
    compute = choose("method", method, METHODS)
    check_images(model, images)
    with running_mode(model, training=False):
        return compute(model, images, classes)


def rollout(attentions: Tensor) -> Tensor:
    """How much of every token has reached every other after L layers: (B, N, N), rows sum to 1.

    In every layer the lowest `DISCARDED` of an image's values become 0, all but the class token's
    attention to itself; the identity is added for the skip connection; rows are scaled to sum to 1.
    [18]'s code divides column j by the sum of row j, by a missing keepdim; ours does not.

    Args:
        attentions: (L, B, N, N), one matrix a layer, first layer first.
    """
    N = attentions.shape[-1]
    flat = attentions.flatten(2)
    lowest = flat.topk(int(N * N * DISCARDED), largest=False).indices
    kept = flat.scatter(2, lowest, 0.0)
    kept[..., 0] = flat[..., 0]
    mixed = kept.unflatten(2, (N, N)) + torch.eye(N, dtype=kept.dtype, device=kept.device)
    mixed = mixed / mixed.sum(-1, keepdim=True)
    joint = mixed[0]
    for layer in mixed[1:]:
        joint = layer @ joint
    return joint


def largest_attentions(model: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K), and every layer's attention, the largest of its heads: (L, B, N, N).

    Computed from queries and keys, as timm's fused attention has no matrix to look at.

    Args:
        images: (B, 3, H, W), normalised as the model was trained.

    Raises:
        TypeError: no timm VisionTransformer of plain attention layers.
    """
    layers = [getattr(block, "attn", None) for block in getattr(model, "blocks", [])]
    plain = layers and all(isinstance(attn, Attention) for attn in layers)
    if not isinstance(model, VisionTransformer) or not plain:
        raise TypeError(
            f"{type(model).__name__} has no attention over all patches to roll out; use a timm "
            "VisionTransformer (deit_*, vit_*)"
        )
    found = []

    def keep(attn: Attention, module: nn.Module, inputs: tuple, qkv: Tensor) -> None:
        found.append(_attention(attn, qkv).amax(1))

    hooks = [attn.qkv.register_forward_hook(partial(keep, attn)) for attn in layers]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, torch.stack(found)


def _attention(attn: Attention, qkv: Tensor) -> Tensor:
    """Output of timm's linear map, (B, N, 3 heads D) -> softmax(q k^T / sqrt(D)), (B, heads, N, N).

    In fp32 at least: ranks among thousands of values decide what rollout discards.
    """
    B, N, _ = qkv.shape
    q, k, _ = qkv.reshape(B, N, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    q, k = (_at_least_fp32(x) for x in (attn.q_norm(q), attn.k_norm(k)))
    return (q * attn.scale @ k.transpose(-2, -1)).softmax(-1)


def _rollout_map(model: nn.Module, images: Tensor, classes: Classes) -> Tensor:
    """The class token's row of the rollout, on the grid of patches."""
    if isinstance(model, VisionTransformer) and model.cls_token is None:
        raise TypeError(
            "this VisionTransformer has no class token whose attention could be rolled out; "
            "build it with class_token=True"
        )
    try:
        logits, attentions = largest_attentions(model, images)
    except AssertionError as error:  # timm's for a size it was not built for
        raise ValueError(f"images {tuple(images.shape[-2:])} do not fit: {error}") from error
    check_finite(logits)
    if classes is not None:
        check_classifier(model)
    choose_classes(classes, logits)  # the map is the same for all, but a wrong one is a mistake
    row = rollout(attentions)[:, 0, model.num_prefix_tokens :]
    grid = model.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))
    return row.unflatten(1, grid)


def _cam(model: nn.Module, images: Tensor, classes: Classes) -> Tensor:
    """CAM, exact or refused."""
    if isinstance(model, NesT):
        return cam(model, images, classes)
    features = _last_map(model, images)
    with torch.no_grad():
        logits = model.forward_head(features)
        check_logits(model, images, logits)
        return exact_maps(model, features, logits, classes)


def _grad_cam(method: str, model: nn.Module, images: Tensor, classes: Classes) -> Tensor:
    """A class of pytorch-grad-cam weighs the last map, the one that the head pools.

    Only its weights and weighted sum are used. Its constructor (1.5.7) leaves the model in
    evaluation mode. Its call would hook a layer, zero and fill the weights' gradients, and return
    maps resized and scaled to 0..1 one by one; hooked to a NesT's norm or a layer of timm's Swin,
    whose channels are last, it would return nonsense without a word.

    Grad-CAM++ is derived for maps of 0 or more, as a ReLU leaves; on others (NesT's LayerNorm,
    EfficientNet's SiLU) its denominator can cross 0.
    """
    import pytorch_grad_cam

    with taking_gradients(model):
        features = _last_map(model, images).requires_grad_()
        logits = model.forward_head(features)
        check_logits(model, images, logits)
        check_finite(logits)
        chosen = choose_classes(classes, logits)
        score = logits.gather(1, chosen[:, None]).sum()
        (gradients,) = torch.autograd.grad(score, features)
    explainer = getattr(pytorch_grad_cam, method)(model, target_layers=[])  # so it hooks nothing
    maps = explainer.get_cam_image(images, None, None, _numpy(features), _numpy(gradients))
    return torch.from_numpy(maps).to(images.device).relu()


def _last_map(model: nn.Module, images: Tensor) -> Tensor:
    """The map (B, C, h, w) that the head pools, without a graph.

    Raises:
        TypeError: a model without timm's interface, with tokens, or with channels last.
        ValueError: a model without classes.
    """
    name = type(model).__name__
    missing = [
        method for method in ("forward_features", "forward_head", "get_classifier")
        if not hasattr(model, method)
    ]  # fmt: skip
    if missing:
        raise TypeError(f"{name} has no {missing[0]}; give a nestlib NesT or a timm convnet")
    check_classifier(model)
    with torch.no_grad():
        features = model.forward_features(images)
    if features.ndim == 4 and getattr(model, "output_fmt", None) == "NHWC":
        raise TypeError(
            f"{name}'s last features {tuple(features.shape)} have their channels last (h x w x C); "
            "give a NesT, or a convnet whose features are (B, C, h, w)"
        )
    if features.ndim != 4 or features.shape[1] != model.num_features:
        raise TypeError(
            f"{name}'s last features {tuple(features.shape)} are not a map (B, C, h, w) of "
            f"{model.num_features} channels; for a class-token model use rollout"
        )
    return features.detach()


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _numpy(x: Tensor) -> np.ndarray:
    return _at_least_fp32(x.detach()).cpu().numpy()


METHODS: dict[str, Callable[[nn.Module, Tensor, Classes], Tensor]] = {
    "cam": _cam,
    "gradcam": partial(_grad_cam, "GradCAM"),
    "gradcam++": partial(_grad_cam, "GradCAMPlusPlus"),
    "rollout": _rollout_map,
}
