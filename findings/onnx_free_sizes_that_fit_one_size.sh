#!/usr/bin/env bash
# torch's ONNX exporter declares image sizes free that the exported model does not take.
# Expected: where torch.onnx.export(dynamo=True) is asked to find out which sizes of an input may vary
#   (Dim.AUTO), a size that the model fixes comes out fixed, or the export says that it is.
# Happens: a model adds an embedding of 8x8 patches to a map of H/4 x W/4, so it takes 32x32 images
#   alone. The exporter keeps H and W as free names: the file says input (batch, 3, s.., s..) and
#   output (batch, 3, 8, 8), holds no check, and passes ONNX's checker. Another size fails inside an
#   Add while it is computed. Where a size is declared, onnxruntime refuses another one before it
#   computes, and names the input.
# Hurt: whoever exports a vision transformer with position embeddings and reads from the file that it
#   takes any image size.
# Source: measured here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import onnx
import onnxruntime
import torch
from torch.export import Dim


class Embedded(torch.nn.Module):
    """Patches of 4x4 pixels, each with an embedding of its own: 8x8 of them."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, images):
        B, C, H, W = images.shape
        patches = images.reshape(B, C, H // 4, 4, W // 4, 4).mean((3, 5))
        return patches + self.embedding


def shapes(sizes):
    """What a file declares, and how onnxruntime answers images of 32x32 and of 64x64."""
    exported = torch.onnx.export(
        Embedded().eval(), (torch.randn(2, 3, 32, 32),), dynamo=True, verbose=False,
        dynamic_shapes=({0: "batch", **sizes},),
    )
    data = exported.model_proto.SerializeToString()
    onnx.checker.check_model(exported.model_proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    answers = []
    for edge in (32, 64):
        try:
            (out,) = session.run(None, {given.name: torch.randn(1, 3, edge, edge).numpy()})
            answers.append(str(out.shape))
        except Exception as error:  # onnxruntime's own kinds
            answers.append(f"{type(error).__name__}: {' '.join(str(error).split())[:230]}")
    return given.shape, result.shape, answers


print("torch", torch.__version__, "onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
free = shapes({2: Dim.AUTO, 3: Dim.AUTO})
fixed = shapes({})
for asked, (given, result, answers) in {"Dim.AUTO": free, "not free": fixed}.items():
    print(f"height and width {asked}: input {given}, output {result}")
    print(f"  32x32: {answers[0]}\n  64x64: {answers[1]}")
assert all(isinstance(size, str) for size in free[0][2:]), "changed: the sizes are declared fixed"
assert free[1][2:] == [8, 8] and fixed[0][2:] == [32, 32]
assert free[2][0] == fixed[2][0] == "(1, 3, 8, 8)"
assert "Add" in free[2][1] and "invalid dimensions for input" in fixed[2][1], "changed: the errors"
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py" 2> "$folder/log" || {
  tail -n 5 "$folder/log"; exit 1; }
