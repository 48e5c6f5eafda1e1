"""What has a name and becomes a model: models, and the recipes that train them."""

from torch import nn

from nestlib import models


def list_models(*, pretrained: bool = False) -> list[str]:
    """Names of models that `create_model` takes: NesT's, then those of nestlib.extensions.

    Args:
        pretrained: list what has weights instead: models with published ones, then recipes whose
            trained weights are committed.
    """
    if not pretrained:
        return models.list_models()
    from nestlib.runs.pretrained import list_committed

    return [*models.list_models(pretrained=True), *list_committed()]


def create_model(name: str, *, pretrained: bool = False, **options) -> nn.Module:
    """Build a model by its name or by that of the recipe that trains it, on the CPU.

    Args:
        name: one of `list_models()`; or a recipe, such as "digits/nest_planted", for the model that
            it trains, with its options, image size and number of classes.
        pretrained: load weights; `list_models(pretrained=True)` names what has them. Those of a
            model are the published ones, for ImageNet (`*_imagenet`; needs a network). Those of a
            recipe are its run's: of this machine, or committed ones, which come with nestlib. With
            another num_classes the head is a fresh one.
        options: num_classes, img_size, drop_path_rate and whatever else the model takes:
            `create_model("nest_tiny_cifar", patch_size=2, num_hierarchies=3)`. Of a recipe's
            weights also seed, of its run (default: the lowest with committed weights, else with
            any).

    Returns:
        The model in training mode.

    Raises:
        ValueError: an unknown name (the message lists near ones), no published weights,
            or what the model itself refuses.
        TypeError: an option that the model does not take.
        FileNotFoundError: a recipe without weights; the message says which command makes them.
        OSError: a recipe's weights that are damaged, or cannot be fetched.
        RuntimeError: weights of other parts than the options ask for, as torch lists them.
    """
    if "/" not in name:
        return models.create_model(name, pretrained=pretrained, **options)
    from nestlib.runs.pretrained import create_from_recipe  # imports data sets, so torchvision

    return create_from_recipe(name, pretrained=pretrained, **options)
