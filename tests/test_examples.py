"""The figures' examples are what GradCAT and the maps give on the images that they name."""

import numpy as np
import pytest
import torch

from nestlib.data.augment import normalize
from nestlib.examples import FIGURE_A4, map_images, walk_four_digits, walk_lone_digits
from nestlib.explain import gradcat
from nestlib.planted import load_canvases
from nestlib.records import Store
from nestlib.trained import load_trained


def test_four_digits_are_walked_by_the_committed_model():
    walks = walk_four_digits(5)
    canvases = load_canvases("four")
    image = canvases.images[5:6]
    assert (walks.images[0] == image[0].permute(1, 2, 0).numpy()).all()
    assert walks.class_names == tuple(str(int(k)) for k in canvases.box_labels[5])
    model = load_trained("digits/nest_planted", seed=2)
    for row, label in enumerate(canvases.box_labels[5]):
        alone = gradcat(model, normalize(image, canvases.mean, canvases.std), int(label))
        assert (walks.traversal.path[row] == alone.path[0]).all()
    with pytest.raises(ValueError, match="canvas 128 is not one of 0 to 127"):
        walk_four_digits(128)


def test_lone_digits_are_walked_for_the_predicted_class_and_say_the_true_one():
    walks = walk_lone_digits(8)
    predicted = walks.traversal.logits.argmax(1)
    assert (walks.traversal.classes == predicted).all()
    assert [int(name[0]) for name in walks.class_names] == predicted.tolist()
    wrong = [name for name in walks.class_names if "true" in name]
    assert len(wrong) < 8 and all(name[0] != name[-2] for name in wrong)


def test_smoke_takes_untrained_models(tmp_path):
    torch.manual_seed(0)
    assert len(walk_four_digits(budget="smoke").images) == 4
    store = Store(tmp_path, tmp_path)
    maps = map_images(store, budget="smoke", count=2)
    assert set(maps.maps) == set(FIGURE_A4)
    assert all(m.shape == (2, 8, 8) for m in maps.maps.values())
    assert maps.titles == ("0", "1") and np.ndim(maps.boxes) == 3
    with pytest.raises(OSError, match="no finished run digits/resnet_planted"):
        map_images(store)
