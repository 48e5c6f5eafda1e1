"""The live explorer: it shows what the library says, and no input kills it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nestbook.evaluations.classifiers import HubUnreachable
from nestbook.evaluations.grounding import grounding, point_by_gradcat
from nestbook.evaluations.planted import load_canvases
from nestbook.explorer import subject as subject_module
from nestbook.explorer.live import LiveExplorer
from nestbook.explorer.static import Explorer, Picture
from nestbook.explorer.subject import Subject, load_subject, show_prepared
from nestlib.data.views import View
from nestlib.explain import gradcat
from nestlib.models.nest import NesT
from nestlib.recipes.named import get_recipe

VIEW = View(32, 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)


def make_subject(classes=4, size=32, pictures=2) -> Subject:
    torch.manual_seed(0)
    model = NesT(32, 2, (8, 8, 8), (2, 2, 2), (1, 1, 1), num_classes=classes)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    rng = np.random.default_rng(0)
    drawn = [
        Picture(f"picture {i}", rng.integers(0, 256, (size, size, 3), np.uint8))
        for i in range(pictures)
    ]
    view = View(size, 1.0, "bilinear", VIEW.mean, VIEW.std)
    names = tuple(f"class {k}" for k in range(classes))
    return Subject("random", model, names, view, tuple(drawn))


def png(image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def send(app, name, content) -> None:
    """What the browser sends when a file has been chosen."""
    file = {"name": name, "type": "", "size": len(content), "last_modified": 0}
    app.upload.set_state({"value": [file | {"content": memoryview(content)}]})


# Subjects


def test_the_default_subject_shows_the_first_planted_canvases():
    subject = load_subject(budget="smoke", num_images=5)
    four, small = load_canvases("four", "smoke"), load_canvases("small", "smoke")
    shown = [np.asarray(picture.pixels).transpose(2, 0, 1) for picture in subject.pictures]
    expected = [*four.images[:3].numpy(), *small.images[:2].numpy()]
    assert all(map(np.array_equal, shown, expected)) and len(shown) == 5
    digits = four.box_labels[0].tolist()
    assert subject.pictures[0].truth == dict(zip(digits, map(tuple, four.boxes[0].tolist())))
    assert subject.pictures[0].caption.endswith(", ".join(map(str, digits)))


def test_the_page_says_what_gradcat_says():
    subject = load_subject(budget="smoke", num_images=2)
    explorer = show_prepared(subject)
    for exhibit, name in zip(explorer.exhibits, ("four", "small"), strict=True):
        images = load_canvases(name, "smoke")
        batch = (images.images[:1] / 255 - 0.5) / 0.24  # the digits' mean and deviation
        walk = gradcat(subject.model, batch, 3)
        assert exhibit.exploration.traversal.path[3].tolist() == walk.path[0].tolist()
        np.testing.assert_allclose(
            exhibit.exploration.traversal.logits[3], walk.logits[0], rtol=1e-4, atol=1e-5
        )


def test_paths_are_judged_as_the_record_judges_them():
    subject, canvases = load_subject(budget="smoke", num_images=16), load_canvases("four", "smoke")
    rows = [
        exhibit.judge(row)
        for exhibit in map(subject.explore, subject.pictures[: len(canvases)]) for row in range(10)
    ]  # fmt: skip
    judged = np.array([row for row in rows if row is not None])
    hits = grounding(subject.model, canvases, {"path": point_by_gradcat()}, progress=False)
    assert len(judged) == hits["queries"] == 32
    expected = hits["ways"]["path"]["quadrant"], hits["ways"]["path"]["leaf"]
    assert tuple(judged.sum(0)) == expected and 0 < expected[0] < 32


def test_smoke_says_that_its_weights_are_random():
    assert "random weights" in repr(show_prepared(load_subject(budget="smoke", num_images=1)))


def test_photos_of_the_published_model_are_scikit_images():
    from skimage import data

    subject = load_subject("nest_tiny_imagenet", budget="smoke", num_images=2)
    assert [p.pixels.shape for p in subject.pictures] == [(224, 224, 3)] * 2
    cat = np.asarray(Image.fromarray(data.chelsea()).resize((32, 32)), float)  # whole, distorted
    small = np.asarray(Image.fromarray(subject.pictures[0].pixels).resize((32, 32)), float)
    assert np.corrcoef(cat[8:24, 8:24].ravel(), small[8:24, 8:24].ravel())[0, 1] > 0.5
    assert len(set(subject.class_names)) == 1000 and subject.class_names[281] == "tabby"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "digits/nest_plantd",
            {},
            "no model 'digits/nest_plantd'; did you mean digits/nest_planted",
        ),
        ("resnet50_imagenet", {}, "has no hierarchies of blocks.*nest_tiny_imagenet"),
        ("digits/deit_narrow", {}, "has no hierarchies of blocks"),
        ("digits/nest_planted", {"seed": 77}, "nest train digits/nest_planted --seed 77"),
        ("digits/nest_planted", {"num_images": 0}, "num_images is 0; give 1 or more"),
    ],
)
def test_a_subject_that_cannot_be_had_is_an_error(name, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        load_subject(name, **options)


def test_without_a_network_it_is_said_what_to_do(monkeypatch):
    def unreachable(timm_name):
        raise HubUnreachable(f"{timm_name} is not in the cache; connect to the network")

    monkeypatch.setattr(subject_module, "fetch_weights", unreachable)
    with pytest.raises(HubUnreachable, match="in1k is not in the cache; connect"):
        load_subject("nest_tiny_imagenet")


def test_a_subject_is_a_nest_with_a_name_for_each_class():
    with pytest.raises(TypeError, match="Linear has no hierarchies"):
        Subject("x", nn.Linear(2, 2), ("a", "b"), VIEW)
    with pytest.raises(ValueError, match="1 class names for a model of 4 classes"):
        Subject("x", make_subject().model, ("a",), VIEW)


def test_classes_are_found_by_name_and_number():
    subject = make_subject(12)
    found = [subject.find_class(text) for text in ("class 3", " CLASS 11 ", "7", "", "  ")]
    assert found == [3, 11, 7, None, None]
    for text in ("12", "-1"):
        with pytest.raises(ValueError, match=f"class {text} is not one of the model's 12: 0 to 11"):
            subject.find_class(text)
    with pytest.raises(ValueError, match="no class 'clas'; did you mean class 0, class 1"):
        subject.find_class("clas")


# The app


def test_pictures_and_classes_are_shown():
    app = LiveExplorer(make_subject())
    assert app.shown.exhibits[0].picture.caption == "picture 0"
    assert app.shown.exhibits[0].start is None
    app.picture.value = 1
    assert app.shown.exhibits[0].picture.caption == "picture 1"
    app.asked.value = "class 2"
    assert (app.shown.exhibits[0].picture.caption, app.shown.exhibits[0].start) == ("picture 1", 2)
    assert "Shown: picture 1." in app.message.value


def test_many_classes_are_asked_for_by_typing():
    app = LiveExplorer(make_subject(40))
    app.asked.value = "39"
    assert app.shown.exhibits[0].start == 39
    before = app.shown
    app.asked.value = "40"
    assert "Class 40 is not one of the model&#x27;s 40: 0 to 39." in app.message.value
    assert app.shown is before
    app.asked.value = "class 5"
    assert app.shown.exhibits[0].start == 5


GOOD = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("text.png", b"no picture"),
        ("cut.png", png(Image.fromarray(GOOD))[:900]),
        ("<b>.tif", b"II*\x00\xff\xff\xff\x7f"),
    ],
)
def test_a_bad_upload_is_answered_in_words_and_the_app_lives_on(name, content):
    app = LiveExplorer(make_subject())
    before = app.shown
    send(app, name, content)
    assert 'role="alert"' in app.message.value and "choose" in app.message.value
    assert name.split(".")[0].replace("<b>", "&lt;b&gt;").lower() in app.message.value.lower()
    assert app.shown is before and app.upload.value == ()
    send(app, "good.png", png(Image.fromarray(GOOD)))
    assert app.shown.exhibits[0].picture.caption == "Your own: good.png"


def test_uploads_are_fitted_told_and_stay_to_be_chosen():
    app = LiveExplorer(make_subject())
    rgba = Image.fromarray(GOOD).convert("RGBA")
    rgba.putalpha(0)
    send(app, "clear.png", png(rgba))
    send(app, "grey.png", png(Image.fromarray(GOOD[..., 0])))
    clear, grey = app.pictures[2], app.shown.exhibits[0].picture
    assert (clear.pixels == 255).all() and "transparency laid over white" in clear.said
    assert list(grey.said) == [
        "grey turned into RGB", "the middle square of 64 x 48 pixels",
        "shrunk to 32 x 32 (bilinear)",
    ]  # fmt: skip
    captions = [caption for caption, _ in app.picture.options]
    assert captions[2:] == ["Your own: clear.png", "Your own: grey.png"]
    app.picture.value = 2
    assert app.shown.exhibits[0].picture.caption == "Your own: clear.png"


def test_a_size_that_the_model_cannot_halve_is_answered_in_words():
    app = LiveExplorer(make_subject(size=36))
    assert app.shown is None and 'role="alert"' in app.message.value
    assert "36" in app.message.value


def test_an_app_without_pictures_waits_for_one():
    app = LiveExplorer(make_subject(pictures=0))
    assert app.shown is None and "Choose an image" in app.message.value
    send(app, "good.png", png(Image.fromarray(GOOD)))
    assert isinstance(app.shown, Explorer)


def test_the_committed_weights_know_some_digits():
    """Far above the chance of one in ten, so they are no random ones."""
    subject = load_subject(num_images=12)
    lone = [p for p in subject.pictures if len(p.truth) == 1]
    right = [subject.explore(p).predicted in p.truth for p in lone]
    assert get_recipe("digits/nest_planted", seed=2).run_id == subject.title
    assert len(lone) == 6 and sum(right) >= 4
