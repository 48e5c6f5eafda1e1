"""Curves and the list of records say what the files say."""

import json
from pathlib import Path

import pytest
import yaml

from nestbook.report.all_records import WAY, headline_of, records_table
from nestbook.report.curves import METRICS, curves_table, family_of, find_trained, plot_curves
from nestbook.report.tables import Link, Table
from nestlib.metrics.features import FeatureNetwork, InceptionFeatures
from nestlib.records import Record, Store, open_store

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "experiments" / "records"
FILES = {
    path.relative_to(RECORDS).with_suffix("").as_posix(): path for path in RECORDS.rglob("*.json")
}


def made(kind, recipe, **summary):
    environment = {
        "device": "CPU", "commit": None, "dirty": None,
        "started": "2026-11-28T15:28:52+00:00", "finished": "2026-11-28T15:30:52+00:00",
    }  # fmt: skip
    return Record(f"{kind}/{len(summary)}", kind, recipe, environment, summary)


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


def test_the_table_has_each_record_with_its_last_value(trained):
    rows = {row[0].text: row for row in curves_table(trained).rows}
    assert rows.keys() == {record.run_id for record in trained}
    _, what, over, first, best, last = rows["cifar10/nest_narrow-s0-8a3e1ba5"]
    assert (what, over) == ("test top-1 (%)", "epochs 1 to 10")
    assert first.value < last.value <= best.value and str(last) == "77.63"


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


def test_the_built_book_holds_the_records():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["sphinx"]["local_extensions"]["record_files"] == "book/_ext"
