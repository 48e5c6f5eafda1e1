"""Use a quarter of an hour of one GPU, in two calls, for what is most worth measuring.

nest evidence --stage 1 --minutes 12    # the machine, the tests that ask for a GPU, NesT's speed
nest evidence --stage 2 --minutes 12    # a row of the paper: NesT3-T on CIFAR-10, then others

What the first parts measured decides how long the later are: the longest schedule is trained that
ends in time, and what does not fit is left out and said.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from nestbook.benchmarks.bench import SESSION_ROWS, run_bench
from nestbook.benchmarks.rivals import RIVALS
from nestbook.profiles import MACHINE_RATES
from nestbook.profiles.registry import run_profile
from nestbook.run_plan.compile_ahead import Compilations
from nestbook.run_plan.entries import PRECISION, keep_weights
from nestbook.run_plan.schedule import StepTime, choose_epochs, choose_form, measure_step
from nestbook.run_plan.session import TESTS_LOG, Session
from nestlib.data.datasets import find_dataset
from nestlib.project import find_project_root
from nestlib.recipes.recipe import Recipe
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.run import carry_out
from nestlib.training.devices import resolve_device

STAGES = {1: ("environment", "tests", "compile", "rates", "speed"), 2: ("steps", "training")}
TESTS_SECONDS = 60  # at most; they end sooner
BENCH_SECONDS, RESERVE_SECONDS = 150, 60  # of twelve minutes; fewer of fewer
TESTS = ("tests/test_augment.py", "tests/test_speed.py", "tests/test_gpu.py")  # compiling ones last


def run_session(
    store: Store, stages: Sequence[int], *, folder: Path, device: str = "cuda", **how
) -> bool:  # fmt: skip
    """Run stages in turn, and return whether all of their parts were done.

    On a CPU it is a rehearsal: its records go to `folder`, never to those of the project.

    Args:
        how: for `Session`.

    Raises:
        DeviceError: the device cannot be used; nothing is begun.
        ValueError: too few minutes, or a copy of the project that names no commit.
    """
    where = resolve_device(device)
    if describe_environment(where)["commit"] is None:
        raise ValueError(
            "records made here would not name a commit; set NESTLIB_COMMIT to the commit of this "
            "copy"
        )
    if where.type == "cpu":
        folder = folder / "rehearsal"
        store = Store(folder / "records", folder / "local")
    session = Session(store, folder, where, **how)
    return all([run_stage(session, stage) for stage in stages])


def run_stage(session: Session, stage: int) -> bool:
    """Run one stage, and return whether all of its parts were done.

    Raises:
        FileNotFoundError: stage 2 without the images of its recipe; nothing is begun.
    """
    names = STAGES[stage]
    if session.again:
        later = {name for number, parts in STAGES.items() if number >= stage for name in parts}
        session.parts = {k: part for k, part in session.parts.items() if k not in later}
    {1: _first_stage, 2: _second_stage}[stage](session)
    total = sum(session.parts[name]["seconds"] for name in names if name in session.parts)
    session.say(f"stage {stage}: {total:.0f} s of {60 * session.minutes:.0f}")
    return all(map(session.is_done, names))


# Stage 1: the machine, its tests, its speed


def _first_stage(session: Session) -> None:
    with session.part("environment") as say:
        if say:
            say(_describe_machine(session))
    rows = [row for row in SESSION_ROWS[session.device.type] if RIVALS[row].compile]
    jobs = [("row", row) for row in rows if not session.is_done("speed")]
    if session.device.type == "cuda":
        jobs.append(("step", session.recipe.name))
    compilations = Compilations(jobs, session.folder / "compiled", str(session.device))
    try:
        with session.part("tests") as say:
            if say:
                say(_run_tests(session.folder / TESTS_LOG, TESTS_SECONDS))
        lacking: list[str] = []
        session.parts.pop("compile", None)  # another call reads the cache anew
        with session.part("compile") as say:
            ended = compilations.wait(session.share(BENCH_SECONDS) / 2)
            lacking += [name for (_, name), why in ended.items() if why]
            say("; ".join(f"{name}: {why or 'done'}" for (_, name), why in ended.items()))
        with session.part("rates") as say:
            if say:
                say(_measure_rates(session))
        with session.part("speed") as say:
            if say:
                say(_measure_speed(session, lacking))
    finally:
        compilations.end()


def _describe_machine(session: Session) -> str:
    found = describe_environment(session.device)
    words = [found["device"], f"torch {torch.__version__}", f"Python {found['python']}"]
    if session.device.type == "cuda":
        seen = torch.cuda.get_device_properties(session.device)
        words += [f"capability {seen.major}.{seen.minor}", f"CUDA {torch.version.cuda}",
                  f"{seen.total_memory / 2**30:.0f} GiB", f"driver {_find_driver()}"]  # fmt: skip
    return ", ".join(words)


def _find_driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.strip()
    except FileNotFoundError:
        return "unknown: no nvidia-smi"
    except subprocess.TimeoutExpired:
        return "unknown: nvidia-smi does not answer"


def _run_tests(log: Path, seconds: float) -> str:
    """Run the tests that ask for a GPU in a process of their own; return its last line.

    Raises:
        RuntimeError: some failed, or they did not end in time.
    """
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rf", "-p", "no:cacheprovider"]
    # In its own place pytest looks for what earlier runs left, and deletes it before it ends.
    pytest.append(f"--basetemp={log.with_suffix('')}")
    with log.open("wb") as out:
        try:
            code = subprocess.run(
                [*pytest, *TESTS], stdout=out, stderr=subprocess.STDOUT, timeout=seconds,
                cwd=find_project_root(), stdin=subprocess.DEVNULL,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"not done in {seconds:.0f} s; {log} shows how far they came"
            ) from error
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    if code:
        raise RuntimeError(f"{last}; see {log}")
    return last


def _measure_rates(session: Session) -> str:
    record = run_profile(
        "rates", session.store, device=str(session.device), precision=PRECISION, committed=True
    )
    product, copy = (record.summary[key] for key in MACHINE_RATES)
    return f"{product / 1e3:.4g} TFLOP/s of a {PRECISION} matrix product, {copy:.4g} GB/s of a copy"


def _measure_speed(session: Session, without: Sequence[str]) -> str:
    """Time the rows but for those that are not compiled.

    Raises:
        RuntimeError: too little time is left.
    """
    most = session.share(BENCH_SECONDS)
    seconds = min(most, session.left() - session.share(RESERVE_SECONDS))
    if seconds < most / 4:
        raise RuntimeError(f"{seconds:.0f} s left of the {most:.0f} s that it should have")
    record = run_bench(
        "speed", session.store, form="session", device=str(session.device), precision=PRECISION,
        committed=True, progress=False, without=without, time_limit_s=seconds,
    )  # fmt: skip
    speeds = [
        f"{name} {row['images_per_second']['forward']['median']:,.0f} images/s"
        if "error" not in row else f"{name} failed: {row['error']}"
        for name, row in record.summary.items()
    ]  # fmt: skip
    return ", ".join([record.run_id, *speeds])


# Stage 2: a row of the paper


def _second_stage(session: Session) -> None:
    recipe = session.recipe
    for split in ("train", "test"):  # raises where they are missing
        find_dataset(recipe.dataset, split, data_dir=session.data_dir)
    reading = _read_ahead(session)
    times: list[StepTime] = []
    try:
        with session.part("steps") as say:
            if say:
                times += _measure_steps(session)
                say("; ".join(map(_describe_step, times)))
    finally:
        _wait_for(reading, session)
    with session.part("training") as say:
        if say:
            say(_train(session, times or _measure_steps(session)))


def _read_ahead(session: Session) -> subprocess.Popen:
    """Decode the images into their cache, in a process of its own, while the device measures."""
    recipe, where = session.recipe, session.data_dir and str(session.data_dir)
    call = (
        "from nestlib.data.datasets import load_dataset\n"
        f"for split in ('train', 'test'):\n    load_dataset({recipe.dataset!r}, split, "
        f"data_dir={where!r}, image_size={recipe.image_size}, **{recipe.dataset_options!r})\n"
    )
    return subprocess.Popen([sys.executable, "-c", call], stdin=subprocess.DEVNULL)


def _wait_for(reading: subprocess.Popen, session: Session) -> None:
    """Wait for the images as long as a run could still begin behind them: a disk may hang."""
    try:
        reading.wait(max(0.0, session.left() - session.share(RESERVE_SECONDS)))
    except subprocess.TimeoutExpired:
        reading.kill()


def _measure_steps(session: Session) -> list[StepTime]:
    """Time every form that is worth it: a compiled one only if the longest schedule needs it."""
    recipe, times = session.recipe, []
    limit = session.left() / 10
    for form in session.program.forms:
        if "compiled" in form and _longest_fits(session, times):
            session.say(f"{form}: not tried: the longest schedule fits without it")
            continue
        times.append(measure_step(recipe, form, session.device, limit, session.now))
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
    return times


def _longest_fits(session: Session, times: list[StepTime]) -> bool:
    longest = max(session.program.epochs)
    found = _choose(session, choose_form(times))
    return found is not None and found.epochs == longest


def _choose(session: Session, step: StepTime) -> Recipe | None:
    seconds = session.left() - session.share(RESERVE_SECONDS)
    return choose_epochs(session.recipe, step, seconds, session.program.epochs)


def _describe_step(one: StepTime) -> str:
    if one.error:
        return f"{one.form}: {one.error}"
    return (
        f"{one.form}: {1e3 * one.seconds:.3g} ms per step, {one.evaluation_seconds:.2g} s per "
        f"evaluation, first loss {one.first_loss:.4f}"
    )


def _train(session: Session, times: list[StepTime]) -> str:
    step = choose_form(times)
    recipe = _choose(session, step)
    if recipe is None:
        raise RuntimeError(
            f"no schedule of {', '.join(map(str, session.program.epochs))} epochs ends in the "
            f"{session.left():.0f} s left at {1e3 * step.seconds:.3g} ms per step"
        )
    begin, limit = session.now(), session.left() - session.share(RESERVE_SECONDS) / 4
    record = carry_out(
        recipe, session.store, data_dir=session.data_dir, runs_dir=session.folder / "runs",
        device=str(session.device), max_seconds=limit, checkpoint_seconds=120, committed=True,
        step=step.form, progress_bar=False, again=session.again,
    )  # fmt: skip
    if record is None:
        raise RuntimeError(
            f"{recipe.run_id} was stopped after {session.now() - begin:.0f} s, before its last "
            "epoch; the same call resumes from its checkpoint"
        )
    weights = keep_weights(recipe, record, session.store, session.folder / "runs")
    return _describe_training(record, recipe, step, weights)


def _describe_training(
    record: Record, recipe: Recipe, step: StepTime, weights: Path | None
) -> str:  # fmt: skip
    top1, split = record.top1
    seconds = record.summary["train_seconds"]
    return (
        f"{record.run_id}: {recipe.epochs} epochs by step {step.form}, {top1:.2f} % top-1 of "
        f"{split}, {seconds:.0f} s; weights {f'in {weights.name}' if weights else 'too large'}"
    )
