#!/usr/bin/env bash
# With repeated augmentation on one GPU, torchvision's MixUp mixes two of three images with themselves.
# Expected: a batch of repeated augmentation holds each image several times; MixUp and CutMix behind it mix images of
#   different classes, as they do without it. DeiT's recipe has all of them.
# Happens: the sampler puts an image's copies next to each other and hands every n-th to a process. torchvision's v2.MixUp
#   and v2.CutMix mix each image with its neighbour in the batch. With three copies on one process two of three images are
#   mixed with their own copy, on two processes one of three, from three processes on none. Their labels stay
#   one class and their CutMix pastes an image into itself. timm's Mixup mixes with the batch in reverse order, and meets
#   no copy. So a recipe that is right on eight GPUs loses most of its mixing on one.
# Hurt: whoever trains a DeiT recipe on one GPU with torchvision's transforms and a sampler of repeated augmentation.
# Source: measured here; the sampler is timm.data.distributed_sampler.RepeatAugSampler, the layout is DeiT's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import timm
import torch
import torchvision
from timm.data import Mixup
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

IMAGES = 1_536
# Every image has a class of its own, so that a target of one class means an image mixed with its own copy.
dataset = TensorDataset(torch.rand(IMAGES, 3, 8, 8), torch.arange(IMAGES))
mixers = {
    "torchvision MixUp": v2.MixUp(alpha=0.8, num_classes=IMAGES),
    "torchvision CutMix": v2.CutMix(alpha=1.0, num_classes=IMAGES),
    "timm Mixup": Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0, num_classes=IMAGES),
}


def share_mixed_with_itself(mixer, processes):
    torch.manual_seed(0)
    sampler = RepeatAugSampler(dataset, num_replicas=processes, rank=0, num_repeats=3)
    alone = []
    for images, labels in DataLoader(dataset, batch_size=64, sampler=sampler, drop_last=True):
        _, targets = mixer(images, labels)
        alone.append((targets > 0).sum(1) == 1)
    return torch.cat(alone).float().mean().item()


print("torchvision", torchvision.__version__, "timm", timm.__version__)
seen = {}
for name, mixer in mixers.items():
    seen[name] = [share_mixed_with_itself(mixer, processes) for processes in (1, 2, 3, 4)]
    print(f"{name}: mixed with itself on 1, 2, 3 and 4 processes:", *(f"{share:.1%}" for share in seen[name]))

for name in ("torchvision MixUp", "torchvision CutMix"):
    one, two, three, four = seen[name]
    assert 0.6 < one < 0.7 and 0.25 < two < 0.4 and three < 0.05 and four < 0.05, seen
assert max(seen["timm Mixup"]) < 0.05, seen
PY
"$folder/venv/bin/python" "$folder/show.py"
