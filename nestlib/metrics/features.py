"""Networks whose features tell generated images from real ones.

Inception-v3 where its weights can be had, for what papers call FID; or any classifier that has
features of its own.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.data.augment import normalize
from nestlib.data.containers import Triple
from nestlib.models.mode import running_mode
from nestlib.models.weights import hash_weights


class FeatureNetwork(ABC):
    """Images (B, 3, H, W) uint8 -> features (B, D), logits (B, K); named, with its resize.

    The model is run in evaluation mode and left as it was.
    """

    name: str
    resize: str  # what is done to the images first
    # Of Fréchet distance, inception score and kernel distance by these features.
    score_names = "frechet_distance", "classifier_score", "kernel_distance"

    def __init__(self, model: nn.Module):
        self.model = model
        self.weights_sha256 = hash_weights(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with running_mode(self.model, training=False):
            return self.compute(images.to(self.device))

    @abstractmethod
    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D) and logits (B, K) of images (B, 3, H, W) uint8 on its device."""


class ClassifierFeatures(FeatureNetwork):
    """What a classifier's last linear layer sees, and its logits.

    Args:
        model: NesT, or one of timm's: it has forward_features and forward_head.
        mean, std: of pixels in 0..1, as it was trained.
        edge: images are resized to it; None: they are taken as they are.
    """

    def __init__(
        self, name: str, model: nn.Module, mean: Triple, std: Triple, edge: int | None = None
    ):
        super().__init__(model)
        self.name, self.mean, self.std, self.edge = name, mean, std, edge
        self.resize = f"bicubic, antialiased, to {edge}x{edge}" if edge else "none"

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.edge and images.shape[-2:] != (self.edge, self.edge):
            size = self.edge, self.edge
            images = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
            images = images.clamp(0, 255).round().byte()
        x = self.model.forward_features(normalize(images, self.mean, self.std))
        return self.model.forward_head(x, pre_logits=True), self.model.forward_head(x)


class InceptionFeatures(FeatureNetwork):
    """Inception-v3 as FID defines it (torch-fidelity's conversion of the first weights)."""

    name = "inception_v3, weights of 2015-12-05, by torch-fidelity"
    resize = "bilinear as TensorFlow 1's, to 299x299"
    score_names = "fid", "inception_score", "kid"

    def __init__(self, weights: Path | None = None):
        """Load the network.

        Args:
            weights: the file that torch-fidelity downloads; None: it downloads it.

        Raises:
            URLError: no network; give the file, or use EfficientNet-Lite0.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = None if weights is None else str(weights)
        options = {"feature_extractor_weights_path": path, "verbose": False}
        layers = ["2048", "logits_unbiased"]
        super().__init__(FeatureExtractorInceptionV3("inception-v3-compat", layers, **options))

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(images)
