"""What only a GPU can tell, in under a minute: run first where one can be had.

    pytest -m gpu tests/test_gpu.py

Without a GPU the tests that need none run on the CPU, so that this file can be rehearsed.
"""

from dataclasses import replace

import pytest
import torch

from nestlib.data.augmentation import Augmentation
from nestlib.models import create_model
from nestlib.recipes.distillation import Distillation
from nestlib.recipes.named import get_recipe
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import Trainer, train

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _without_tf32():
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def build(device=DEVICE, name="nest_tiny_cifar", **options):
    torch.manual_seed(0)
    return create_model(name, num_classes=10, **options).to(device).eval()


def images(device=DEVICE, count=4, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)


def steps(recipe, folder, form, count=6, device=DEVICE):
    """The trainer behind so many steps."""
    train_set, test_set = load_sets(recipe)
    torch.manual_seed(0)
    model = recipe.build_model(train_set.num_classes)
    trainer = Trainer(recipe, model, train_set, test_set, folder, device, step=form)
    while trainer.progress.step < count:
        for batch in trainer.batches():
            trainer.train_step(*batch)
    return trainer


def assert_same_weights(one, other, rtol=1e-3, atol=1e-5):
    for (name, a), b in zip(one.model.state_dict().items(), other.model.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda m, name=name: name + m)


@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_logits_are_the_cpus(attention):
    cpu = torch.device("cpu")
    options = {"attention": attention, "patch_size": 2, "num_hierarchies": 3}
    with torch.inference_mode():
        expected = build(cpu, **options)(images(cpu))
        torch.testing.assert_close(build(**options)(images()).cpu(), expected, rtol=1e-3, atol=1e-3)


def test_bf16_is_near_fp32():
    model, batch = build(patch_size=2, num_hierarchies=3), images()
    with torch.inference_mode():
        exact = model(batch)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            low = model(batch).float()
    assert (low - exact).norm() / exact.norm() < 0.05 and not torch.equal(low, exact)


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_graph_trains_as_eager_steps_do(tiny_recipe, tmp_path, optimizer):
    """The same draws at each replay: crops, mixes and stochastic depth are others at every step."""
    recipe = replace(tiny_recipe, optimizer=optimizer, clip_grad_norm=1.0)
    eager, graph = (steps(recipe, tmp_path / form, form) for form in ("eager", "graph"))
    torch.testing.assert_close(graph.sums, eager.sums, rtol=1e-4, atol=0)
    assert_same_weights(graph, eager)
    other = steps(replace(recipe, seed=1), tmp_path / "other", "graph")
    assert abs(other.sums[0] - graph.sums[0]) > 1e-4


@needs_gpu
@pytest.mark.parametrize("form", ["eager", "graph"])
def test_the_device_is_never_waited_for_in_the_loop(tiny_recipe, tmp_path, form):
    recipe = replace(tiny_recipe, precision="bf16", augmentation=Augmentation(color_jitter=0.3))
    trainer = steps(recipe, tmp_path, form, count=2)
    batch = trainer.train_set.images[:32], trainer.train_set.labels[:32]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.train_step(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("form", ["eager", pytest.param("graph", marks=needs_gpu)])
def test_a_stopped_run_goes_on_as_if_it_had_not(tiny_recipe, tmp_path, form, monkeypatch):
    sets, how = load_sets(tiny_recipe), {"device": DEVICE, "progress_bar": False, "step": form}
    results = []
    for name, deadlines in (("whole", [None]), ("stopped", [0.0, None])):
        for deadline in deadlines:
            torch.manual_seed(0)
            model = tiny_recipe.build_model(10)
            folder = tmp_path / name
            result = train(tiny_recipe, model, *sets, run_dir=folder, deadline=deadline, **how)
        results.append(result)
    whole, stopped = (result.history[-1] for result in results)
    assert results[1].finished and stopped["epoch"] == whole["epoch"]
    assert stopped["train/loss"] == pytest.approx(whole["train/loss"], rel=1e-3)


def test_every_trainer_trains(tiny_recipe, store, tmp_path):
    """The classifier's, a pupil's of a teacher, and the GAN's, by runs of seconds."""
    teacher = get_recipe("digits/nest_narrow").run_id
    pupil = replace(tiny_recipe, distillation=Distillation(teacher, "hard", weight=0.5))
    gan = get_recipe("digits/gan_nest_narrow")
    how = {"runs_dir": tmp_path, "device": str(DEVICE), "progress_bar": False}
    for recipe in (tiny_recipe, pupil, gan):
        record = carry_out(recipe.at_budget("smoke"), store, **how)
        assert record.environment["device_kind"] == DEVICE.type
        values = [v for v in record.epochs[-1].values() if isinstance(v, float)]
        assert values and torch.isfinite(torch.tensor(values)).all()


# What compiles takes longest


@needs_gpu
def test_compiled_is_eager():
    model = build(embed_dim=48, patch_size=2, num_hierarchies=3)
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.compile(model)(images()), model(images()), rtol=1e-3, atol=1e-3
        )


@needs_gpu
def test_a_compiled_graph_learns_as_eager_steps_do(tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, precision="bf16", drop_path_rate=0.0)
    eager, graph = (steps(recipe, tmp_path / form, form) for form in ("eager", "compiled_graph"))
    torch.testing.assert_close(graph.sums, eager.sums, rtol=0.02, atol=0)
