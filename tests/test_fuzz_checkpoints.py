"""Whatever happens to a checkpoint, to weights or to what stands beside them: the very same comes
back, or the checkpoint before, or an error that names the file. Never other weights, silently.

Only plain values are put into files; nothing here is run by loading it.
"""

import copy
import hashlib
import json
import math
import shutil
import warnings

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import nestlib
from nestlib.data.augmentation import Augmentation
from nestlib.models.tensor_files import read_tensors, write_tensors
from nestlib.models.weights import hash_weights, load_weights
from nestlib.recipes.recipe import Recipe
from nestlib.runs.hub import load_pretrained, save_model
from nestlib.runs.subsets import load_sets
from nestlib.runs.weights import _check_bytes
from nestlib.training.checkpoint import CheckpointError, save_checkpoint
from nestlib.training.classifier import Trainer

SOME = settings(max_examples=settings().max_examples // 8)  # of what takes some milliseconds
OPTIONS = {"embed_dim": 6, "num_heads": 1, "num_hierarchies": 2, "patch_size": 4, "num_classes": 3}


@st.composite
def damages(draw):
    """(where, how) of a file: a share of its length, and bytes that replace, join or go."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "remove", "append"]))
    return kind, draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=12))


def damage(data, how):
    kind, share, more = how
    place = int(share * len(data))
    if kind == "cut":
        return data[:place]
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ (more[0] or 1)]) + data[place + 1 :]
    if kind == "insert":
        return data[:place] + more + data[place:]
    return data[:place] + data[place + len(more) :] if kind == "remove" else data + more


# Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trainer, its checkpoints of steps 1 and 2 as (name, bytes), and their states by step."""
    recipe = Recipe(
        name="digits/tiny", model="nest_tiny_cifar", dataset="digits",
        model_options={k: v for k, v in OPTIONS.items() if k != "num_classes"},
        dataset_options={"num_images": 16}, augmentation=Augmentation(flip=0.0), epochs=2,
        warmup_epochs=1, batch_size=8, ema_decay=0.9, budget="quick",
    )  # fmt: skip
    torch.manual_seed(0)
    sets, folder = load_sets(recipe), tmp_path_factory.mktemp("run")
    trainer = Trainer(recipe, recipe.build_model(10), *sets, folder, torch.device("cpu"))
    step = Trainer.train_step

    def stop(self, images, labels):
        if self.progress.step == 2:
            raise KeyboardInterrupt
        step(self, images, labels)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", stop)
        trainer.run(None, 0, False)
    paths = sorted((folder / "checkpoints").iterdir())
    states = {step: torch.load(path, weights_only=True) for step, path in enumerate(paths, 1)}
    return trainer, [(path.name, path.read_bytes()) for path in paths], states


def resume(trainer, files):
    """Resume from these files alone: the step, or the message of the error; and the warnings."""
    folder = trainer.run_dir / "checkpoints"
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in files:
        (folder / name).write_bytes(data)
    trainer.progress.step = 0
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            trainer.resume()
        except CheckpointError as error:
            return str(error), warned
    return trainer.progress.step, warned


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def holds(trainer, state):
    """Whether the trainer has the weights, moments and sums of a state."""
    own = trainer._state(trainer.sums)
    return all(same(own[name], state[name]) for name in ("model", "ema", "sums")) and same(
        own["optimizer"]["state"], state["optimizer"]["state"]
    )


def check(trainer, states, found, warned):
    """That a resumption is right, whatever was done to the newest checkpoint."""
    if isinstance(found, str):
        assert str(trainer.run_dir) in found and len(found) < 3000
    else:
        assert found in states and (found == 2 or warned) and holds(trainer, states[found])


@SOME
@given(how=damages())
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, how):
    trainer, (before, newest), states = run
    data = damage(newest[1], how)
    assume(data != newest[1])
    found, warned = resume(trainer, [before, (newest[0], data)])
    assert found == 1 and len(warned) == 1 and f"{newest[0]} is damaged" in str(warned[0].message)
    check(trainer, states, found, warned)
    kept = trainer.run_dir / "checkpoints" / f"{newest[0]}.damaged"
    assert kept.read_bytes() == data
    found, warned = resume(trainer, [(newest[0], data)])  # alone: from the start, not silently
    assert found == 0 and "training starts from the beginning" in str(warned[0].message)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1, max_size=60,
).filter(lambda name: name.strip(".") and name[0] != ".")  # fmt: skip


@SOME
@given(name=NAMES, place=st.integers(0, 48))
@example(name="(1)", place=46)
def test_a_renamed_checkpoint_is_never_lost_silently(run, name, place):
    trainer, (before, newest), states = run
    name = (newest[0][:place] + name + newest[0][place:])[:200]
    assume(name != newest[0] and not name.endswith(".damaged"))
    found, warned = resume(trainer, [before, (name, newest[1])])
    check(trainer, states, found, warned)
    found, warned = resume(trainer, [(name, newest[1])])
    assert isinstance(found, str) and str(trainer.run_dir) in found


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
    | st.sampled_from([torch.zeros(()), torch.ones(3), torch.tensor([1, 2]), torch.zeros(0),
                       torch.tensor(math.nan), torch.ones(2, requires_grad=True),
                       torch.eye(2).to_sparse()]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner)
    | st.dictionaries(st.text(max_size=5) | st.integers(0, 3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def places(value, place=()):
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, one in value.items() if isinstance(value, dict) else listed:
        yield (*place, key)
        yield from places(one, (*place, key))


@SOME
@given(data=st.data(), value=PLAIN)
def test_another_value_in_the_state_is_no_other_run(run, tmp_path, data, value):
    """Under a name that fits: as of a nestlib that writes something else."""
    trainer, (before, _), states = run
    state = copy.deepcopy(states[2])
    top = st.sampled_from([(key,) for key in state])
    *outer, last = data.draw(top | st.sampled_from(sorted(places(state), key=str)))
    inner = state
    for key in outer:
        inner = inner[key]
    inner[last] = value
    folder = tmp_path / "other"
    shutil.rmtree(folder, ignore_errors=True)
    path = save_checkpoint(folder, 2, state)
    found, warned = resume(trainer, [before, (path.name, path.read_bytes())])
    check(trainer, states, found, warned)


# Weights

KINDS = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8,
         torch.bool]  # fmt: skip
TENSORS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter("__metadata__".__ne__),
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 3), max_size=3)), max_size=4,
)  # fmt: skip


def make(shapes):
    noise = torch.Generator().manual_seed(0)
    return {
        name: (9 * torch.randn(shape, generator=noise)).to(kind)
        for name, (kind, shape) in shapes.items()
    }


@given(shapes=TENSORS, how=damages())
def test_tensors_come_back_or_the_file_is_named(shapes, how, tmp_path):
    path, tensors = tmp_path / "a.safetensors", make(shapes)
    write_tensors(path, tensors)
    whole = path.read_bytes()
    assert same(read_tensors(path), tensors)
    path.write_bytes(damage(whole, how))
    try:
        found = read_tensors(path)
    except OSError as error:
        assert str(path) in str(error)
    else:
        assert same(found, tensors) or b"tensors_sha256" not in path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder as the Hub keeps it, and its files as they are."""
    path = tmp_path_factory.mktemp("hub")
    model = nestlib.create_model("nest_tiny_cifar", **OPTIONS)
    save_model(model, path, "nest_tiny_cifar", **OPTIONS)
    return path, {file.name: file.read_bytes() for file in path.iterdir()}, hash_weights(model)


def load_either(folder):
    """The hashes of the models that both readers give; None where one refuses, by name."""
    for read in (load_pretrained, nestlib.NesT.from_pretrained):
        try:
            yield hash_weights(read(folder))
        except (ValueError, OSError) as error:
            assert str(folder) in str(error) and len(str(error)) < 3000
            yield None


@SOME
@given(how=damages())
def test_damaged_weights_of_a_folder_are_never_loaded(folder, how):
    path, files, expected = folder
    weights = path / "model.safetensors"
    weights.write_bytes(damage(files[weights.name], how))
    assert set(load_either(path)) <= {expected, None}
    weights.write_bytes(files[weights.name])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=9)
    | st.sampled_from([16_384, 300, 4096, "gelu", "generator"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip


@SOME
@given(data=st.data(), value=JSON)
@example(data=None, value=[16_384, 16_384])
def test_another_value_in_a_config_is_refused_or_changes_no_weights(folder, data, value):
    path, files, expected = folder
    config = json.loads(files["config.json"])
    *outer, last = (
        data.draw(st.sampled_from(sorted(places(config), key=str))) if data else ["embed_dims"]
    )
    inner = config
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (path / "config.json").write_text(json.dumps(config))
    for found in load_either(path):
        # Another image size is a valid wish, and resizes the embeddings.
        assert found in (expected, None) or {"img_size", "block_size"} & {*outer, last}
    (path / "config.json").write_bytes(files["config.json"])


@given(text=st.binary(max_size=120) | damages())
def test_only_its_own_sum_vouches_for_committed_weights(tmp_path, text):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weights")
    beside, digest = tmp_path / "a.safetensors.sha256", hashlib.sha256(b"weights").hexdigest()
    right = f"{digest}  {path.name}\n".encode()
    beside.write_bytes(damage(right, text) if isinstance(text, tuple) else text)
    try:
        _check_bytes(path)
    except OSError as error:
        assert str(beside) in str(error) or str(path) in str(error)
    else:
        assert beside.read_bytes().rstrip(b"\n").replace(b" *", b"  ") == right.rstrip()


@SOME
@given(value=st.floats(width=32), place=st.integers(0, 17))
@example(value=math.nan, place=0)
@example(value=-math.inf, place=17)
def test_numbers_load_if_and_only_if_they_are_finite(value, place, tmp_path):
    path, model = tmp_path / "a.safetensors", torch.nn.Linear(6, 3)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["weight"].view(-1)[place] = value
    write_tensors(path, state)
    try:
        load_weights(model, path)
    except ValueError as error:
        assert not math.isfinite(value) and "a.safetensors" in str(error)
    else:
        assert math.isfinite(value) and same(dict(model.state_dict()), state)
