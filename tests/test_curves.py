"""Curves and the list of records say what the files say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nestbook.records import short_hash
from nestbook.report.all_records import (
    WAY,
    families_table,
    headline_of,
    merge_headlines,
    minutes_of,
    name_family,
    point_of,
    records_table,
)
from nestbook.report.curves import METRICS, family_of, find_trained, plot_curves
from nestbook.report.tables import Fold, Link, Table
from nestlib.metrics.features import FeatureNetwork, InceptionFeatures
from nestlib.records import Record, Store, open_store

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "experiments" / "records"
FILES = {
    path.relative_to(RECORDS).with_suffix("").as_posix(): path for path in RECORDS.rglob("*.json")
}


def made(kind, recipe, **summary):
    environment = {
        "device": "Intel(R) Xeon(R) Processor", "commit": None, "dirty": None,
        "data": {"train": {"images": 10}},
        "started": "2026-11-28T15:28:52+00:00", "finished": "2026-11-28T15:30:52+00:00",
    }  # fmt: skip
    ids = {"score": "-".join(map(str, recipe.values())), "evaluate": f"x-{short_hash(recipe)}"}
    return Record(f"{kind}/{ids.get(kind, len(summary))}", kind, recipe, environment, summary)


def test_every_kind_of_record_has_a_headline(tmp_path):
    """One of each that any code writes, Inception's names of scores and failed runs included."""
    cut = {"best": {"error": 12.5}}
    hit = {"rate": 0.75, "wins": 3, "interval": [0.2, 0.9]}
    records = {
        "71.50 % test top-1, epoch 3": made(
            "train", {"name": "a", "seed": 0}, **{"test/top1": 71.5, "reported_epoch": 3}
        ),
        "generator after 20 steps": made(
            "gan", {"seed": 0}, status="finished", reported_step=20, num_params=1
        ),
        "generator after 0 steps, failed": made(
            "gan", {"seed": 0}, status="failed", reported_step=None
        ),
        "inception score 9.00, FID 12.00, network inception": made(
            "score", {"run": "b", "network": "inception"}, num_samples=50_000,
            **dict(zip(InceptionFeatures.score_names, (12.0, 9.0, 0.1), strict=True)),
        ),
        "classifier score 9.00, Fréchet distance 12.00, network digits": made(
            "score", {"run": "b", "network": "digits"}, num_samples=50_000, seed=0,
            **dict(zip(FeatureNetwork.score_names, (12.0, 9.0, 0.1), strict=True)),
        ),
        "81.40 % top-1": made("evaluate", {"name": "c"}, images=10, top1=81.4),
        "12.5 % top-1 localization error, best cut": made(
            "explain", {"name": "d"}, images=10, top1=cut, gt_known=cut
        ),
        "GradCAT finds 75.0 % of quadrants": made(
            "explain", {}, together={"four": {"queries": 8, "ways": {WAY: {"quadrant": hit}}}}
        ),
        "blanking GradCAT's block costs more in 75.0 %": made(
            "explain", {}, images=4, ways={WAY: hit}
        ),
        "2 rows timed": made("bench", {"profile": "e"}, rows=[1, 2]),
        "1 models timed": made("bench", {"rounds": 5}, a={"params": 3}, b=0, c=0),
        "2 boxes of zero width or height": made(
            "inspect", {"dataset": "tiny_imagenet"}, boxes={"train": {"flat": 2}}
        ),
        "see its page": made("faults", {}, a={"lost": 0}),
    }  # fmt: skip
    store = Store(tmp_path, None)
    for record in records.values():
        Store(tmp_path, tmp_path).add(record, committed=True)
    assert len(store.all_committed()) == len(records)
    found = {row[0].text: row[2] for row in records_table(store).rows}
    assert found == {record.run_id: headline for headline, record in records.items()}
    kinds = {record.kind for record in open_store(ROOT).all_committed()}
    assert kinds <= {record.kind for record in records.values()}


@pytest.fixture(scope="module")
def trained():
    return find_trained(open_store(ROOT))


def test_every_trained_record_has_its_curves_as_in_its_file(trained):
    files = {name: json.loads(path.read_text()) for name, path in FILES.items()}
    files = {name: record for name, record in files.items() if record["kind"] in ("train", "gan")}
    assert {record.run_id for record in trained} == files.keys() and len(trained) > 10
    drawn = plot_curves(trained)
    lines = {line.get_gid(): line for axes in drawn.figure.axes for line in axes.lines}
    assert lines.keys() == drawn.tooltips.keys()
    found = {}
    for gid, text in drawn.tooltips.items():
        run_id, said = text.split("\n")
        key = next(key for key, (label, *_) in METRICS.items() if said.startswith(label))
        found[run_id, key] = lines[gid]
        assert f"{lines[gid].get_ydata()[-1]:.2f}" in said or key != "test/top1"
    expected = {
        (name, key): [epoch[key] for epoch in record["epochs"] if key in epoch]
        for name, record in files.items() for key in METRICS
        if any(key in epoch for epoch in record["epochs"])
    }  # fmt: skip
    assert found.keys() == expected.keys()
    assert all(list(found[place].get_ydata()) == values for place, values in expected.items())


def test_families_are_by_name(trained):
    found = {record.recipe["name"]: family_of(record) for record in trained}
    assert found["tiny_imagenet/nest_narrow_depth2"] == found["digits/gan_nest_narrow"]
    assert found["digits/deit_narrow"] == "others"


def test_no_curves_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no record has epochs"):
        find_trained(Store(tmp_path, tmp_path))


def test_the_committed_notebook_shows_all_records():
    text = (ROOT / "experiments" / "records.ipynb").read_text()
    outputs = "".join(
        "".join(output["data"]["text/html"])
        for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"
        for output in cell["outputs"] if "text/html" in output.get("data", {})
    )  # fmt: skip
    remedy = "run: make notebooks NOTEBOOKS=experiments/records.ipynb"
    assert 'id="curves-picture"' in outputs, remedy
    missing = [name for name in FILES if f'href="records/{name}.json"' not in outputs]
    assert not missing, f"{missing}; {remedy}"


# The table


def test_every_record_stands_in_the_table_and_leads_to_its_file():
    table = records_table(open_store(ROOT))
    assert {row[0].text for row in table.rows} == FILES.keys()
    assert all((ROOT / row[0].path).is_file() for row in table.rows)
    assert f"All {len(FILES)} committed records" in table.caption
    assert all(row[2] and "None" not in row[2] for row in table.rows)


def test_every_record_stands_in_the_fold_of_one_family():
    store = open_store(ROOT)
    found = {record.run_id: record for record in store.all_committed()}
    table, held = families_table(store), []
    for fold, count, result, minutes, _ in table.rows:
        records = [found[link.text] for link, _ in fold.items]
        held += [link.text for link, _ in fold.items]
        assert {name_family(record) for record in records} == {fold.text}
        assert count.value == len(records)
        assert minutes.value == pytest.approx(sum(map(minutes_of, records)))
        assert result == merge_headlines([headline_of(record)[1] for record in records])
        assert all(headline_of(found[link.text])[1] in said for link, said in fold.items)
    assert sorted(held) == sorted(FILES) and str(len(FILES)) in table.caption
    html = table._repr_html_()
    assert all(f'href="records/{name}.json"' in html for name in FILES)
    assert html.count("<details>") == len(table.rows) < len(FILES) / 4


def test_headlines_merge_where_numbers_alone_differ():
    texts = ["9.67 % test top-1, epoch 3", "60.58 % test top-1, epoch 10"]
    assert merge_headlines(texts) == "9.67 to 60.58 % test top-1, epoch 3 to 10"
    texts = [f"generator after {n} steps{how}" for n, how in (("2,000", ""), ("900", ""))]
    assert merge_headlines(texts) == "generator after 900 to 2,000 steps"
    assert merge_headlines(["x", "generator after 5 steps", "x"]) == "x; generator after 5 steps"


def test_the_records_page_says_how_many_of_what_and_which_are_the_papers(tmp_path):
    store = Store(tmp_path, tmp_path)
    for seed in range(2):
        run = made("train", {"name": "a", "seed": seed, "budget": "quick"}, **{"test/top1": 1.0})
        store.add(replace(run, run_id=f"a-s{seed}-0"), committed=True)
    store.add(made("bench", {"budget": "full"}, rows=[]), committed=True)
    point = point_of(store)
    assert point.sentence == (
        "3 records stand behind this book: 2 classifiers trained, 1 timing. They took 0.100 hours "
        "on Xeon. None of them trains one of the paper's models on its data at its length."
    )
    assert [chip.text for chip in point.chips] == [
        "measured: 3 records, Xeon",
        "paper's data: not run",
    ]
    for number in (1, 2):
        recipe = {"name": "b", "seed": number, "budget": "paper"}
        run = made("train", recipe, **{"test/top1": 1.0})
        store.add(replace(run, run_id=f"b-s{number}-0"), committed=True)
        whose = {1: "1 of them trains one", 2: "2 of them train one"}[number]
        assert f"{whose} of the paper's models" in point_of(store).sentence
        runs = {1: "1 run", 2: "2 runs"}[number]
        assert point_of(store).chips[1].text == f"paper's data: {runs}"


def test_the_sentence_of_the_committed_records_counts_the_files():
    kinds = [json.loads(path.read_text())["kind"] for path in FILES.values()]
    sentence = point_of(open_store(ROOT)).sentence
    assert sentence.startswith(f"{len(FILES)} records stand behind this book: ")
    assert f"{kinds.count('train')} classifiers trained, " in sentence


def test_headlines_are_the_files_numbers():
    record = open_store(ROOT).find("cifar10/nest_narrow-s0-8a3e1ba5")
    assert headline_of(record) == ("1 run, seed 0", "77.63 % test top-1, epoch 10")
    for record in open_store(ROOT).all_committed():
        if record.kind == "evaluate":
            assert headline_of(record)[1] == f"{record.summary['top1']:.2f} % top-1"


def test_links_lead_from_where_they_stand():
    table = Table("t", ("a", "b"), [(Link("<x>", "experiments/records/x.json"), "y")])
    assert "[<x>](../experiments/records/x.json)" in table.to_markdown()
    assert '<a href="records/x.json">&lt;x&gt;</a>' in table._repr_html_()
    assert Link("x", "book/model.md").to_html() == '<a href="../book/model.md">x</a>'


def test_a_fold_opens_to_its_links_and_is_one_word_in_markdown():
    fold = Fold("<a>", ((Link("x", "experiments/records/x.json"), "5 < 6"),))
    table = Table("t", ("a", "b"), [(fold, "y")])
    assert "<details><summary" in table._repr_html_() and "&lt;a&gt;</summary>" in fold.to_html()
    assert '<li><a href="records/x.json">x</a> 5 &lt; 6</li>' in table._repr_html_()
    assert "| <a> | y |" in table.to_markdown() and "x.json" not in table.to_markdown()


def test_the_built_book_holds_the_records():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["sphinx"]["local_extensions"]["record_files"] == "book/_ext"
