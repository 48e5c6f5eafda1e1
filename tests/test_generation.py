"""Scores of generated images: closed forms, the library on the same features, and what is told."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from nestbook.evaluations.generators import build_lite0
from nestlib.data.datasets import load_dataset
from nestlib.metrics import generation
from nestlib.metrics.features import ClassifierFeatures, FeatureNetwork, InceptionFeatures
from nestlib.metrics.generation import (
    Statistics,
    compute_statistics,
    frechet_distance,
    generate,
    score_samples,
    to_bytes,
)
from nestlib.models import create_generator, create_model


def gaussian(mean, covariance):
    double = torch.float64
    return Statistics(torch.tensor(mean, dtype=double), torch.tensor(covariance, dtype=double), 2)


@pytest.mark.filterwarnings("ignore:Fréchet distance of")
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # One dimension: (m1 - m2)^2 + (s1 - s2)^2.
        (([1.0], [[4.0]]), ([4.0], [[9.0]]), 9 + 1),
        # Diagonal covariances, the sum over dimensions.
        (([0.0, 1], [[1.0, 0], [0, 16]]), ([2.0, 1], [[9.0, 0], [0, 4]]), 4 + 4 + 4),
        # A covariance and four times it: its trace, whatever its directions.
        (([0.0, 0], [[2.0, 1], [1, 3]]), ([0.0, 0], [[8.0, 4], [4, 12]]), 5),
        # A singular one, along (1, 1), against the identity: 2 + 2 - 2 sqrt(2).
        (([0.0, 0], [[1.0, 1], [1, 1]]), ([0.0, 0], [[1.0, 0], [0, 1]]), 4 - 2 * 2**0.5),
    ],
)
def test_frechet_distance_of_gaussians_known_by_hand(first, second, expected):
    first, second = gaussian(*first), gaussian(*second)
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-7)
    assert frechet_distance(second, first) == pytest.approx(expected, abs=1e-7)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-7)


@pytest.mark.filterwarnings("ignore:Fréchet distance of")
@pytest.mark.parametrize("count", [200, 20])  # with 20 of 32 dimensions both are singular
def test_frechet_distance_is_torch_fidelitys(count):
    torch.manual_seed(0)
    a = torch.randn(count, 32, dtype=torch.float64) @ torch.randn(32, 32, dtype=torch.float64)
    b = torch.randn(count + 5, 32, dtype=torch.float64) * 3 + 1
    expected = fid_statistics_to_metric(
        *map(fid_features_to_statistics, (a, b)), verbose=False
    )["frechet_inception_distance"]  # fmt: skip
    got = frechet_distance(compute_statistics(a), compute_statistics(b))
    assert got == pytest.approx(expected, rel=1e-6)
    statistics = compute_statistics(a.float())
    np.testing.assert_allclose(statistics.covariance, np.cov(a.float().double().T), rtol=1e-9)


@pytest.mark.parametrize(("count", "warns"), [(4, True), (5, False)])
def test_too_few_images_for_a_distance_are_warned_of(count, warns):
    """A covariance of n images has the rank n - 1 at most: 4 images leave 4 features singular."""
    torch.manual_seed(0)
    few, many = compute_statistics(torch.randn(count, 4)), compute_statistics(torch.randn(50, 4))
    assert (torch.linalg.matrix_rank(few.covariance) < 4) == warns
    for pair in ((few, many), (many, few)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frechet_distance(*pair)
        said = [str(warning.message) for warning in caught]
        assert len(said) == warns
        assert all("by 4 features: with fewer than 5 of each" in text for text in said)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="1 images have no covariance; give two or more"):
        compute_statistics(torch.zeros(1, 3))


class FirstPixels(FeatureNetwork):
    """Features are the first four pixels of the red plane / 255, logits 100 times them."""

    name, resize = "first pixels", "none"

    def __init__(self):
        super().__init__(nn.Linear(1, 1))
        self.calls = 0

    def compute(self, images):
        self.calls += 1
        features = images[:, 0, 0, :4].float() / 255
        return features, 100 * features


@pytest.fixture
def digits():
    return load_dataset("digits", "train", num_images=200)


def one_hot(count):
    """Images whose first four pixels are one of four unit vectors, in turn."""
    images = torch.zeros(count, 3, 32, 32, dtype=torch.uint8)
    images[torch.arange(count), 0, 0, torch.arange(count) % 4] = 255
    return images


def test_classifier_score_of_sure_and_even_predictions_is_the_number_of_classes(digits):
    sure = score_samples(one_hot(4000), digits, FirstPixels())
    assert sure["classifier_score"] == pytest.approx(4, rel=0.01)  # splits are not quite even
    alike = score_samples(torch.zeros_like(one_hot(100)), digits, FirstPixels())
    assert alike["classifier_score"] == pytest.approx(1) and alike["classifier_score_std"] == 0


def test_kernel_distance_is_its_definition(digits):
    """With subsets as large as the sets: (x.y / D + 1)^3, without the diagonal among equals."""
    samples, network = one_hot(200), FirstPixels()
    got = score_samples(samples, digits, network)
    x, y = (network.compute(images)[0].double().numpy() for images in (samples, digits.images))
    n = 200

    def kernel_sum(a, b):
        return sum((float(u @ v) / 4 + 1) ** 3 for u in a for v in b)

    diagonal = sum((float(u @ u) / 4 + 1) ** 3 for z in (x, y) for u in z)
    expected = (kernel_sum(x, x) + kernel_sum(y, y) - diagonal) / (n * (n - 1))
    expected -= 2 * kernel_sum(x, y) / n**2
    assert got["kernel_distance"] == pytest.approx(expected, rel=1e-6)
    assert got["kernel_distance_std"] == pytest.approx(0, abs=1e-9) and got["subsets"] == [100, n]


def test_a_score_tells_its_whole_pipeline_and_is_no_fid(digits):
    network = FirstPixels()
    result = score_samples(one_hot(40), digits, network, num_reference=50, seed=3)
    assert "fid" not in result and "inception_score" not in result
    assert result["feature_network"] == "first pixels" and result["resize"] == "none"
    assert result["feature_weights_sha256"] == network.weights_sha256
    assert result["reference"] == "digits train"
    assert result["reference_fingerprint"] == digits.fingerprint
    assert (result["num_samples"], result["num_reference"], result["seed"]) == (40, 50, 3)
    json.dumps(result, allow_nan=False)
    assert score_samples(one_hot(40), digits, network, num_reference=50, seed=3) == result
    other = score_samples(one_hot(40), digits, network, num_reference=50, seed=4)
    assert other["frechet_distance"] != result["frechet_distance"]


class ManyPixels(FirstPixels):
    def compute(self, images):
        return images[:, 0, :2].flatten(1).float() / 255, super().compute(images)[1]


def test_a_score_of_too_few_images_says_so_in_its_record(digits):
    with pytest.warns(UserWarning, match="of 40 and 200 images by 64 features"):
        few = score_samples(one_hot(40), digits, ManyPixels())
    assert "fewer than 65 of each" in few["note"]
    assert "note" not in score_samples(one_hot(70), digits, ManyPixels())


def test_the_data_is_nearer_to_itself_than_samples_are(digits):
    distances = [
        score_samples(x, digits, FirstPixels())["frechet_distance"]
        for x in (digits.images, digits.images.roll(3, 3), one_hot(200))
    ]
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[2] > distances[1] > 1e-4


def test_reference_features_are_kept_by_content(digits, tmp_path):
    network, options = FirstPixels(), {"cache_dir": tmp_path, "num_reference": 100}
    first = score_samples(one_hot(40), digits, network, **options)
    calls = network.calls  # one batch of samples, two of real images
    assert calls == 3
    assert score_samples(one_hot(40), digits, network, **options) == first
    assert network.calls == calls + 1
    (path,) = tmp_path.iterdir()
    for change in ({"seed": 1}, {"num_reference": 99}):
        score_samples(one_hot(40), digits, network, **(options | change))
    score_samples(one_hot(40), load_dataset("digits", "train", num_images=150), network, **options)
    assert len(list(tmp_path.iterdir())) == 4
    whole = path.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for damaged in (whole[:50], flipped, save({"other": torch.zeros(100, 4)})):
        path.write_bytes(damaged)  # computed anew
        assert score_samples(one_hot(40), digits, network, **options) == first
        assert len(path.read_bytes()) == len(whole) and len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_costs_no_score(digits, tmp_path, caplog):
    place = tmp_path / "file"
    place.touch()  # where a folder is needed
    network, options = FirstPixels(), {"num_reference": 100}
    first = score_samples(one_hot(40), digits, network, **options)
    assert score_samples(one_hot(40), digits, network, cache_dir=place, **options) == first
    assert "cannot keep the reference's features" in caplog.text


NAN = float("nan")


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (torch.full((9, 2), NAN), "features of image 0 hold NaN"),
        (torch.tensor([[0.0, 1], [2, float("inf")]]), "features of image 1 hold NaN, infinity"),
        (torch.full((9, 2), 1e200, dtype=torch.float64), "more than 1e"),
        (torch.zeros(9), r"features are torch.float32 \(9,\); give"),
        (torch.zeros(9, 2, dtype=torch.int64), "features are a Tensor; give"),
        (None, "features are a NoneType; give"),
    ],
)
def test_features_that_have_no_distance_are_named(features, reason):
    with pytest.raises(ValueError, match=reason):
        compute_statistics(features)


def test_bad_scores_are_named(digits):
    good = compute_statistics(torch.randn(9, 2))
    for other in (compute_statistics(torch.randn(9, 3)), replace(good, mean=good.mean * NAN)):
        with pytest.raises(ValueError, match=r"statistics of features \(2,\) and .* no distance"):
            frechet_distance(good, other)
    for samples in (one_hot(40).float(), one_hot(40)[:, :1], one_hot(40)[0], None):
        with pytest.raises(ValueError, match="samples are"):
            score_samples(samples, digits, FirstPixels())
    for seed in (-1, 2**32, 1.5, True):
        with pytest.raises(ValueError, match="seed is"):
            score_samples(one_hot(40), digits, FirstPixels(), seed=seed)
    model = create_generator("sagan_convnet", img_size=16, base_channels=2, latent_dim=4)
    for wrong in ({"count": 0}, {"count": 2.5}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            generate(model, **{"count": 2, "seed": 0} | wrong)
    with pytest.raises(ValueError, match="images hold NaN"):
        to_bytes(torch.full((1, 3, 2, 2), NAN))


def test_too_few_images_are_refused(digits):
    with pytest.raises(ValueError, match="5 samples and 200 of 200 reference images"):
        score_samples(one_hot(5), digits, FirstPixels())
    with pytest.raises(ValueError, match="201 of 200"):
        score_samples(one_hot(50), digits, FirstPixels(), num_reference=201)


def test_generated_images_follow_from_the_seed():
    torch.manual_seed(0)
    model = create_generator("sagan_convnet", img_size=16, base_channels=2, latent_dim=4).train()
    images = generate(model, 60, seed=1)
    assert images.shape == (60, 3, 16, 16) and images.dtype == torch.uint8
    assert torch.equal(images, generate(model, 60, seed=1)) and model.training
    assert torch.equal(images[:55], generate(model, 60, seed=1)[:55])
    assert not torch.equal(images, generate(model, 60, seed=2))
    model.eval()
    with torch.no_grad():
        noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
        expected = to_bytes(model(noise))
    assert (images.int() - expected.int()).abs().max() <= 1
    assert to_bytes(torch.tensor([-2.0, -1, 0, 1, 2])).tolist() == [0, 0, 128, 255, 255]


def test_a_classifiers_features_are_what_its_head_sees():
    torch.manual_seed(0)
    model = create_model("nest_tiny_cifar", num_classes=10, embed_dim=12)
    model.head_drop.p = 0.5  # which acts in training alone
    network = ClassifierFeatures("narrow", model, (0.5,) * 3, (0.25,) * 3)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    features, logits = network(images)
    torch.testing.assert_close(model.head(features), logits)
    assert network.resize == "none" and model.training  # left as it was
    torch.testing.assert_close(model.eval()((images.float() / 255 - 0.5) / 0.25), logits)


def test_lite0_knows_a_cat():
    """The package's weights in timm's model: scikit-image's cat is one of ImageNet's five cats."""
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(data.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None]
    network = build_lite0()
    features, logits = network(image)
    assert features.shape == (1, 1280) and logits.shape == (1, 1000)
    assert logits.argmax().item() in range(281, 286)
    assert network.score_names == ("frechet_distance", "classifier_score", "kernel_distance")
    assert network.resize == "bicubic, antialiased, to 224x224"
    # The file's own name ends in the first digits of its SHA-256, as torch hub's do.
    assert network.weights_sha256 == build_lite0(edge=64).weights_sha256


def test_inceptions_scores_have_the_published_names(tmp_path, monkeypatch):
    """torch-fidelity's network with random weights: its layers, and the names of its scores."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    torch.save({}, tmp_path / "weights.pth")
    network = InceptionFeatures(tmp_path / "weights.pth")
    features, logits = network(torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8))
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    assert network.score_names == ("fid", "inception_score", "kid")


def test_pixel_features_are_means_of_patches():
    images = torch.rand(2, 3, 32, 32) * 4 - 2  # out of -1..1, which is clipped
    features = generation.pixel_features(images)
    assert features.shape == (2, 192)
    expected = images[1, 2, 4:8, 28:32].clamp(-1, 1).mean()
    torch.testing.assert_close(features[1].view(3, 8, 8)[2, 1, 7], expected)
