"""Figure 8's records: each error is that of a plain loop; what cannot be had is one line."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from plain_boxes import boxes_one_by_one
from test_accuracy import CLASSES, MEAN, STD, save_classes
from test_fetching import serve
from test_scores import train_again
from timm.data import ImageNetInfo
from timm.models.vision_transformer import VisionTransformer
from torchvision.ops import box_iou
from torchvision.transforms.functional import normalize as tv_normalize

from nestbook.evaluations import localizers
from nestbook.evaluations.classifiers import HubUnreachable, NotScored, stop_at_failures
from nestbook.evaluations.localizers import METHODS, localize, localize_figure8, localize_imagenet
from nestbook.records import Failure
from nestbook.report.localization import localization_table
from nestbook.sweeps.plans import FIGURE8, plan_figure8
from nestlib.data.shard_maker import make_shards
from nestlib.explain.cam import cam
from nestlib.models.nest import NesT
from nestlib.recipes.named import get_recipe
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.weights import train_command, weights_path

SIZE = 224


def test_every_row_has_a_method_and_runs(store):
    results = localize_figure8(store, budget="smoke")
    assert set(results) == set(METHODS) == set(FIGURE8)
    for row, record in results.items():
        assert record.summary["row"] == row and record.summary["images"] == 8
        assert "smoke" in record.recipe["budget"]
        assert record.summary["map_size"] == [8, 8]  # all at one resolution
    assert not store.committed.exists()


def test_a_smoke_run_goes_on_without_images_that_nobody_named(store, tmp_path, monkeypatch):
    monkeypatch.setenv("NESTLIB_DATA", str(tmp_path))
    how = {"budget": "smoke", "dataset": "tiny_imagenet"}
    stop_at_failures(reasons := localize_figure8(store, **how))
    assert all("no test images in" in reason for reason in reasons.values())
    with pytest.raises(NotScored, match="no test images in"):
        stop_at_failures(localize_figure8(store, data_dir=tmp_path / "named", **how))


def test_a_row_without_a_run_or_weights_says_what_makes_them(store, tmp_path):
    results = localize_figure8(store, dataset="tiny_imagenet", data_dir=tmp_path, progress=False)
    assert "`nest train tiny_imagenet/adl_narrow --seed 0 --set epochs=6` makes" in results["ADL"]
    with pytest.raises(ValueError, match="budget gpu does not localize on 'digits'"):
        localize_figure8(store, budget="gpu")


def test_the_command_of_a_changed_recipe_names_its_changes():
    recipe = get_recipe("digits/deit_planted", seed=2, epochs=1, warmup_epochs=0)
    command = "nest train digits/deit_planted --seed 2 --set epochs=1 --set warmup_epochs=0"
    assert train_command(recipe) == command


def test_a_trained_row_is_measured_once_and_then_found(scored, tmp_path):
    store, recipe, how, record = scored
    trained = store.find(recipe.run_id)
    assert record.summary["top1_error"] == pytest.approx(100 - trained.summary["test/top1"])
    assert record.summary["images"] == 32
    weights_path(recipe, tmp_path).unlink()
    (again,) = localize_figure8(store, **how).values()
    assert again.environment["finished"] == record.environment["finished"]
    assert again.summary["top1"] == record.summary["top1"]
    (store.local / f"{record.run_id}.json").unlink()
    reason = localize_figure8(store, **how)["DeiT RollOut"]
    assert reason.startswith(f"the weights of {recipe.run_id} are neither at")
    assert not isinstance(reason, Failure)  # not trained yet


@pytest.fixture
def scored(store, tmp_path, monkeypatch):
    """(store, recipe, how to ask, the record of a trained row)."""
    options = {"canvas": "plain", "num_images": 32, "digit_edges": [0.18, 0.43]}
    changes = {"epochs": 1, "warmup_epochs": 0, "dataset_options": options}
    recipe = get_recipe("digits/deit_planted", **changes)
    monkeypatch.setattr(localizers, "plan_figure8", lambda *_: {"DeiT RollOut": recipe})
    carry_out(recipe, store, device="cpu", runs_dir=tmp_path, progress_bar=False)
    how = {"runs_dir": tmp_path, "device": "cpu", "progress": False}
    (record,) = localize_figure8(store, **how).values()
    return store, recipe, how, store.find(record.run_id)


def test_a_run_that_is_trained_again_is_measured_again(scored):
    store, recipe, how, old = scored
    now = store.find(recipe.run_id).summary["weights_sha256"]
    assert old.environment["weights"] == {recipe.run_id: now}
    sha256 = train_again(recipe, store, how["runs_dir"])
    (shown,) = localize_figure8(Store(store.local, None), **how).values()  # as a page of committed
    assert f"{old.run_id} is of weights {now[:12]}" in shown and "was trained again" in shown
    (new,) = localize_figure8(store, **how).values()
    assert new.environment["weights"] == {recipe.run_id: sha256} and new.run_id == old.run_id
    assert new.summary["gt_known"] != old.summary["gt_known"]
    assert localize_figure8(store, **how) == {"DeiT RollOut": store.find(new.run_id)}
    train_again(recipe, store, how["runs_dir"])
    weights_path(recipe, how["runs_dir"]).unlink()
    (reason,) = localize_figure8(store, **how).values()
    assert "was trained again" in reason and "are neither at" in reason
    assert not isinstance(reason, Failure)


def test_a_record_without_the_sum_of_its_weights_stands_and_the_table_says_so(scored):
    store, recipe, how, record = scored
    assert "SHA-256" not in str(localization_table("digits", {"x": record}))
    environment = {k: v for k, v in record.environment.items() if k != "weights"}
    old = replace(record, environment=environment)
    store.add(old)
    train_again(recipe, store, how["runs_dir"])
    assert localize_figure8(store, **how) == {"DeiT RollOut": old}
    note = localization_table("digits", {"DeiT RollOut": old}).sources.details[-1]
    assert "SHA-256" in note and note.endswith(old.run_id)


def test_quick_rows_are_of_one_size():
    for dataset in ("digits", "tiny_imagenet"):
        sizes = {r.image_size for r in plan_figure8("quick", dataset).values()}
        assert sizes == {64}


# ImageNet


def write_boxes(folder, name, size, edges):
    objects = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for wnid, (x0, y0, x1, y1) in edges
    )
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")


def box_height(path, H):
    return H * (6 if int(path.stem) % 2 else 4) // 10


@pytest.fixture
def imagenet(tmp_path):
    """Twelve images of three classes, every other with a box over more than half of it."""
    folder = tmp_path / "imagenet"
    save_classes(folder / "val")
    for path in folder.glob("val/*/*.JPEG"):
        with Image.open(path) as image:
            W, H = image.size
        box = (path.parent.name, (0, 0, W, box_height(path, H)))
        write_boxes(folder / "bbox" / "val", path.stem, (W, H), [box])
    return folder


MODELS = {
    "deit_small_imagenet": lambda: VisionTransformer(SIZE, 32, embed_dim=16, depth=2, num_heads=2),
    "resnet50_imagenet": lambda: timm.create_model("resnet10t", num_classes=1000),
    "nest_small_imagenet": lambda: NesT(SIZE, 4, (8, 8, 16), (1, 1, 1), (1, 1, 1)),
}


@pytest.fixture
def hub(monkeypatch):
    """Small models in place of the published ones."""
    built = {}

    def create(name, **_):
        torch.manual_seed(0)
        model = built.setdefault(name, MODELS[name]())
        if isinstance(model, NesT):  # it shall be right about one class of the three
            model.head.bias.data[CLASSES["n02123045"]] = 9.0
        return model

    monkeypatch.setattr(localizers, "create_model", create)
    facts = {"weights_file": "f", "file_sha256": "0", "hub_sha256": "0"}
    monkeypatch.setattr(localizers, "fetch_weights", lambda name, offline: facts)
    return built


def plain_errors(boxes, truth, right):
    """% of images without a right class and torchvision's IoU >= 0.5, by threshold."""
    ends = torch.tensor([0, 0, 1, 1])  # torchvision's end behind the last pixel
    errors = []
    for column in torch.tensor(np.array(boxes)).double().unbind(1):
        found = [
            hit and float(box_iou((box + ends)[None], (true + ends)[None].double())) >= 0.5
            for box, true, hit in zip(column, torch.tensor(truth), right)
        ]
        errors.append(100 - 100 * np.mean(found))
    return errors


def test_imagenets_errors_are_those_of_a_plain_loop(store, imagenet, hub):
    how = {"device": "cpu", "limit": 12, "progress": False}
    results = localize_imagenet(store, imagenet, **how)
    assert results["ADL"] == results["ACoL"] == localizers.NO_WEIGHTS
    for row in ("DeiT RollOut", "R50 GradCAM++", "NesT CAM"):
        assert results[row].summary["images"] == 12, results[row]
    model, labels = hub["nest_small_imagenet"], ImageNetInfo().label_names()
    boxes, truth, right = [], [], []
    for path in sorted(imagenet.glob("val/*/*.JPEG"), key=lambda p: (p.parent.name, p.name)):
        image = Image.open(path).convert("RGB")
        H = image.height
        whole = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 255
        batch = tv_normalize(pixels, MEAN, STD)[None]
        number = labels.index(path.parent.name)
        right.append(int(model(batch).argmax()) == number)
        boxes.append(boxes_one_by_one(cam(model, batch, number).numpy(), (SIZE, SIZE))[0])
        truth.append([0, 0, SIZE - 1, round(box_height(path, H) * SIZE / H) - 1])
    summary = results["NesT CAM"].summary
    gt_known, top1 = (plain_errors(boxes, truth, hits) for hits in ([True] * 12, right))
    assert summary["gt_known"]["errors"] == pytest.approx(gt_known)
    assert summary["top1"]["errors"] == pytest.approx(top1)
    assert 0 < min(gt_known) < min(top1) < 100  # to compare 100 with 100 would say little


def test_shards_at_a_url_give_what_the_folder_gives(store, imagenet, hub, tmp_path, monkeypatch):
    make_shards("imagenet", imagenet, tmp_path / "shards", splits=["test"], progress=False)
    shutil.copytree(imagenet / "bbox", tmp_path / "cache" / "bbox")
    monkeypatch.setenv("NESTLIB_CACHE", str(tmp_path / "cache"))
    how = {"dataset": "imagenet", "device": "cpu", "limit": 12, "progress": False}
    here = localize(store, data_dir=imagenet, **how)["NesT CAM"].summary
    with serve(tmp_path / "shards") as server:
        there = localize(store, data_dir=server.url, **how)["NesT CAM"].summary
    assert there | {"seconds": None} == here | {"seconds": None}


def test_a_part_of_the_images_leaves_no_committed_record(store, imagenet, hub):
    localize_imagenet(store, imagenet, device="cpu", limit=3, committed=True, progress=False)
    assert not store.committed.exists()
    found = localize_imagenet(store)
    assert found["NesT CAM"] == "needs ImageNet's validation images and boxes"


def test_missing_boxes_and_an_unreachable_hub_are_one_line_each(store, imagenet, hub, monkeypatch):
    how = {"device": "cpu", "limit": 3, "progress": False}
    (imagenet / "bbox").rename(imagenet / "elsewhere")
    nowhere = localize(store, dataset="imagenet", data_dir=imagenet, **how)
    assert "ILSVRC2012_bbox_val_v3.tgz" in nowhere["NesT CAM"]
    (imagenet / "elsewhere").rename(imagenet / "bbox")
    asked = []

    def unreachable(name, offline):
        asked.append(offline)
        raise HubUnreachable(f"{name} cannot be fetched")

    monkeypatch.setattr(localizers, "fetch_weights", unreachable)
    results = localize_imagenet(store, imagenet, **how)
    assert "cannot be fetched" in results["NesT CAM"]
    assert asked == [False, True, True]  # one wait for the network is enough
    assert "no test images in" in localize_imagenet(store, imagenet / "val" / "x")["NesT CAM"]


def test_images_of_three_classes_are_those_of_the_fixture(imagenet):
    assert {path.name for path in (imagenet / "val").iterdir()} == set(CLASSES)
