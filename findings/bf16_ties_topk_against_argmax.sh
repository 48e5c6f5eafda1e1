#!/usr/bin/env bash
# On bf16 logits, top-1 by topk and top-1 by argmax are not the same number: equal logits are common there.
# Expected: logits.topk(k)'s first index is logits.argmax(), so that a top-1 accuracy does not depend on which of the two
#   counts it, nor on k.
# Happens: bf16 has 8 bits, so of 1,000 logits the two largest are often equal. argmax takes the first of them, topk takes one
#   that depends on k and on the row's length, and a sort takes another one still. On random logits of 1,000 classes about one row
#   in forty has such a tie, and the two disagree on up to all of these rows. timm's accuracy uses topk: its top-1 changes by a tenth of
#   a point if top-2 or top-5 is asked for beside it. torchmetrics' uses argmax. In fp32 all agree.
# Hurt: whoever compares accuracies of models that run in bf16 across two tools, and whoever compares two models image by
#   image. Logits that are cast to fp32 afterwards keep their ties.
# Source: measured here; https://docs.pytorch.org/docs/stable/generated/torch.topk.html does not say which of equal
#   elements it takes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 torchmetrics==1.9.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import timm
import torch
import torchmetrics
from timm.utils import accuracy
from torchmetrics.functional.classification import multiclass_accuracy

print("torch", torch.__version__, "timm", timm.__version__, "torchmetrics", torchmetrics.__version__)
generator = torch.Generator().manual_seed(0)
seen, differ = {}, {}
for classes in (10, 1_000):
    exact = torch.randn(20_000, classes, generator=generator)
    labels = exact.argmax(1)  # in fp32 every row is right
    for logits in (exact, exact.bfloat16()):
        ties = ((logits == logits.amax(1, keepdim=True)).sum(1) > 1).float().mean().item()
        tops = {f"timm, topk of {k}": accuracy(logits, labels, (1, k))[0].item() for k in (1, 2, 5)}
        tops["torchmetrics"] = 100 * multiclass_accuracy(logits, labels, classes, average="micro").item()
        tops["argmax"] = 100 * (logits.argmax(1) == labels).float().mean().item()
        seen[classes, logits.dtype] = tops
        other = [(logits.topk(k, 1)[1][:, 0] != logits.argmax(1)).float().mean().item() for k in (1, 2, 5)]
        differ[classes, logits.dtype] = other
        shown = ", ".join(f"{name} {top:.2f}" for name, top in tops.items())
        print(f"{classes} classes, {str(logits.dtype)[6:]}: ties in {ties:.2%} of rows; top-1 (%): {shown}; "
              f"topk of 1, 2 and 5 names another class than argmax in {', '.join(f'{x:.2%}' for x in other)}")

for (classes, dtype), tops in seen.items():
    spread = max(tops.values()) - min(tops.values())
    if dtype == torch.float32:
        assert spread < 0.01 and not any(differ[classes, dtype]), (classes, tops)
    else:
        assert max(differ[classes, dtype]) > 0.001, differ
    assert abs(tops["torchmetrics"] - tops["argmax"]) < 0.01, (classes, tops)
assert len({round(top, 2) for top in seen[1_000, torch.bfloat16].values()}) > 1, "all agree on ties now"
PY
"$folder/venv/bin/python" "$folder/show.py"
