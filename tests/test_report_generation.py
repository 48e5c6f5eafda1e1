"""What the pages on generation show: the decoder's own table, scores, speeds, and whence."""

from dataclasses import replace

import numpy as np
import pytest

from nestbook import paper
from nestbook.evaluations.samples import Neighbours
from nestbook.report.generation import (
    compare_unsamplings,
    generation_table,
    generators_table,
    plot_figure7,
    plot_figure_a3,
    runs_table,
)
from nestbook.report.samples import draw_neighbours, neighbours_table
from nestbook.report.table_a1 import describe_hierarchies
from nestbook.report.table_a4 import table_a4
from nestbook.report.tables import NOT_RUN
from nestlib.models import create_generator
from nestlib.records import Record


def test_table_a4_is_read_from_the_model():
    model = create_generator("nest_decoder", img_size=64)
    assert dict(enumerate(describe_hierarchies(model), 1)) == paper.TABLE_A4
    narrow = create_generator(
        "nest_decoder", img_size=32, embed_dim=128, num_heads=2, depths=[1, 2, 3]
    )
    assert describe_hierarchies(narrow) == [(8, 2, 1, 16), (32, 2, 2, 4), (128, 2, 3, 1)]


def test_table_a4_shows_both_readings_beside_the_paper():
    architecture, parameters = table_a4()
    levels = [row[0] for row in architecture.rows if row[0].startswith("hierarchy")]
    assert levels == [f"hierarchy {k}" for k in (4, 3, 2, 1)]
    for row in architecture.rows[1:]:  # but for the noise
        assert row[1] == row[2] == row[3], row
    assert architecture.rows[0][2:] == (
        "256 values, a linear layer to 65,536", "65,536 values, reshaped alone"
    )  # fmt: skip
    cells = {row[0]: row[1:] for row in parameters.rows}
    embedding, whole = (cells[part] for part in ("noise to 1 x n x d", "all"))
    assert [number.value for number in embedding] == [257 * 65536 / 1e6, 0]
    assert whole[0].value - whole[1].value == pytest.approx(embedding[0].value)
    parts = [row[1].value for row in parameters.rows[:-1]]
    rest = 2 * 16 + 3 * 16 + 3  # LayerNorm and Conv1x1
    assert whole[0].value - sum(parts) == pytest.approx(rest / 1e6)


OFFLINE = "frechet_distance", "classifier_score"


def scored_run(name, score, seed=0, *, budget="quick", names=OFFLINE):
    summary = dict.fromkeys(names, score) | {
        "kernel_distance": 0.01, "num_samples": 2048, "num_reference": 4096, "seed": 0,
        "reference": "digits train", "reference_fingerprint": "f" * 64, "resize": "none",
        "feature_network": "a network", "feature_weights_sha256": "e" * 64,
    }  # fmt: skip
    rows = [{"step": step, "num_samples": 256} | dict.fromkeys(names, score + 9 - step)
            for step in (0, 9)]  # fmt: skip
    run = f"digits/{name}-s{seed}-00000000"
    recipe = {"run": run, "budget": budget, "network": "digits"}
    return Record(f"score/{run}-digits", "score", recipe, {}, summary, rows)


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
    assert (
        compare_unsamplings(apart, "figure7") == "PS is best, its interval apart from all others'"
    )
    # Student's t for three runs: 4.303 * 1 / sqrt(3) = 2.48 on either side.
    near = of_unsamplings(PS=10, PS_C3=14.9, C3_PS=31, NN=32, NN_C3=33, C3_NN=34)
    assert compare_unsamplings(near, "figure7").startswith("undecided, as PS's interval")
    assert compare_unsamplings(apart, "figure_a3").startswith("undecided, as C3-NN's interval")
    two = apart | {"NN": apart["NN"][:2]}
    assert compare_unsamplings(two, "figure7").startswith("undecided, as there are not three seeds")


def test_what_has_no_score_says_so_and_smoke_is_never_shown():
    scored = {"NesT": [scored_run("gan_nest", 5.0)], "NN": [scored_run("nn", 1.0, budget="smoke")]}
    table = generation_table(scored, "figure7")
    cells = {row[0]: row[1:] for row in table.rows}
    assert str(cells.pop("NesT (PS)")[0]) == "5.00" and len(cells) == 7
    assert all(row == (NOT_RUN, "", "", "") for row in cells.values())
    text = str(table)
    assert "Fréchet distance" in text and "FID" not in text
    assert "2,048 samples, points of its curve of 256" in text and "a network (eeeeeeee)" in text


def test_inceptions_scores_are_called_by_their_names():
    scored = {"NesT": [scored_run("gan_nest", 5.0, names=("fid", "inception_score"))]}
    caption = generation_table(scored, "figure7").caption
    said = "Generators trained and scored on digits, features of a network: FID (lower is better)"
    assert caption == said
    assert "inception score" in generation_table(scored, "figure_a3").caption


@pytest.mark.parametrize("draw", [lambda s: plot_figure7(s, None, []), plot_figure_a3])
def test_figures_draw_what_there_is_and_name_what_is_missing(draw):
    svg = draw({"NesT": [scored_run("gan_nest", 5.0)]}).to_svg().decode()
    assert (
        "NesT at step 9: 5; of 256 samples" in svg
        and "score/digits/gan_nest-s0-00000000-digits" in svg
    )
    assert NOT_RUN in svg and "TransGAN" in svg and "NN-C3" in svg
    assert "Final: NesT: 5 (n = 1)." in svg
    assert "not run yet." in draw({}).to_svg().decode()


def test_a_curve_is_the_mean_of_its_runs_within_their_range():
    records = [scored_run("gan_nest", score, seed) for seed, score in enumerate((5.0, 6.0, 10.0))]
    (axes, *_) = plot_figure_a3({"NesT": records}).figure.axes
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
    table = runs_table({("NesT",): [run], ("NN",): [replace(run, recipe={"budget": "smoke"})]})
    ((row, ended, *numbers),) = table.rows
    assert (row, ended) == ("NesT", "failed") and [n.value for n in numbers] == [5, 33, 9, 12]
    assert "digits/gan-s0: the loss is not finite; a machine, 1 threads" in table.notes
    assert runs_table({("NesT",): []}).rows == [("NesT", NOT_RUN, "", "", "", "")]


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
    rows = {row[0]: row for row in generators_table(run, []).rows}
    assert rows["NesT"][5].value == 3 and rows["NesT"][5].n == 3 and rows["NesT"][4].value == 6
    assert rows["NesT"][6].value == 8 and rows["NesT"][6].source == "paper"
    assert rows["Convnet"][6] == "no number"
    svg = plot_figure7({}, run, []).to_svg().decode()
    assert "NesT: 82.0 M parameters, 6 images/s" in svg
    empty = generators_table(None, [])
    assert [row[1] for row in empty.rows] == [NOT_RUN] * 3


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
