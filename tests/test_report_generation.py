"""What the pages on generation show: the decoder's own table, scores, speeds, and whence."""

from dataclasses import replace

import numpy as np
import pytest

from nestbook import paper
from nestbook.evaluations.samples import Neighbours
from nestbook.report import generation
from nestbook.report.generation import (
    Found,
    compare_unsamplings,
    find_scores,
    generation_table,
    generation_tables,
    generators_table,
    opinions_tables,
    runs_table,
    say_figure7,
    say_figure_a3,
)
from nestbook.report.generation_pictures import plot_figure7, plot_figure_a3
from nestbook.report.samples import draw_neighbours, neighbours_table
from nestbook.report.table_a1 import describe_hierarchies
from nestbook.report.table_a4 import (
    architecture_table,
    build_decoders,
    parameters_table,
    say_table_a4,
)
from nestbook.report.tables import NOT_RUN
from nestlib.models import create_generator
from nestlib.records import Record, open_store


def test_table_a4_is_read_from_the_model():
    model = create_generator("nest_decoder", img_size=64)
    assert dict(enumerate(describe_hierarchies(model), 1)) == paper.TABLE_A4
    narrow = create_generator(
        "nest_decoder", img_size=32, embed_dim=128, num_heads=2, depths=[1, 2, 3]
    )
    assert describe_hierarchies(narrow) == [(8, 2, 1, 16), (32, 2, 2, 4), (128, 2, 3, 1)]


def test_table_a4_shows_the_decoder_beside_the_paper_and_both_readings():
    models = build_decoders()
    printed, built = architecture_table(models).rows
    assert printed[0] == "paper" and built[0] == "built here" and printed[1:] == built[1:]
    assert printed[1:] == (
        "8x8", "[16, 4] x 2, 64", "[64, 4] x 3, 16", "[256, 4] x 3, 4", "[1024, 4] x 5, 1", "64x64"
    )  # fmt: skip
    parameters = parameters_table(models)
    assert "256 values, mapped to 65,536; noise reshaped: 65,536 values" in parameters.notes[0]
    cells = {row[0]: row[1:] for row in parameters.rows}
    embedding, whole = (cells[part] for part in ("noise to 1 x n x d", "all"))
    assert [number.value for number in embedding] == [257 * 65536 / 1e6, 0]
    assert whole[0].value - whole[1].value == pytest.approx(embedding[0].value)
    parts = [row[1].value for row in parameters.rows[:-1]]
    rest = 2 * 16 + 3 * 16 + 3  # LayerNorm and Conv1x1
    assert whole[0].value - sum(parts) == pytest.approx(rest / 1e6)


def test_table_a4_says_in_how_many_hierarchies_it_is_the_printed_one(monkeypatch):
    models = build_decoders()
    said = say_table_a4(models)
    assert "in all 4 hierarchies, and its output size" in said
    assert "the decoder has 82.6 M parameters with one, 65.8 M without" in said
    other = paper.TABLE_A4 | {2: (64, 4, 7, 16)}
    monkeypatch.setattr("nestbook.report.table_a4.TABLE_A4", other)
    assert "in 3 of 4 hierarchies" in say_table_a4(models)
    shallow = {"shallow": create_generator("nest_decoder", img_size=64, depths=[1, 3, 3, 5])}
    named = [row[0] for row in architecture_table(models | shallow).rows]
    assert named == ["paper", "built here, linear layer and noise reshaped", "built here, shallow"]


OFFLINE = "frechet_distance", "classifier_score"


def scored_run(name, score, seed=0, *, budget="quick", names=OFFLINE, dataset="digits"):
    summary = dict.fromkeys(names, score) | {
        "kernel_distance": 0.01, "num_samples": 2048, "num_reference": 4096, "seed": 0,
        "reference": "digits train", "reference_fingerprint": "f" * 64, "resize": "none",
        "feature_network": "a network", "feature_weights_sha256": "e" * 64,
    }  # fmt: skip
    rows = [{"step": step, "num_samples": 256} | dict.fromkeys(names, score + 9 - step)
            for step in (0, 9)]  # fmt: skip
    run = f"{dataset}/{name}-s{seed}-00000000"
    recipe = {"run": run, "budget": budget, "network": "digits"}
    environment = {"device": "NVIDIA A GPU"}
    return Record(f"score/{run}-digits", "score", recipe, environment, summary, rows)


def of_unsamplings(**scores):
    """Records of three seeds at, below and above a score."""
    return {
        "NesT" if name == "PS" else name.replace("_", "-"): [
            scored_run(name, score + shift, seed) for seed, shift in enumerate((0, -1, 1))
        ]
        for name, score in scores.items()
    }


def test_order_of_unsamplings_is_decided_only_where_intervals_part():
    apart = of_unsamplings(PS=10, PS_C3=30, C3_PS=31, NN=32, NN_C3=33, C3_NN=34)
    assert compare_unsamplings(apart, "figure7") == "PS is best, and its interval meets no other"
    # Student's t for three runs: 4.303 * 1 / sqrt(3) = 2.48 on either side.
    near = of_unsamplings(PS=10, PS_C3=14.9, C3_PS=31, NN=32, NN_C3=33, C3_NN=34)
    assert compare_unsamplings(near, "figure7").startswith("this is undecided: PS has")
    assert compare_unsamplings(apart, "figure_a3").startswith("this is undecided: C3-NN has")
    two = apart | {"NN": apart["NN"][:2]}
    assert "undecided, as there are not three seeds" in compare_unsamplings(two, "figure7")


def test_what_has_no_score_says_so_and_smoke_is_never_shown():
    scored = {"NesT": [scored_run("gan_nest", 5.0)], "NN": [scored_run("nn", 1.0, budget="smoke")]}
    table = generation_table(scored, "figure7")
    cells = {row[0]: row[1:] for row in table.rows}
    assert str(cells.pop("NesT, PS")[0]) == "5.00" and len(cells) == 7
    assert all(row == (NOT_RUN, "", "", "") for row in cells.values())
    text = str(table)
    assert "Fréchet distance" in text and "FID" not in text
    assert "1 score on A GPU; 2,048 samples each" in text
    assert "2,048 samples, 256 per point of a curve" in text and "a network (eeeeeeee)" in text
    (narrow,) = generation_tables(Found({}, scored), "figure7")
    assert narrow.rows == table.rows
    assert "Not run yet: the 8 generators at 64x64" in narrow.to_markdown()
    assert "Not run yet" not in str(generation_tables(Found(scored, scored), "figure7")[-1])
    assert generation_tables(Found({}, {}), "figure7") == []


def test_how_scores_were_made_is_said_once_for_all_that_are_alike():
    scored = of_unsamplings(PS=10, PS_C3=30)
    odd = scored["PS-C3"][0]
    scored["PS-C3"][0] = replace(odd, summary=odd.summary | {"num_samples": 99, "note": "few"})
    table = generation_table(scored, "figure7")
    details = table.sources.details
    assert [text.count("score/") for text in details] == [5, 1]
    assert details[1].startswith("99 samples") and odd.run_id in details[1]
    assert "99 or 2,048 samples each" in table.sources.line and "few" in table.notes


def test_inceptions_scores_are_called_by_their_names():
    scored = {"NesT": [scored_run("gan_nest", 5.0, names=("fid", "inception_score"))]}
    table = generation_table(scored, "figure7")
    assert table.caption == "Generators, digits (lower is better)" and table.columns[1] == "FID"
    table = generation_table(scored, "figure_a3")
    assert table.caption == "Generators, digits (higher is better)"
    assert table.columns[1] == "Inception score" and "Kernel distance" not in table.columns


NARROW = {
    "NesT": [scored_run("gan_nest_narrow", 11 + seed, seed) for seed in range(3)],
    "TransGAN": [scored_run("gan_transgan_narrow", 10.15)],
    "Convnet": [scored_run("gan_convnet_narrow", 17.6)],
}


def test_figure7_says_who_ends_closest_also_where_it_is_not_nest():
    said = say_figure7(Found({}, NARROW), None)
    assert said.startswith(
        "No run at 64x64 has a score yet; on digits, narrow TransGAN ends closest to the data, "
        "with a Fréchet distance of 10.15 (one run, undecided), against narrow "
        "NesT's 12.00 (n = 3). "
    )
    ahead = NARROW | {"TransGAN": [scored_run("gan_transgan_narrow", 17.0)]}
    assert (
        "narrow NesT ends closest to the data, with a Fréchet distance of 12.00 (n = 3), against "
        "narrow TransGAN's 17.00 (one run, undecided)."
    ) in say_figure7(Found({}, ahead), None)
    alone = say_figure7(Found({}, {"NesT": NARROW["NesT"], "TransGAN": []}), None)
    assert "only narrow NesT has a score: Fréchet distance 12.00 (n = 3)." in alone
    none = say_figure7(Found({}, {}), None)
    assert none.startswith("No run at 64x64 has a score yet. ") and "digits" not in none


def test_scores_at_64x64_go_before_digits():
    full = {
        name: [scored_run(name, score, dataset="imagenet", names=("fid", "inception_score"))]
        for name, score in (("NesT", 20.0), ("TransGAN", 30.0))
    }
    said = say_figure7(Found(full, NARROW), None)
    assert said.startswith(
        "On ImageNet at 64x64, NesT ends closest to the data, with an FID of 20.00 (one run, "
        "undecided), against TransGAN's 30.00 (one run). "
    )
    assert "digits" not in said
    un_sampled = {"NN": [scored_run("NN", 5.0, dataset="tiny_imagenet")]}
    said = say_figure7(Found(un_sampled, NARROW), None)
    assert said.startswith("On Tiny ImageNet-100 at 64x64, none of the three generators has a")


def test_figure_a3_says_whether_figure7_has_the_same_order():
    """The made scores have equal values, of which one is better if low, the other if high."""
    said = say_figure_a3(Found({}, NARROW))
    assert (
        "narrow Convnet has the highest classifier score, 17.60 (one run, undecided), against "
        "narrow NesT's 12.00 (n = 3). The Fréchet distance of figure 7 puts TransGAN first."
    ) in said
    alone = say_figure_a3(Found({}, {"NesT": NARROW["NesT"]}))
    assert alone.endswith("only narrow NesT has a score: classifier score 12.00 (n = 3).")


def test_what_the_pages_say_follows_from_the_committed_records():
    store = open_store()
    found = find_scores(store, "quick")
    assert not any(found.full.values())
    said = say_figure7(found, store.find_benches("figure7")[0])
    for row in ("NesT", "TransGAN"):
        scores = [record.summary["frechet_distance"] for record in found.narrow[row]]
        n = f"n = {len(scores)}" if len(scores) > 1 else "one run, undecided"
        assert f"{np.mean(scores):.2f} ({n})" in said
    rounds = [
        store.find_benches("figure7")[0].summary[row]["images_per_second"]["forward"]["rounds"]
        for row in ("NesT", "TransGAN")
    ]
    ratio = np.median(np.divide(*rounds))
    assert f"makes {ratio:.2f} times as many images per second as TransGAN" in said
    assert "in the paper it is 8 times" in said
    scores = [record.summary["classifier_score"] for record in found.narrow["NesT"]]
    assert f"{np.mean(scores):.2f} (n = {len(scores)})" in say_figure_a3(found)


def test_scores_at_64x64_are_of_the_budget_at_hand_or_of_any(monkeypatch):
    kept = {"gpu": {"NesT": ["tiny"]}, "paper": {"NesT": ["imagenet"]}, "quick": {"NesT": ["d"]}}
    monkeypatch.setattr(generation, "find_figure7", lambda store, budget, network: kept[budget])
    assert find_scores(None, "quick") == Found(kept["paper"], kept["quick"])
    assert find_scores(None, "gpu") == Found(kept["gpu"], kept["quick"])
    kept["paper"] = {"NesT": []}
    assert find_scores(None, "paper").full == kept["gpu"]
    kept["gpu"] = {}
    assert find_scores(None, "quick").full == {}


@pytest.mark.parametrize("draw", [lambda found: plot_figure7(found, None), plot_figure_a3])
def test_figures_have_the_papers_panels_and_draw_what_there_is(draw):
    svg = draw(Found({}, NARROW)).to_svg().decode()
    assert "NesT at step 9: 11, 12, 13; of 256 samples" in svg
    assert "NesT, PS: 12.00 (n = 3: 11.00, 12.00, 13.00); of 2,048 samples" in svg
    assert "score/digits/gan_nest_narrow-s0-00000000-digits" in svg
    assert NOT_RUN not in svg and "64x64: no score yet" in svg and "NN-C3" in svg
    assert "no result of the paper (n = 1 to 3)" in svg
    empty = draw(Found({}, {}))
    text = empty.to_svg().decode()
    assert not empty.tooltips and NOT_RUN not in text and "NN-C3" in text
    assert not any(axes.get_legend() for axes in empty.figure.axes)
    assert "no result of the paper (n" not in text  # no band of digits
    full = draw(Found({"NesT": [scored_run("gan_nest", 5.0, dataset="imagenet")]}, {}))
    assert "ImageNet at 64x64 (n = 1)" in full.to_svg().decode()


def test_a_curve_is_the_mean_of_its_runs_within_their_range():
    records = [scored_run("gan_nest", score, seed) for seed, score in enumerate((5.0, 6.0, 10.0))]
    (axes, *_) = plot_figure_a3(Found({"NesT": records}, {})).figure.axes
    line = next(line for line in axes.lines if line.get_label() == "NesT")
    assert line.get_ydata().tolist() == [16, 7]  # of 14, 15, 19 at the start and 5, 6, 10
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    assert (low, high) == (5, 19)


def test_runs_say_how_they_ended():
    rows = [{"step": 0, "sample/pixel_distance": 9.0}, {"step": 5, "sample/pixel_distance": 12.0}]
    summary = {"status": "failed", "failure": "the loss is not finite", "reported_step": 5,
               "train_seconds": 33.0}  # fmt: skip
    environment = {"device": "a machine", "threads": 1}
    run = Record("digits/gan-s0", "gan", {"budget": "quick"}, environment, summary, rows)
    other = replace(
        run, run_id="digits/gan-s1",
        summary={"status": "finished", "reported_step": 2000, "train_seconds": 35.0},
    )  # fmt: skip
    smoke = replace(run, recipe={"budget": "smoke"})
    table = runs_table({("NesT",): [run, other], ("NN",): [smoke]})
    (row, ended, steps, *numbers), lacking = table.rows
    assert (row, ended, steps) == ("NesT, PS", "1 failed, 1 finished", "5 or 2,000")
    assert [n.value for n in numbers] == [34, 9, 12] and numbers[0].n == 2
    assert lacking == ("NesT, NN", NOT_RUN, "", "", "", "")
    assert "digits/gan-s0 failed: the loss is not finite" in table.notes
    assert table.sources.line == "2 runs on a machine"


def test_one_run_stands_beside_itself_by_another_network():
    ours, other = scored_run("gan_nest", 5.0), scored_run("gan_nest", 50.0)
    other = replace(other, run_id="other", recipe=other.recipe | {"network": "lite0"})
    (table,) = opinions_tables({"NesT": [ours]}, {"NesT": [other]})
    digits, lite0 = table.rows
    assert digits[0] == "a narrow classifier of digits" and lite0[0] == "EfficientNet-Lite0"
    # At steps 0 and 9 the curve of a made score s is at s + 9 and s.
    assert [str(cell) for cell in lite0[1:]] == ["59.0", "59.0", "0", "50.0", "50.0"]
    assert opinions_tables({"NesT": [ours]}, {"NesT": [ours]}) == []  # the network is the same
    assert opinions_tables({"NesT": [ours]}, {"NesT": []}) == []
    assert opinions_tables({}, {"NesT": [other]}) == []


def bench_record(**speeds):
    summary = {
        name: {"params": 82e6, "gflops": 5.0, "batch_size": 4, "memory_kind": "peak",
               "images_per_second": {"forward": {"median": rounds[1], "rounds": rounds}}}
        for name, rounds in speeds.items()
    }  # fmt: skip
    settings = {"precision": "fp32", "threads": 1, "warmup": 1, "torch": "2", "rounds_done": 3,
                "flop_counter": "x"}  # fmt: skip
    environment = {"device": "a machine", "device_kind": "cpu", "finished": "2026-01-01"}
    return Record("bench/figure7-light", "bench", settings, environment, summary)


def test_speed_of_generators_is_a_ratio_of_one_runs_rounds():
    run = bench_record(NesT=[4.0, 6.0, 9.0], TransGAN=[2.0, 2.0, 3.0], Convnet=[1.0, 1.0, 1.0])
    table = generators_table(run, [])
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    ratio = rows["NesT"]["Over TransGAN"]
    assert (ratio.value, ratio.n, ratio.spread) == (3, 3, 0.5)
    assert rows["NesT"]["Images/s"].value == 6 and rows["TransGAN"]["Over TransGAN"].value == 1
    assert rows["NesT"]["Paper"].value == 8 and rows["NesT"]["Paper"].source == "paper"
    assert rows["Convnet"]["Paper"] == "no number"
    assert "Median of 3 rounds ± half of their range, which is no standard deviation" in table.notes
    svg = plot_figure7(Found({}, {}), run).to_svg().decode()
    assert "NesT: 82 M parameters" in svg and "NesT: 6 images/s" in svg
    assert "NesT over TransGAN: 3.00; paper: 8" in svg
    assert "makes 3.00 times as many images per second" in say_figure7(Found({}, {}), run)
    empty = generators_table(None, [])
    assert [row[1] for row in empty.rows] == [NOT_RUN] * 3 and empty.sources is None


def test_machines_are_named_where_there_are_several():
    run = bench_record(NesT=[4.0, 6.0, 9.0], TransGAN=[2.0, 2.0, 3.0], Convnet=[1.0, 1.0, 1.0])
    other = replace(run, run_id="bench/other", environment=run.environment | {"device": "another"})
    rows = generators_table(None, [run, other]).rows
    assert [row[1] for row in rows] == ["a machine, fp32"] * 3 + ["another, fp32"] * 3


def test_distances_to_training_images_stand_beside_real_ones():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    found = Neighbours("run", "digits", images, images, ("train image 3", "train image 1"),
                       (12.0, 15.0), (10.0, 20.0, 21.0))  # fmt: skip
    rows = {row[0]: row for row in neighbours_table(found).rows}
    assert rows["sample 1"][1] == "train image 3" and rows["sample 2"][2].value == 15
    assert rows["3 test images, median"][2].value == 20
    assert rows["3 test images, least"][2].value == 10
    assert "nearest in" in draw_neighbours(found, "a").to_svg().decode()
    alone = replace(found, nearest=None)
    assert "nearest in" not in draw_neighbours(alone, "a").to_svg().decode()
