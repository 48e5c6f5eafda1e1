#!/usr/bin/env bash
# timm's WebDataset reader passes over images called .jpeg, and fails when it is told of them.
# Expected: timm's WebDataset reader takes images called .jpeg, as ImageNet's files are called (.JPEG,
#   which WebDataset lowers), or takes them when it is told input_key="jpeg". WebDataset's own
#   decoder takes jpg and jpeg alike.
# Happens: by default it looks for jpg, png and webp alone. Each sample with a .jpeg member is passed
#   over with a line in the log, the reader ends without an image, and len() still says how many
#   there are. With input_key="jpeg" the reader finds the member, decodes it, calls it "jpg" and then
#   asks its own result for "jpeg": a ValueError. "jpg;jpeg;png;webp" works, as the first key is the
#   one that the second look finds.
# Hurt: whoever packs ImageNet into WebDataset shards under its own file names and trains or
#   validates with timm's scripts.
# Source: measured here; timm/data/readers/reader_wds.py, `input_key` and `_decode`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 webdataset==1.0.2 pillow==13.0.0
cat > "$folder/show.py" <<'PY'
import io
import json
import sys
import tarfile
from pathlib import Path

import timm
import webdataset
from PIL import Image
from timm.data import create_dataset

COUNT = 8


def pack(folder, suffix):
    """A split of one shard: images and class numbers."""
    folder.mkdir()
    with tarfile.open(folder / "validation-0.tar", "w") as tar:
        for i in range(COUNT):
            image = io.BytesIO()
            Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(image, "JPEG")
            for kind, data in ((suffix, image.getvalue()), ("cls", str(i % 2).encode())):
                info = tarfile.TarInfo(f"{i:04}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    split = dict(name="validation", num_samples=COUNT, filenames=["validation-0.tar"],
                 shard_lengths=[COUNT])
    (folder / "_info.json").write_text(json.dumps({"splits": {"validation": split}}))


def read(folder, **options):
    images = create_dataset("wds/own", root=str(folder), split="validation", batch_size=4, **options)
    try:
        return len(images), sum(1 for _ in images)
    except ValueError as error:
        return len(images), str(error)


print("timm", timm.__version__, "webdataset", webdataset.__version__)
root = Path(sys.argv[1])
found = {}
for suffix in ("jpg", "jpeg", "JPEG"):
    pack(root / f"{suffix}-shards", suffix)
    shard = str(root / f"{suffix}-shards" / "validation-0.tar")
    own = sum(1 for _ in webdataset.WebDataset(shard, shardshuffle=False).decode("pil"))
    for key in ("default", "jpeg", "jpg;jpeg;png;webp"):
        options = {} if key == "default" else {"input_key": key}
        promised, given = found[suffix, key] = read(root / f"{suffix}-shards", **options)
        print(f".{suffix}, input_key {key}: webdataset reads {own}, timm promises {promised} "
              f"and gives {given}")
        assert own == promised == COUNT
assert found["jpg", "default"][1] == COUNT
for suffix in ("jpeg", "JPEG"):
    assert found[suffix, "default"][1] == 0, "changed: .jpeg is read"
    assert "jpeg" in str(found[suffix, "jpeg"][1]), "changed: input_key names the member alone"
    assert found[suffix, "jpg;jpeg;png;webp"][1] == COUNT
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py" "$folder" 2> "$folder/log" || {
  tail -n 5 "$folder/log"; exit 1; }
echo "lines in the log of one warning each: $(grep -c 'Handling webdataset error' "$folder/log")"
