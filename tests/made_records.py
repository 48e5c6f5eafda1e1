"""Made-up records of trained models, for tests of what pages say of records."""

import numpy as np
import torch

from nestlib.metrics.accuracy import pack_right
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record


def add(store, recipe, rate, seconds=600.0, device="A processor"):
    """A made-up record, of this test alone."""
    draws = np.random.default_rng(recipe.seed).random(10_000)  # equal for all models of a seed
    right = torch.as_tensor(draws < rate)
    top1 = 100 * right.double().mean().item()
    scored = "held_out" if recipe.held_out else "test"
    summary = {f"{scored}/top1": top1, "train_seconds": seconds, "num_params": 361_000}
    summary |= {} if recipe.held_out else {"test/right": pack_right(right)}
    data = {scored: {"fingerprint": "0" * 64, "images": 10_000}}
    store.add(Record(recipe.run_id, "train", to_dict(recipe), {"device": device, "data": data},
                     summary))  # fmt: skip
    return top1
