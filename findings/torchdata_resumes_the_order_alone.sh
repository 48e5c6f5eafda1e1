#!/usr/bin/env bash
# torchdata resumes the order of images, but their augmentation only if the random state is set after iter().
# Expected: a run that stops within an epoch restores torch's random state and the state of torchdata's
#   StatefulDataLoader. It goes on as if it had not stopped: the same images in the same order, augmented the same way.
# Happens: the order is right in every case. The augmentation is not, for two reasons.
#   iter(loader) draws a seed for the workers from torch's random state, with zero workers too, and then puts the
#   checkpoint's seed in its place. A random state that was restored before iter() is one draw ahead from there on: with
#   zero workers all later augmentation is another, with workers that of the next epochs.
#   The random states of the workers are not saved, so the rest of this epoch is another too. The documented remedy is a
#   data set whose state_dict holds its worker's random state. It mends this epoch, not the next ones.
#   All epochs are right with such a data set and a random state restored after iter().
# Hurt: whoever checks that a resumed run equals one that did not stop. The order of the images agrees, so the
#   difference looks like noise of the device. With the documented remedy it starts only in the next epoch.
# Source: measured here; torchdata/stateful_dataloader/stateful_dataloader.py (_base_seed) and its README (a data set's
#   state_dict).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchdata==0.11.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch
import torchdata
from torchdata.stateful_dataloader import StatefulDataLoader

IMAGES, BATCH, EPOCHS = 40, 4, 3
STOP = (1, 3)  # epoch and batch after which the checkpoint is written


class Augmented(torch.utils.data.Dataset):
    """Gives an image's index and a random number that stands for its augmentation."""

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return index, torch.rand(()).item()


class WithState(Augmented):
    """The documented remedy: the data set's state holds its worker's random state."""

    def state_dict(self):
        return {"rng": torch.get_rng_state()}

    def load_state_dict(self, state):
        torch.set_rng_state(state["rng"])


def batches(iterator):
    return [(index.tolist(), draw.tolist()) for index, draw in iterator]


def same_as_uninterrupted(dataset, workers, restore):
    """(order, augmentation): of each later epoch, whether all batches are those of the run that did not stop."""

    def loader():
        return StatefulDataLoader(dataset(), batch_size=BATCH, shuffle=True, num_workers=workers)

    torch.manual_seed(0)
    running, whole = loader(), []
    for epoch in range(EPOCHS):
        seen = []
        for batch, (index, draw) in enumerate(running):
            seen.append((index.tolist(), draw.tolist()))
            if (epoch, batch) == STOP:
                checkpoint = running.state_dict(), torch.get_rng_state()
        whole.append(seen)
    whole[STOP[0]] = whole[STOP[0]][STOP[1] + 1 :]

    torch.manual_seed(1)  # a new process
    resumed = loader()
    loader_state, rng = checkpoint
    resumed.load_state_dict(loader_state)
    if restore == "before iter()":
        torch.set_rng_state(rng)
        first = iter(resumed)
    else:
        first = iter(resumed)
        torch.set_rng_state(rng)
    rest = [batches(first)] + [batches(resumed) for _ in range(STOP[0] + 1, EPOCHS)]
    pairs = list(zip(rest, whole[STOP[0] :], strict=True))
    return [[[b[part] for b in mine] == [b[part] for b in theirs] for mine, theirs in pairs] for part in (0, 1)]


if __name__ == "__main__":
    print("torchdata", torchdata.__version__, "torch", torch.__version__)
    result = {}
    for dataset in (Augmented, WithState):
        for workers in (0, 2):
            for restore in ("before iter()", "after iter()"):
                order, augmentation = same_as_uninterrupted(dataset, workers, restore)
                result[dataset, workers, restore] = augmentation
                assert all(order), order
                kept = [("another", "the same")[same] for same in augmentation]
                print(f"{dataset.__name__:9s} {workers} workers, random state restored {restore:13s}: "
                      f"augmentation of this epoch {kept[0]}, of the next {kept[1]}")
    print("the order of the images was the same in all", len(result))
    for workers in (0, 2):
        assert result[Augmented, workers, "before iter()"] == [False, False], result
        assert result[WithState, workers, "after iter()"] == [True, True], result
    assert result[WithState, 2, "before iter()"] == [True, False], result
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py"
