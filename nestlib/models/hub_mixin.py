"""Hugging Face's mixin, without three ways to lose what a model was made with or has learned."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin


class HubMixin(PyTorchModelHubMixin):
    """from_pretrained, save_pretrained and push_to_hub of a model class.

    Three things differ from huggingface_hub 2.4's own. What a model was made with is copied: there
    a list that is changed later changes config.json. `config` adds entries: there it replaces all.
    Weights must be those of the model: there layers without weights stay random, without a word.

    A constructor must refuse what JSON does not hold (`nestlib.arguments.checked`): the mixin
    would write its default in place of a numpy integer, a dtype, a Path or a function.
    """

    def __new__(cls, *args, **kwargs) -> Self:
        made = super().__new__(cls, *args, **kwargs)
        made._hub_mixin_config = copy.deepcopy(made._hub_mixin_config)
        return made

    def save_pretrained(
        self, save_directory: str | Path, *, config: Mapping[str, Any] | None = None, **how
    ) -> str | None:
        """Write weights, config.json and, where there is none, a card.

        Args:
            config: further entries of config.json.
            how: as PyTorchModelHubMixin.save_pretrained has it.

        Raises:
            ValueError: an entry that is an argument of the constructor, with another value.
        """
        entries = add_entries(self._hub_mixin_config, config or {})
        return super().save_pretrained(save_directory, config=entries, **how)

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **how) -> Self:
        return super()._from_pretrained(strict=strict, **how)


def add_entries(own: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json's entries: what a model was made with, and more.

    Raises:
        ValueError: an entry of `more` that would change what the model was made with.
    """
    both = sorted(own.keys() & more.keys())
    taken = [name for name in both if json.dumps(own[name]) != json.dumps(more[name])]
    if taken:
        raise ValueError(
            f"config has {', '.join(taken)}, which config.json keeps of the model itself: "
            f"{', '.join(f'{name}={own[name]!r}' for name in taken)}; use other names"
        )
    return {**own, **more}
