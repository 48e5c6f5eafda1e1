"""Several ranks, or one that adds up gradients: the curve is a function of a step's parts alone."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from nestlib.data.augmentation import Augmentation
from nestlib.recipes.recipe import GanRecipe, to_dict
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import Trainer, count_parts, train
from nestlib.training.devices import Ranks

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, sys, torch
from pathlib import Path
from nestlib.recipes.recipe import from_dict
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import train
from nestlib.training.devices import Ranks
recipe, micro_batch = from_dict(json.loads(sys.argv[1])), json.loads(sys.argv[2])
torch.manual_seed(0)
result = train(recipe, recipe.build_model(10), *load_sets(recipe), run_dir=Path(sys.argv[3]),
               device=torch.device("cpu"), progress_bar=False, micro_batch=micro_batch)
rank = Ranks.join(torch.device("cpu")).rank
Path(f"rank{rank}.json").write_text(json.dumps(result.history))
Path(f"right{rank}").write_text(result.right)
"""


RUN = """
import json, math, os, shutil, sys, time
from pathlib import Path
from nestlib.files import hold
from nestlib.recipes.recipe import from_dict
from nestlib.records import Store
from nestlib.runs import run
from nestlib.training import classifier, gan
recipe, what, root = from_dict(json.loads(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
rank = int(os.environ["RANK"])
store, runs = Store(root / "committed", root / "local"), root / "runs"
made = root / "made" / f"{recipe.run_id}.json"

def end_elsewhere():
    path = store.local / made.relative_to(root / "made")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made, path)

def hold_late(path):
    end_elsewhere()
    return hold(path)

def look(*args):
    if rank == 0:
        found = find(*args)
        end_elsewhere()
        return found
    while not store.find_all(recipe.run_id):
        time.sleep(0.1)
    return find(*args)

def lose(loss_of):
    def lost(trainer, *given):  # in a step's loss, on one rank alone
        hit = trainer.progress.step == 4 and rank == int(what[-1])
        return loss_of(trainer, *given) * (math.nan if hit else 1)
    return lost

if what.startswith("loss lost on rank"):
    classifier.Trainer._loss = lose(classifier.Trainer._loss)
    gan.Trainer._generator_step = lose(gan.Trainer._generator_step)
elif what == "ended at the lock":
    run.hold = hold_late
elif what == "ended between two looks":  # the main rank finds none, the other one does
    find, run.find_fresh = run.find_fresh, look
elif what == "held" and rank == 0:
    lock = hold(runs / recipe.run_id / run.LOCK)
    lock.__enter__()
elif what == "own disks":
    runs = root / f"node{rank}"
try:
    record = run.carry_out(recipe, store, runs_dir=runs, device="cpu", progress_bar=False,
                           rank_timeout=120)
    said = f"record {record.environment['finished']}" if record else "stopped"
    said = record.summary.get("failure", said) if record else said
except (OSError, RuntimeError) as error:
    said = f"{type(error).__name__}: {error}"
(root / f"said{rank}").write_text(said)
"""


SUMS = """
import torch
from pathlib import Path
from nestlib.training.devices import Ranks
ranks, said = Ranks.join(torch.device("cpu"), timeout=60), []
for bad in range(ranks.size):
    own = torch.full((16,), float("nan") if ranks.rank == bad else 1.0)
    mean = own.clone()
    ranks.average([mean])
    said += [mean.isnan().all(), ranks.sum(own.double()).isnan().all()]
Path(f"said{ranks.rank}").write_text(str(all(said)))
"""


def run_together(folder, script, *words):
    """What each of two ranks says in the end."""
    (folder / "run.py").write_text(script)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "run.py", *words],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=110,
    )  # fmt: skip
    return [(folder / f"said{rank}").read_text() for rank in range(2)]


def carry_out_together(recipe, folder, what):
    """As `run_together`, of a run."""
    return run_together(folder, RUN, json.dumps(to_dict(recipe)), what, str(folder))


def train_alone(recipe, folder, **how):
    torch.manual_seed(0)
    return train(
        recipe, recipe.build_model(10), *load_sets(recipe), run_dir=folder,
        device=torch.device("cpu"), progress_bar=False, **how,
    )  # fmt: skip


def train_together(recipe, folder, ranks, micro_batch):
    """The history that each of so many gloo processes has."""
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(ranks), "script.py", json.dumps(to_dict(recipe)), json.dumps(micro_batch),
         str(folder / "together")],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]


def assert_same_curve(history, others):
    assert len(others) == len(history)
    for one, other in zip(history, others, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_two_ranks_give_the_curve_of_one_that_adds_up_gradients(tiny_recipe, tmp_path):
    """With RandAugment, erasing, MixUp, CutMix, stochastic depth, clipping and EMA."""
    recipe = replace(tiny_recipe, clip_grad_norm=1.0)
    histories = train_together(recipe, tmp_path, 2, None)
    assert len(histories) == 2 and histories[0] == histories[1]
    alone = train_alone(recipe, tmp_path / "alone", micro_batch=recipe.batch_size // 2)
    assert_same_curve(alone.history, histories[0])
    assert [(tmp_path / f"right{rank}").read_text() for rank in (0, 1)] == [alone.right] * 2
    whole = train_alone(recipe, tmp_path / "whole")  # other draws, so another curve
    assert whole.history[-1]["train/loss"] != pytest.approx(
        alone.history[-1]["train/loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    "what", ["ended at the lock", pytest.param("ended between two looks", marks=pytest.mark.slow)]
)
def test_a_run_that_another_process_ends_meanwhile_is_found_by_all_ranks(
    tiny_recipe, store, tmp_path, what
):
    """None goes on alone, to wait for the others until the group is lost."""
    elsewhere = Store(tmp_path / "made", tmp_path / "made")
    record = carry_out(tiny_recipe, elsewhere, runs_dir=tmp_path / "a", device="cpu")
    said = carry_out_together(tiny_recipe, tmp_path, what)
    assert said == [f"record {record.environment['finished']}"] * 2


def test_a_run_in_other_hands_ends_all_ranks(tiny_recipe, tmp_path):
    said = carry_out_together(tiny_recipe, tmp_path, "held")
    assert all(text.startswith("Held: ") and "/lock is held by process" in text for text in said)


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("loser", [0, 1])
def test_a_loss_that_one_rank_lost_ends_all_at_the_same_step(tiny_recipe, tmp_path, loser):
    """Only that rank has seen it. If it left alone, the other would wait for it."""
    said = carry_out_together(tiny_recipe, tmp_path, f"loss lost on rank {loser}")
    assert said[0] == said[1] and said[0].startswith("NonFiniteLoss: "), said
    assert "the loss is not finite at step 4 (epoch 1.33)" in said[0]


@pytest.mark.slow  # a quarter of a minute
def test_a_gans_loss_that_one_rank_lost_is_in_the_record(tmp_path):
    recipe = GanRecipe(
        name="digits/tiny_gan", generator="sagan_convnet", dataset="digits",
        generator_options={"base_channels": 2, "latent_dim": 8}, image_size=32, steps=12,
        discriminator_options={"channel_base": 128, "max_channels": 16}, num_samples=16,
        dataset_options={"num_images": 40, "canvas": "plain"}, steps_per_row=6, batch_size=8,
        budget="quick",
    )  # fmt: skip
    said = carry_out_together(recipe, tmp_path, "loss lost on rank 1")
    assert said[0] == said[1] and "the loss is not finite at step 4 of 12" in said[0], said


def test_a_nan_of_any_rank_is_in_every_sum_and_mean(tmp_path):
    """In all elements on all ranks. gloo's MAX keeps half of them (torch 2.14.1)."""
    assert run_together(tmp_path, SUMS) == ["True", "True"]


def test_tensors_are_exchanged_in_one_place_and_only_added():
    """Each exchange has to be right for NaN, for bools and for dtypes that gloo does not add up.

    `Ranks` in devices.py is that place. The benchmarks and trainers call it, beside torch's DDP.
    """
    calls = re.compile(
        r"\b(all_reduce|all_gather\w*|broadcast\w*|reduce_scatter\w*|barrier|all_to_all\w*|"
        r"gather_object|ReduceOp)\b"
    )
    found = {
        (path.name, call.split(".")[-1])
        for folder in ("nestlib", "experiments") for path in (ROOT / folder).rglob("*.py")
        for call in re.findall(r"\b(?:dist|distributed|ReduceOp)\.\w+", path.read_text())
        if calls.search(call)
    }  # fmt: skip
    assert found == {
        ("devices.py", "all_reduce"), ("devices.py", "all_gather_object"),
        ("devices.py", "broadcast"),
    }  # fmt: skip


@pytest.mark.parametrize("owner", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_ranks_that_would_resume_apart_say_which_has_what(tiny_recipe, store, tmp_path, owner):
    """Nodes whose run folder is on a disk of their own; by whichever rank the main one was."""
    runs = tmp_path / f"node{owner}"
    assert carry_out(tiny_recipe, store, runs_dir=runs, device="cpu", max_seconds=0) is None
    (checkpoint,) = runs.rglob("step-*.pt")
    said = carry_out_together(tiny_recipe, tmp_path, "own disks")
    step = int(checkpoint.stem.split("-")[1])
    for text in said:
        assert text.startswith("CheckpointError: ranks would resume from different checkpoints: ")
        assert f"rank {owner} on {platform.node()} has step {step}, weights" in text
        assert f"rank {1 - owner} on {platform.node()} does not have a checkpoint" in text
        assert "all ranks share, or copy" in text
    assert checkpoint.is_file()


@pytest.mark.slow
def test_ranks_with_copies_of_one_checkpoint_go_on_together(tiny_recipe, store, tmp_path):
    how = {"device": "cpu", "progress_bar": False}
    assert carry_out(tiny_recipe, store, runs_dir=tmp_path / "node0", max_seconds=0, **how) is None
    shutil.copytree(tmp_path / "node0", tmp_path / "node1")
    said = carry_out_together(tiny_recipe, tmp_path, "own disks")
    assert all(text.startswith("record ") for text in said)


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_rank_raises_all_do(monkeypatch, rank):
    def fail():
        raise FileNotFoundError("no images on this node")

    monkeypatch.setattr(Ranks, "gather", lambda self, own: [(1, None), (None, FileNotFoundError())])
    with pytest.raises(FileNotFoundError):
        Ranks(rank, 2).together(fail if rank else lambda: 1)
    monkeypatch.setattr(Ranks, "gather", lambda self, own: [(1, None), own])
    assert Ranks(1, 2).together(lambda: 2) == [1, 2]
    assert Ranks().together(lambda: 3) == [3]


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("ranks", [3, 4])
def test_ranks_come_and_go_and_the_curve_stays(tiny_recipe, tmp_path, ranks):
    """Parts of 8 images: 3 ranks make one, one and two of a step's four."""
    histories = train_together(tiny_recipe, tmp_path, ranks, 8)
    assert len(histories) == ranks
    alone = train_alone(tiny_recipe, tmp_path / "alone", micro_batch=8)
    assert_same_curve(alone.history, histories[0])


def test_without_draws_parts_give_the_whole_batchs_curve(tiny_recipe, tmp_path):
    plain = replace(tiny_recipe, augmentation=Augmentation.none(), drop_path_rate=0.0)
    whole = train_alone(plain, tmp_path / "whole")
    assert_same_curve(whole.history, train_alone(plain, tmp_path / "parts", micro_batch=5).history)


@pytest.mark.parametrize("left", [1, 3, 5])
def test_a_batch_of_fewer_images_than_parts_is_still_a_step(tiny_recipe, tmp_path, left):
    """As when unreadable images are left out of it."""
    recipe = replace(tiny_recipe, batch_size=8, warmup_epochs=0)
    train_set, test_set = load_sets(recipe)
    trainer = Trainer(
        recipe, recipe.build_model(10), train_set, test_set, tmp_path, torch.device("cpu"),
        micro_batch=2,
    )  # fmt: skip
    assert trainer.parts == 4
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train_step(train_set.images[:left], train_set.labels[:left])
    assert torch.isfinite(trainer.sums).all() and trainer.sums[0] > 0
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("batch_size", "ranks", "micro_batch", "parts"),
    [(32, 1, None, 1), (32, 4, None, 4), (32, 1, 8, 4), (32, 3, None, 4), (32, 1, 5, 8),
     (1024, 24, None, 32), (1024, 24, 16, 64), (7, 2, None, 7)],
)  # fmt: skip
def test_parts_are_equal_and_enough(batch_size, ranks, micro_batch, parts):
    assert count_parts(batch_size, ranks, micro_batch) == parts
    owned = [Ranks(rank, ranks).own_parts(parts) for rank in range(ranks)]
    assert [*chain(*owned)] == list(range(parts)) and all(map(len, owned))
    order = torch.arange(3 * batch_size)
    shared = torch.cat([Ranks(r, ranks).share(order, batch_size, parts) for r in range(ranks)])
    assert shared.sort().values.equal(order)  # each image is one rank's


def test_more_ranks_than_images_are_refused():
    with pytest.raises(ValueError, match="32 images cannot be shared by 33 ranks"):
        count_parts(32, 33)
    with pytest.raises(ValueError, match="at most 0"):
        count_parts(32, 1, 0)
