#!/usr/bin/env bash
# A learning rate in a float32 tensor makes fused AdamW's weights differ from those with a number.
# Expected: an optimiser whose learning rate is a tensor, as a step captured in a CUDA graph needs, makes the
#   same weights as with the same number: only where the rate is kept differs.
# Happens: fused AdamW multiplies by the rate as it lies in the tensor. torch.tensor(1e-3) is float32, which
#   is not the double 1e-3, so a third of the weights differ in their last bit after 50 steps. With a
#   float64 tensor they are equal on a CPU.
# Hurt: whoever holds a captured run against an eager one bit by bit: the two cannot agree until the eager
#   rate is rounded to float32 too.
# Source: seen here; https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html asks for fused or
#   capturable where the rate is a tensor, and says nothing of the tensor's type.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch

torch.set_num_threads(1)


def train(lr):
    torch.manual_seed(0)
    model, draws = torch.nn.Linear(64, 64), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    for _ in range(50):
        optimizer.zero_grad()
        model(torch.randn(8, 64, generator=draws)).square().mean().backward()
        optimizer.step()
    return model.weight.detach()


print("torch", torch.__version__)
rounded = torch.tensor(1e-3).item()
rates = {
    "float32 tensor": torch.tensor(1e-3), "float64 tensor": torch.tensor(1e-3, dtype=torch.float64),
}
differ = {name: (train(rate) != train(1e-3)).float().mean().item() for name, rate in rates.items()}
same = torch.equal(train(torch.tensor(1e-3)), train(rounded))
for name, share in differ.items():
    print(f"{name}: {100 * share:.0f} % of the weights differ from those of the number 1e-3")
print(f"float32 tensor against the number {rounded!r}: equal: {same}")
assert differ["float32 tensor"] > 0.1, "changed: a float32 tensor's rate is no longer rounded"
assert differ["float64 tensor"] == 0, "changed: a float64 tensor's rate is rounded"
assert same, "changed: the rounded rate is not all that differs"
PY
"$folder/venv/bin/python" "$folder/show.py"
