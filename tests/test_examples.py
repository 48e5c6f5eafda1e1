"""The figures' examples are what GradCAT and the maps give on the images that they name."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from test_localizations import hub, write_boxes  # noqa: F401 (a fixture)

from nestbook.evaluations.examples import (
    FIGURE8_CLASSES,
    FIGURE_A4,
    FIGURE_A4_CLASSES,
    map_imagenet,
    map_images,
    walk_figure3,
    walk_figure8,
    walk_four_digits,
    walk_imagenet,
    walk_lone_digits,
)
from nestbook.evaluations.planted import load_canvases
from nestlib.data.augment import normalize
from nestlib.data.datasets import load_dataset
from nestlib.data.shard_maker import make_shards
from nestlib.explain import gradcat
from nestlib.records import Store
from nestlib.runs.weights import load_trained


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


def test_a_walk_is_a_hit_where_its_leaf_block_shows_the_digit():
    walks = walk_lone_digits(64)
    for hit, image, (x0, y0, x1, y1) in zip(
        walks.hits, walks.images.astype(int), walks.traversal.boxes[:, -1]
    ):
        ground = image[0, 0]  # a plain canvas
        ink = (abs(image - ground).sum(-1) > 120)[y0 : y1 + 1, x0 : x1 + 1].mean()
        assert ink > 0 if hit else ink < 0.5
    assert 0 < sum(walks.hits) < 64
    assert walk_four_digits().hits is None


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


# ImageNet


@pytest.fixture
def imagenet(tmp_path):
    """Two images of each class that the figures show, of brightness by class, with boxes."""
    folder = tmp_path / "imagenet"
    for k, wnid in enumerate((FIGURE8_CLASSES | FIGURE_A4_CLASSES).values()):
        (folder / "val" / wnid).mkdir(parents=True)
        for i in range(2):
            stem = f"{wnid}_{i}"
            Image.new("RGB", (60, 40), (30 * k, 90, 60 * i)).save(
                folder / "val" / wnid / f"{stem}.JPEG"
            )
            write_boxes(folder / "bbox" / "val", stem, (60, 40), [(wnid, (0, 0, 30, 40))])
    return folder


@pytest.mark.usefixtures("hub")
def test_figure8_walks_the_first_image_of_each_of_its_classes(imagenet):
    walks = walk_imagenet(imagenet)
    assert walks.images.shape == (4, 224, 224, 3)
    assert [round(int(image[0, 0, 0]) / 30) for image in walks.images] == [0, 1, 2, 3]
    assert (walks.images[..., 2] < 30).all()  # the first of two
    assert (walks.traversal.classes == walks.traversal.logits.argmax(1)).all()
    assert all(f"(true: {n})" in shown for n, shown in zip(FIGURE8_CLASSES, walks.class_names))
    (imagenet / "val" / "n03666591").rename(imagenet / "lighter")
    with pytest.raises(FileNotFoundError, match="no validation images of n03666591"):
        walk_imagenet(imagenet)


def test_figure8_says_what_it_needs():
    with pytest.raises(ValueError, match="no weights 'own'; valid: trained, pretrained"):
        walk_figure8("own")
    with pytest.raises(ValueError, match="give imagenet_dir too"):
        walk_figure8("pretrained")


@pytest.mark.usefixtures("hub")
def test_a_photo_is_walked_for_its_top_four_classes(imagenet):
    (path, *_) = sorted((imagenet / "val" / "n03666591").iterdir())
    walks = walk_figure3(image=str(path))
    logits = walks.traversal.logits[0]
    assert walks.traversal.classes.tolist() == logits.argsort()[::-1][:4].tolist()
    assert (walks.images == walks.images[0]).all() and len(set(walks.class_names)) == 4
    with pytest.raises(OSError, match="cannot read image"):
        walk_figure3(image=__file__)


@pytest.mark.usefixtures("hub")
def test_figure_a4_maps_the_first_image_of_each_of_its_classes(imagenet):
    maps = map_imagenet(imagenet)
    assert maps.titles == ("king penguin", "house finch", "bittern")
    assert {row: m.shape for row, m in maps.maps.items()} == {
        "R50 GradCAM++": (3, 7, 7), "DeiT RollOut": (3, 7, 7), "NesT CAM": (3, 14, 14)
    }  # fmt: skip
    assert (maps.boxes == [0, 0, 111, 223]).all()
    assert [round(int(image[0, 0, 0]) / 30) for image in maps.images] == [4, 5, 6]


@pytest.mark.usefixtures("hub")
def test_figures_of_shards_are_those_of_the_folder(imagenet, tmp_path):
    """Images, names and boxes alike, though shards find an image by its place, not its name."""
    shards = tmp_path / "shards"
    whole, maps = walk_imagenet(imagenet), map_imagenet(imagenet)
    (imagenet / "train").mkdir()
    for folder in (imagenet / "val").iterdir():
        shutil.copytree(folder, imagenet / "train" / folder.name)
    make_shards("imagenet", imagenet, shards, shard_mb=0.01, processes=1, progress=False)
    shutil.copytree(imagenet / "bbox", shards / "bbox")
    shutil.rmtree(imagenet)
    walked, found = walk_imagenet(shards), map_imagenet(shards)
    assert (walked.images == whole.images).all() and walked.class_names == whole.class_names
    assert (found.images == maps.images).all() and found.titles == maps.titles
    assert (found.boxes == maps.boxes).all()
    for row in FIGURE_A4:
        assert np.array_equal(found.maps[row], maps.maps[row])
    images = load_dataset("imagenet", "test", data_dir=shards, partial=True)
    picked = images.select(torch.tensor([9, 2]))
    for row, index in enumerate((9, 2)):  # every column moves with its image
        assert picked.where(row) == images.where(index)
        assert picked.read_bytes(row) == images.read_bytes(index)
        assert picked.labels[row] == images.labels[index]
