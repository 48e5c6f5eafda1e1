"""Blanking on a run's own test images: counts that a plain loop gives, and what cannot be asked."""

import pytest
import torch
from test_scores import train_again

from nestbook.evaluations.blanking import BLANKED_WAYS, find_blanking, run_blanking
from nestbook.evaluations.planted import WAYS
from nestbook.report.grounding import blanking_table
from nestbook.report.tables import NOT_RUN
from nestlib.recipes import named
from nestlib.recipes.named import get_recipe
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_split
from nestlib.runs.weights import load_run

NAME = "digits/nest_narrow"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """With the finished run of a NesT that trains in a second."""
    what, changes = named.NAMED[NAME]
    options = {"canvas": "plain", "num_images": 64}
    monkeypatch.setitem(named.NAMED, NAME, (
        what, changes | {"epochs": 1, "warmup_epochs": 0, "dataset_options": options}
    ))  # fmt: skip
    store = Store(tmp_path / "committed", tmp_path / "local")
    carry_out(get_recipe(NAME), store, device="cpu", runs_dir=tmp_path, progress_bar=False)
    return store


def test_wins_are_those_of_a_plain_loop(store, tmp_path):
    record = run_blanking(NAME, store, runs_dir=tmp_path, progress=False)
    recipe, way = get_recipe(NAME), "CAM"
    model, images = load_run(recipe, store, tmp_path), load_split(recipe, "test")
    leaf = record.summary["leaf_pixels"]
    assert record.summary["leaves"] == (32 // leaf) ** 2 == 16
    assert record.summary["images"] == len(images) and set(record.summary["ways"]) == set(
        BLANKED_WAYS
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.mean, images.std))
    x = (images.images / 255 - mean) / std
    chosen = WAYS[way](model, x, images.labels) // leaf * leaf
    losses = []
    with torch.no_grad():
        for image, label, (left, top) in zip(x, images.labels, chosen.astype(int)):
            blanked = image.clone()
            blanked[:, top : top + leaf, left : left + leaf] = 0
            losses.append((model(image[None]) - model(blanked[None]))[0, label].item())
    found = record.summary["ways"][way]
    assert found["chosen"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    low, high = found["interval"]
    assert 0 <= low < found["rate"] == found["wins"] / len(images) < high <= 1
    # A second call finds its record, and the page shows it.
    assert run_blanking(NAME, store, progress=False) == record
    table = blanking_table(find_blanking(store, [NAME]))
    (row,) = table.rows
    assert "SHA-256" not in str(table)
    assert row[0] == f"{NAME}, seed 0" and row[4].value == pytest.approx(100 * found["rate"])


def test_a_run_that_is_trained_again_is_blanked_again(store, tmp_path):
    old = run_blanking(NAME, store, runs_dir=tmp_path, progress=False)
    sha256 = train_again(get_recipe(NAME), store, tmp_path)
    with pytest.warns(UserWarning, match=f"{old.run_id} is of weights .* was trained again"):
        assert find_blanking(store, [NAME]) == []
    new = run_blanking(NAME, store, runs_dir=tmp_path, progress=False)
    assert new.environment["weights"] == {get_recipe(NAME).run_id: sha256}
    assert new.summary["ways"] != old.summary["ways"] and find_blanking(store, [NAME]) == [new]


def test_what_has_no_run_or_no_tree_is_said(store, tmp_path):
    with pytest.raises(FileNotFoundError, match="nest train digits/nest_narrow --seed 1"):
        run_blanking(NAME, store, seed=1, runs_dir=tmp_path)
    with pytest.raises(ValueError, match="trains a generator, which does not classify"):
        run_blanking("digits/gan_nest_narrow", store)
    assert NOT_RUN in blanking_table([]).rows[0][0]
