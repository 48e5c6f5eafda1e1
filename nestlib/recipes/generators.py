"""Generators to train, by name: NesT's decoders of figure 7, and narrow ones on the digits.

    nest train digits/gan_nest_narrow
    nest train tiny_imagenet/gan_nest --data-dir data/tiny_imagenet

They stand in `nestlib.recipes.named.NAMED` with all others. Settings are appendix A.4's; what it
leaves open is said in nestlib.models.generator and nestlib.training.gan. The paper trains on
ImageNet, "all images are resized to 64x64" (section 4.5), for how many steps is not said. One GPU
takes Tiny ImageNet-100, whose 30,000 images would be learnt by heart without differentiable
augmentation.
"""

from typing import Any

# What every GAN of a data set shares; the rest are GanRecipe's own defaults (appendix A.4).
GAN_DEFAULTS: dict[str, dict[str, Any]] = {
    # Minutes a run on a CPU: narrow networks, large digits, and a rate and a penalty for batches of
    # 16 (R1's gamma is of the order of the pixels over the batch: StyleGAN2-ADA, appendix C).
    "digits": dict(
        dataset="digits", dataset_options=dict(canvas="plain", digit_edges=[0.7, 0.9]),
        discriminator_options=dict(channel_base=512, max_channels=128), image_size=32, steps=2000,
        steps_per_row=100, batch_size=16, lr=1e-3, r1_gamma=1.0, ema_decay=0.99, flip=False,
        num_samples=256, budget="quick",
    ),
    "tiny_imagenet": dict(
        dataset="tiny_imagenet", precision="bf16", diff_augment="color,translation,cutout",
    ),
    "imagenet": dict(
        dataset="imagenet", dataset_options=dict(squeeze=True), precision="bf16", budget="paper",
    ),
}  # fmt: skip

# NesT's un-samplings (figure 7, middle), by the names of nestlib.models.deaggregation.
UNSAMPLINGS = {
    name: "gan_nest" if name == "PS" else f"gan_nest_{name.lower().replace('-', '_')}"
    for name in ("PS", "PS-C3", "C3-PS", "NN", "NN-C3", "C3-NN")
}

# Layers of each hierarchy, image side first.
NARROW = dict(embed_dim=128, depths=[1, 2, 3], latent_dim=64)

# name: (what it is, its differences).
NAMED_GANS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits/gan_nest_narrow": (
        "narrow NesT decoder (d = 128 to 8, 3 hierarchies) on the embedded digits",
        dict(generator="nest_decoder", generator_options=NARROW),
    ),
    "digits/gan_nest_reshaped_narrow": (
        "the same with as much noise as the top hierarchy takes, reshaped alone",
        dict(generator="nest_decoder", generator_options=dict(NARROW, latent_dim=None)),
    ),
}  # fmt: skip
NAMED_GANS |= {
    f"{dataset}/{name}": (text, dict(generator="nest_decoder", generator_options=options))
    for dataset in ("tiny_imagenet", "imagenet")
    for name, text, options in (
        ("gan_nest", "figure 7, NesT decoder by Table A4, pixel shuffle", {}),
        ("gan_nest_reshaped", "the same with noise of n x d values, reshaped alone",
         dict(latent_dim=None)),
    )
}  # fmt: skip
NAMED_GANS |= {
    f"{dataset}/{name}{suffix}": (
        f"figure 7, {'narrow ' if suffix else ''}NesT decoder by un-sampling {unsampling}",
        dict(generator="nest_decoder", generator_options=dict(**width, unsampling=unsampling)),
    )
    for unsampling, name in UNSAMPLINGS.items() if unsampling != "PS"
    for dataset, suffix, width in (
        ("digits", "_narrow", NARROW), ("tiny_imagenet", "", {}), ("imagenet", "", {}),
    )
}  # fmt: skip
