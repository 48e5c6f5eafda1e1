#!/usr/bin/env bash
# torchvision's masks_to_boxes ends a box on its last pixel, and torchvision's box_iou starts behind it.
# Expected: the box of a mask covers it. Its area by box_area is that of the rectangle, its overlap with the same object's
#   box by scikit-image or COCO is 1, and to mirror the mask or its box gives the same box.
# Happens: the right and lower side are the numbers of the last pixels, so a box is one pixel too narrow and too low for the
#   rest of torchvision, which counts x2 - x1. A mask of one pixel has area 0. A square of 2 pixels has an IoU of 0.25
#   with its own box, one of 4 has 0.56, one of 8 has 0.77. Mirrored as a mask and mirrored as a box by torchvision's own
#   horizontal_flip, it lies a pixel apart. scikit-image and pycocotools end behind the last pixel.
# Hurt: whoever turns class activation maps or masks into boxes to score localisation at IoU 0.5, above all on maps of a few
#   pixels: right boxes count as misses. And whoever trains a detector on boxes made this way and flips them.
# Source: measured here; https://docs.pytorch.org/vision/stable/generated/torchvision.ops.masks_to_boxes.html says that
#   a mask of one row may have y1 = y2, not that each box lacks a pixel.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 \
  scikit-image==0.26.0 pycocotools==2.0.11 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import numpy as np
import torch
import torchvision
from pycocotools import mask as coco
from skimage.measure import regionprops
from torchvision import tv_tensors
from torchvision.ops import box_area, box_iou, masks_to_boxes
from torchvision.transforms.v2 import functional as F

SIZE, TOP, LEFT = 64, 8, 16
print("torchvision", torchvision.__version__)
overlaps = {}
for edge in (1, 2, 4, 8, 32):
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    mask[0, TOP : TOP + edge, LEFT : LEFT + edge] = 1
    y0, x0, y1, x1 = regionprops(mask[0].int().numpy())[0].bbox
    x, y, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask[0].numpy())))
    assert (x0, y0, x1, y1) == (x, y, x + width, y + height) == (LEFT, TOP, LEFT + edge, TOP + edge)
    box = masks_to_boxes(mask)
    overlaps[edge] = box_iou(box, torch.tensor([[x0, y0, x1, y1]]).float()).item()
    mirrored_mask = masks_to_boxes(F.horizontal_flip(tv_tensors.Mask(mask)).as_subclass(torch.Tensor))
    boxes = tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(SIZE, SIZE))
    mirrored_box = F.horizontal_flip(boxes).as_subclass(torch.Tensor)
    print(
        f"a square of {edge} pixels: box {box[0].int().tolist()}, area {box_area(box).item():.0f} of {edge**2}; "
        f"IoU with scikit-image's and COCO's box {overlaps[edge]:.2f}; mirrored by mask "
        f"{mirrored_mask[0].int().tolist()}, by box {mirrored_box[0].int().tolist()}"
    )
    assert box_area(box).item() == (edge - 1) ** 2
    assert (mirrored_box - mirrored_mask).tolist() == [[1.0, 0.0, 1.0, 0.0]]
assert overlaps == {edge: ((edge - 1) / edge) ** 2 for edge in overlaps}, overlaps
PY
"$folder/venv/bin/python" "$folder/show.py"
