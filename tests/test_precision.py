"""Precisions by name, what auto stands for on three kinds of processor, and ids that stay."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.benchmark import Timer
from typer.testing import CliRunner

from nestbook.recipes.rows import TABLE1
from nestlib import precision, processor
from nestlib.cli import main as cli
from nestlib.precision import resolve_precision
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import from_dict
from nestlib.records import load_record, open_store

CPU = torch.device("cpu")
KINDS = {
    "AMD with AVX512-BF16": {"avx512_bf16": True, "cpu_name": "AMD EPYC"},
    "Intel with AMX": {"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"},
    "Arm with BF16": {"bf16": True, "architecture": "aarch64"},
    "none": {"avx2": True, "cpu_name": "Intel(R) Core(TM)"},
    "a torch that does not say": {},
}


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """Every kind of processor in turn, as torch would describe it."""
    monkeypatch.setattr(processor, "_capabilities", lambda: KINDS[request.param])
    processor.has_bf16_products.cache_clear()
    yield request.param
    processor.has_bf16_products.cache_clear()


def test_auto_is_bf16_where_it_is_computed(kind):
    native = kind not in ("none", "a torch that does not say")
    assert resolve_precision("auto", CPU) == ("bf16" if native else "fp32")


def test_emulated_bf16_is_warned_of_with_what_it_costs(kind, monkeypatch):
    monkeypatch.setattr(precision, "_measure_slowdown", lambda device: 3.21)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert resolve_precision("fp32", CPU) == "fp32" and not caught
        assert resolve_precision("bf16", CPU) == "bf16"
    texts = [str(warning.message) for warning in caught]
    if kind in ("none", "a torch that does not say"):
        assert len(texts) == 1 and "takes 3.2 times as long as in fp32" in texts[0]
    else:
        assert texts == []


def test_the_cost_of_emulation_is_that_of_two_products(monkeypatch):
    """Both products run; the ratio is bf16's seconds over fp32's."""
    assert precision._measure_slowdown(CPU) > 0
    seconds = {torch.bfloat16: 6.0, torch.float32: 1.5}

    class Clocked(Timer):
        def blocked_autorange(self, **how):
            product = self._task_spec.stmt, self._globals["a"].dtype
            assert product[0] == "a @ a"
            return SimpleNamespace(median=seconds[product[1]])

    monkeypatch.setattr("torch.utils.benchmark.Timer", Clocked)
    assert precision._measure_slowdown(CPU) == 4.0


def test_an_unknown_precision_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"no precision 'fp8'; .*valid: fp32, bf16, auto"):
        resolve_precision("fp8", CPU)
    done = CliRunner().invoke(cli.app, ["train", "digits/nest_narrow", "--precision", "fp8"])
    assert done.exit_code and "valid: fp32, bf16, auto" in str(done.exception)


def test_every_committed_run_keeps_its_id_and_is_found(kind):
    """Whatever the processor: a recipe's precision is its own, never the machine's."""
    store = open_store(find_project_root(Path(__file__).parent))
    records = [load_record(path) for path in store.committed.rglob("*.json")]
    runs = [record for record in records if record.kind in ("train", "gan")]
    assert len(runs) > 200
    for record in runs:
        recipe = from_dict(record.recipe)
        assert recipe.run_id == record.run_id
        assert (store.committed / f"{recipe.run_id}.json").is_file()
    digits = {get_recipe(f"digits/{name}_narrow").precision for name in ("nest", "deit", "wrn")}
    assert digits == {"fp32"}


@pytest.mark.parametrize(("words", "expected"), [((), "fp32"), (("--precision", "auto"), None)])
def test_train_runs_in_the_precision_asked_for_and_names_it(
    words, expected, kind, monkeypatch, tmp_path
):
    seen = []
    monkeypatch.setattr("nestlib.runs.run.carry_out", lambda recipe, *_, **__: seen.append(recipe))
    CliRunner().invoke(cli.app, ["train", "digits/nest_narrow", *words])
    (recipe,) = seen
    assert recipe.precision == (expected or resolve_precision("auto", CPU))
    same = replace(get_recipe("digits/nest_narrow"), precision=recipe.precision)
    assert recipe.run_id == same.run_id


def test_auto_is_refused_for_a_machine_that_is_not_known_yet():
    done = CliRunner().invoke(
        cli.app, ["submit", "digits/nest_narrow", "--dry-run", "--precision", "auto"]
    )
    assert "give --precision fp32 or bf16" in str(done.exception)


def test_the_gradients_of_layer_norms_in_bf16_are_whole_sums():
    """torch's own CPU kernel ends a sum of ones at 256 per thread (findings)."""
    norm = torch.nn.LayerNorm(48)
    x = torch.randn(20_000, 48, dtype=torch.bfloat16)
    with precision.autocast("bf16", CPU):
        out = norm(x)
    out.backward(torch.ones_like(out))
    assert norm.bias.grad.tolist() == [len(x)] * 48


@pytest.mark.parametrize("row", ["DeiT-T", "PVT-T", "Swin-T", "CCT-7/3x1", "NesT-T"])
def test_gradients_of_norms_in_bf16_are_near_those_in_fp32(row):
    """The narrow models of budget small. By torch's own rule, Swin's and CCT's are off by more than
    half. The convnets have no layer norm."""
    torch.manual_seed(0)
    model = get_recipe(TABLE1[row].small).build_model(10)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    images, labels = torch.randn(125, 3, 32, 32), torch.arange(125) % 10
    found = []
    for name in ("fp32", "bf16"):
        model.zero_grad()
        torch.manual_seed(1)
        with precision.autocast(name, CPU):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        found.append([torch.cat([norm.weight.grad, norm.bias.grad]) for norm in norms])
    for full, half in zip(*found, strict=True):
        assert (full - half).norm() < 0.1 * full.norm()


def test_bf16_has_one_door():
    """A context of torch's own would compute layer norms in bf16 again."""
    root = Path(__file__).parents[1]
    sources = [*root.glob("nestlib/**/*.py"), *root.glob("experiments/**/*.py")]
    own = [path.name for path in sources if "torch.autocast(" in path.read_text()]
    assert own == ["precision.py"]
