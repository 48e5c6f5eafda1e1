import sys

import pytest

from nestlib import cli
from nestlib.recipes.named import NAMED
from nestlib.studies.profiles import PROFILES


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["nest", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().out


def test_recipes_are_listed_one_a_line(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(NAMED)


def test_train_leaves_a_record_and_says_what_came_out(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits/nest_narrow", "--budget", "smoke", "--device", "cpu"]
    code, out = run(monkeypatch, capsys, *words)
    assert code == 0 and "% top-1 after epoch 1" in out
    assert len(list((tmp_path / "runs" / "records").rglob("*.json"))) == 1


def test_a_smoke_gan_names_no_folder_that_is_gone(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits/gan_nest_narrow", "--budget", "smoke", "--device", "cpu"]
    code, out = run(monkeypatch, capsys, *words)
    assert code == 0 and "pixel distance" in out and "run folder" not in out


def test_time_limit_has_its_own_exit_code(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits/nest_narrow", "--device", "cpu", "--max-time", "1s"]
    code, out = run(monkeypatch, capsys, *words)
    assert code == cli.STOPPED and "the same command goes on from there" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "cifar10/nest_tyni"], "nest: no recipe 'cifar10/nest_tyni'; did you mean"),
        (["train", "cifar10/nest_tiny", "--set", "epoch=3"], "nest: no recipe field 'epoch'"),
        (["train", "cifar10/nest_tiny", "--device", "tpu"], "nest: device 'tpu' is not one of"),
        (["train", "digits/nest_narrow", "--max-time", "soon"], "nest: 'soon' is no time"),
        (["train", "cifar10/nest_tiny", "--device", "cpu", "--data-dir", "absent"], "absent"),
        (["score", "digits/nest_narrow"], "nest: digits/nest_narrow generates nothing; scores are"),
        (["score", "digits/gan_nest_narrow", "--seed", "77"], "--seed 77` makes it"),
        (["bench", "table9"], "nest: no bench 'table9'; there are table1"),
    ],
)
def test_mistakes_are_one_line_not_a_traceback(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    code, _ = run(monkeypatch, capsys, *words)
    assert message in code


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400)]
)
def test_times(text, seconds):
    assert cli.parse_seconds(text) == seconds


def test_profiles_are_named(monkeypatch, capsys):
    code, _ = run(monkeypatch, capsys, "profile", "heat")
    assert code == f"nest: no profile 'heat'; there are {', '.join(PROFILES)}"
