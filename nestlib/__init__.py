"""nestlib: NesT, "Aggregating Nested Transformers", with its trainers and GradCAT."""

import sys
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["NesT", "create_model", "list_models", "load_weights", "save_weights"]

# The command `nest` imports what it runs when it runs it: its help must not wait for torch.
if Path(sys.argv[0]).name not in ("nest", "nest.exe"):
    from nestlib.models import NesT
    from nestlib.models.timm_entrypoints import register_with_timm
    from nestlib.models.weights import load_weights, save_weights
    from nestlib.zoo import create_model, list_models

    register_with_timm()
