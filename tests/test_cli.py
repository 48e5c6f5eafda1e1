import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from nestbook.cli.evaluations import NETWORK_NAMES
from nestbook.cli.sweeps import SWEEP_NAMES
from nestbook.evaluations.generators import NETWORKS
from nestbook.evaluations.planted import MODELS
from nestbook.profiles import PROFILES
from nestbook.recipes.rows import FIGURE7_UNSAMPLINGS
from nestbook.sweeps import forecast
from nestbook.sweeps.plans import SWEEPS
from nestlib import __version__
from nestlib.cli import main as cli
from nestlib.cli import options
from nestlib.data.shard_maker import SHARD_MB
from nestlib.models.deaggregation import UNSAMPLINGS
from nestlib.project import is_project
from nestlib.recipes.named import list_recipes
from nestlib.records import open_store
from nestlib.training.devices import RANK_TIMEOUT

ROOT = Path(__file__).parents[1]


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["nest", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().out


def test_recipes_are_listed_one_a_line(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(list_recipes())


def test_recipes_are_listed_by_words(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "recipes", "CIFAR100", "nest")
    names = [line.split()[0] for line in out.splitlines()]
    assert code == 0 and names == [f"cifar100/nest_{size}" for size in ("tiny", "small", "base")]
    code, _ = run(monkeypatch, capsys, "recipes", "vgg")
    assert code == "nest: no recipe contains vgg; `nest recipes` lists all"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits/nest_narrow", "--runs-dir="], ["inspect", "cifar10", "--data-dir="],
        ["train", "digits/nest_narrow", "--runs-dir=s3://b/x"], ["check-shards", ""],
        ["shard", "imagenet", "--source=http://127.0.0.1/x", "--out=x"], ["convert", "x", ""],
        ["push", "digits/nest_narrow", "--folder="], ["export", "nest_tiny_cifar", "--onnx="],
        ["evidence", "--pack="], ["train", "digits/nest_narrow", "--data-dir="],
    ],
)  # fmt: skip
def test_no_path_and_an_address_in_its_place_are_refused(monkeypatch, capsys, words):
    """As of a variable of the shell that is not set, for which Path gives the working folder."""
    monkeypatch.setattr(sys, "argv", ["nest", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert re.search(r"Invalid value for '[\w-]+': '.*' is no path", capsys.readouterr().err)


def test_a_path_may_begin_at_home(monkeypatch, tmp_path):
    """Shells leave ~ as it is behind --runs-dir=, and a folder of that name is a trap."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert options.local_path("~/runs") == tmp_path / "runs"
    assert options.local_path("./~") == Path("~")
    assert options.path_or_url("~") == tmp_path
    assert options.path_or_url("s3://bucket/~") == "s3://bucket/~"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["recipes"], ["train", "--help"]])
def test_help_and_lists_do_not_wait_for_torch(words):
    """The command as it is installed: its name is what nestlib's own imports look at."""
    script = (
        f"import sys; sys.argv = ['/somewhere/nest', *{words}]\n"
        "from nestlib.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *shown, loaded = done.stdout.splitlines()
    assert shown and loaded == "[]"


def test_import_nestlib_is_whole_everywhere_else():
    script = (
        "import nestlib, timm; print(timm.is_model('nestlib_nest_tiny_imagenet'), nestlib.NesT)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True <class")


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version") == (0, f"nestlib {__version__}\n")


def test_names_and_defaults_are_the_librarys():
    """They are written out in nestlib.cli, which must not import what they stand in."""
    assert SWEEP_NAMES.split(", ") == list(SWEEPS)
    assert NETWORK_NAMES.split(", ") == list(NETWORKS)
    assert tuple(FIGURE7_UNSAMPLINGS) == UNSAMPLINGS
    commands = typer.main.get_command(cli.app).commands
    defaults = {(name, p.name): p.default for name, c in commands.items() for p in c.params}
    assert defaults["shard", "shard_mb"] == SHARD_MB
    assert defaults["explain", "num_models"] == MODELS
    limit = options.parse_seconds("--rank-timeout", defaults["train", "rank_timeout"])
    assert limit == RANK_TIMEOUT


def test_errors_name_options_as_they_are_typed():
    said = cli.in_options("pass data_dir=..., or num_models is 0; limit=... ", ["explain"])
    assert said == "pass --data-dir, or --models is 0; --limit "
    # A field of a recipe is no option of `nest train`.
    said = cli.in_options("batch_size is 0, runs_dir=..., load_data_dir()", ["train"])
    assert said == "batch_size is 0, --runs-dir, load_data_dir()"


def test_train_says_that_it_found_a_record_and_again_trains(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [
        "train", "digits/nest_narrow", "--device", "cpu", "--set", "epochs=1", "--set",
        "warmup_epochs=0", "--set", "dataset_options.num_images=64",
    ]  # fmt: skip

    def call(*more):
        monkeypatch.setattr(sys, "argv", ["nest", *words, *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    code, first, err = call()
    assert code == 0 and "not trained" not in err
    (path,) = (tmp_path / "runs" / "records").rglob("*.json")
    made = path.read_text()
    time.sleep(1)  # records tell the time to the second
    code, out, err = call()
    assert (code, out) == (0, first) and path.read_text() == made
    assert "not trained, because a record exists; --again runs it again" in err
    assert f"  {path}, made 20" in err
    code, out, err = call("--again")
    assert code == 0 and "not trained" not in err and path.read_text() != made
    (old,) = (tmp_path / "runs" / "records").rglob("*.json.stale-*")
    assert old.read_text() == made


def test_a_committed_record_is_left_by_again(monkeypatch, capsys, tmp_path):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    assert is_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [
        "train", "digits/nest_narrow", "--device", "cpu", "--set", "epochs=1", "--set",
        "warmup_epochs=0", "--set", "dataset_options.num_images=64",
    ]  # fmt: skip
    assert run(monkeypatch, capsys, *words, "--commit-record")[0] == 0
    (committed,) = (tmp_path / "experiments" / "records").rglob("*.json")
    text = committed.read_text()
    assert run(monkeypatch, capsys, *words, "--again")[0] == 0
    assert committed.read_text() == text
    first, second = open_store().find_all(committed.relative_to(
        tmp_path / "experiments" / "records"
    ).with_suffix("").as_posix())  # fmt: skip
    assert first.summary["weights_sha256"] == second.summary["weights_sha256"]  # the same seed
    assert first.environment["started"] <= second.environment["started"]


def test_a_smoke_bench_shows_no_result(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out = run(monkeypatch, capsys, "bench", "table1", "--form", "smoke", "--device", "cpu")
    assert code == 0 and "not run yet" not in out and "a smoke run times too little" in out


def test_planted_truth_is_not_measured_twice(monkeypatch, capsys):
    """Its record is committed; to measure it again takes 20 minutes."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("nestbook.evaluations.planted.trained_models", None)
    code, out = run(monkeypatch, capsys, "explain", "planted")
    assert code == 0 and "How often each way finds" in out


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
    assert code == options.STOPPED and "the same command resumes from" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "cifar10/nest_tyni"], "nest: no recipe 'cifar10/nest_tyni'; did you mean"),
        (["train", "cifar10/nest_tiny", "--set", "epoch=3"], "nest: no recipe field 'epoch'"),
        (["train", "cifar10/nest_tiny", "--device", "tpu"], "nest: device 'tpu' is not one of"),
        (
            ["train", "digits/nest_narrow", "--max-time", "soon"],
            "nest: --max-time is 'soon', which is not",
        ),
        (["train", "cifar10/nest_tiny", "--device", "cpu", "--data-dir", "absent"], "absent"),
        (
            ["score", "digits/nest_narrow"],
            "nest: digits/nest_narrow generates no images; recipes that do",
        ),
        (["score", "digits/gan_nest_narrow", "--seed", "77"], "--seed 77` makes it"),
        (["bench", "table9"], "nest: no bench 'table9'; did you mean table2, table1?"),
    ],
)
def test_mistakes_are_one_line_not_a_traceback(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    code, _ = run(monkeypatch, capsys, *words)
    assert message in code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train imagenet/nest_tiny --budget paper", "no --budget 'paper'; valid: smoke"),
        ("train digits/nest_narrow --data-dir x", "a run on digits does not take --data-dir"),
        ("train digits/nest_narrow --download", "a run on digits does not take --download"),
        ("train digits/gan_nest_narrow --micro-batch 2", "a GAN's run does not take --micro-batch"),
        ("train digits/nest_narrow --budget smoke --runs-dir x", "does not take --runs-dir"),
        ("train digits/nest_narrow --set budget=smoke", "use --budget smoke, which cuts"),
        ("train digits/nest_narrow --seed 2 --set seed=1", "set the same field"),
        ("train digits/nest_narrow --precision bf16 --set precision=fp32", "set the same field"),
        ("explain planted --device cpu", "explain planted does not take --device"),
        ("evidence --only 2", "--only has no effect without --run"),
        ("evidence --device cpu", "--device has no effect without --run"),
        ("evidence --take x --device cpu", "--device has no effect beside --take"),
        ("evaluate nest_tiny_imagenet --seed 1", "of published weights does not take --seed"),
        ("sweep --all --budget small --seeds 2", "sweep --all, .* does not take --seeds"),
        ("sweep figure5 --board --max-time 9m", "sweep --board, .* does not take --max-time"),
        ("submit imagenet/nest_tiny --dry-run --budget paper", "no --budget 'paper'"),
        ("submit figure5 --dry-run --board", "a job of a sweep does not take --board"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    monkeypatch, capsys, tmp_path, words, message
):
    monkeypatch.chdir(tmp_path)
    code, _ = run(monkeypatch, capsys, *words.split())
    assert re.match(f"nest: .*{message}", str(code)), code
    assert not list(tmp_path.iterdir())


def test_explain_refuses_an_option_that_it_would_not_use(monkeypatch, capsys):
    code, _ = run(monkeypatch, capsys, "explain", "planted", "--limit", "5")
    assert code == (
        "nest: explain planted does not take --limit; it takes --budget, --models, --runs-dir"
    )
    code, _ = run(monkeypatch, capsys, "explain", "figure8", "--dataset", "imagenet", "--seed", "1")
    assert "explain figure8 --dataset imagenet does not take --seed; it takes --dataset" in code


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400)]
)
def test_times(text, seconds):
    assert options.parse_seconds("--max-time", text) == seconds


# A command that stops before it does anything, and which of its options take numbers.
NUMBERS = {
    "train digits/nest_narrow": ("--seed", "--micro-batch"),
    "shard imagenet --source x --out y": ("--shard-mb", "--processes"),
    "export nest_tiny_cifar --onnx x.onnx": ("--num-classes", "--img-size"),
    "export digits/nest_narrow": ("--seed",),
    "push digits/nest_narrow --folder x": ("--seed",),
    "submit digits/nest_narrow --dry-run": ("--nodes", "--gpus-per-node", "--cpus-per-rank"),
    "sweep figure5 --board": ("--seeds", "--processes"),
    "evidence --run": ("--only",), "evidence": ("--stage", "--minutes"),
    "evidence --pack x": ("--transfer-mb", "--transfers"),
    "evaluate digits/nest_narrow": ("--batch-size", "--limit", "--seed"),
    "score digits/gan_nest_narrow": ("--samples", "--seed", "--noise-seed"),
    "explain planted": ("--models",), "explain figure8": ("--limit", "--seed"),
}  # fmt: skip


def test_the_table_of_number_options_is_whole():
    listed = {(words.split()[0], option) for words, names in NUMBERS.items() for option in names}
    found = {
        (name, next(opt for opt in parameter.opts if opt.startswith("--")))
        for name, command in typer.main.get_command(cli.app).commands.items()
        for parameter in command.params
        if re.search(r"int|float", str(parameter.type_descriptor.annotation))
    }
    assert found == listed


@pytest.mark.parametrize(
    ("words", "option"), [(words, option) for words, names in NUMBERS.items() for option in names]
)
def test_a_number_of_no_sense_names_its_option(monkeypatch, capsys, tmp_path, words, option):
    """Infinity, words, more than any machine has, fewer than none."""
    monkeypatch.chdir(tmp_path)
    for value in ("nan", "inf", "1e400", "x", "", "-1", "9" * 30):
        monkeypatch.setattr(sys, "argv", ["nest", *words.split(), f"{option}={value}"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr().err + str(end.value.code)
        assert option in said, (value, said)
        assert end.value.code == 2 or str(end.value.code).startswith("nest: "), (value, said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *itertools.product(
            ["--max-time", "--checkpoint-every", "--rank-timeout"],
            ["", "-5m", "nan", "1e400", "9e99h", "999999999h", "1h30m", "5m5m", "9" * 99],
        ),
        # --checkpoint-every 0 keeps a checkpoint after each step.
        *itertools.product(["--max-time", "--rank-timeout"], ["0", "0s"]),
    ],
)
def test_a_time_of_no_sense_names_its_option(monkeypatch, capsys, tmp_path, option, text):
    monkeypatch.chdir(tmp_path)
    code, _ = run(monkeypatch, capsys, "train", "digits/nest_narrow", f"{option}={text}")
    assert code.startswith(f"nest: {option} is '") and len(code) < 150, code
    assert not list(tmp_path.iterdir())


def test_profiles_are_named(monkeypatch, capsys):
    code, _ = run(monkeypatch, capsys, "profile", "xyz")
    assert code == f"nest: no profile 'xyz'; valid: {', '.join(PROFILES)}"


def test_sweep_takes_one_name_or_all_of_small(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for words in (
        [],
        ["figure5", "--all"],
        ["--all"],
        ["--all", "--budget", "small", "--only", "x"],
    ):
        code, _ = run(monkeypatch, capsys, "sweep", *words)
        assert "give the name of one sweep, or --all with --budget small" in code
    monkeypatch.setattr(forecast, "time_steps", lambda recipe: 0.36)
    code, said = run(monkeypatch, capsys, "sweep", "--all", "--budget", "small", "--board")
    assert code == 0 and said.startswith("all, small") and "training_images" in said
    assert not list(tmp_path.iterdir())
