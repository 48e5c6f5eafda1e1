"""Hugging Face's mixin, without four ways to lose what a model was made with or has learned."""

import copy
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download


class HubMixin(PyTorchModelHubMixin):
    """from_pretrained, save_pretrained and push_to_hub of a model class.

    Four things differ from huggingface_hub 2.4's own. What a model was made with is copied: there
    a list that is changed later changes config.json. `config` adds entries: there it replaces all.
    Weights must be those of the model: there layers without weights stay random, without a word.
    The file of weights has a checksum, and it is looked at before a model is built.

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

    def _save_pretrained(self, save_directory: Path) -> None:
        from nestlib.models.weights import save_weights  # which imports the models

        path = save_directory / constants.SAFETENSORS_SINGLE_FILE
        save_weights(self, path, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **how) -> Self:
        """Build the model of a folder or of a repository on the Hub, and load its weights.

        Args:
            how: as PyTorchModelHubMixin.from_pretrained has it, and arguments of the constructor in
                place of those in config.json. strict=False lets layers without weights stay random.

        Returns:
            The model, in evaluation mode.

        Raises:
            FileNotFoundError: a folder without weights.
            OSError: no such repository, no network, or a damaged file.
            ValueError: a damaged config.json, arguments that the constructor refuses, or weights
                that do not fit; the message names the folder.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **how)
        except OSError:
            raise
        except Exception as error:  # of JSON, of the constructor, of a missing network
            here = Path(pretrained_model_name_or_path).is_dir()
            kind = ValueError if here or isinstance(error, ValueError | TypeError) else OSError
            raise kind(
                f"no {cls.__name__} can be loaded of {pretrained_model_name_or_path} "
                f"({constants.CONFIG_NAME}, {constants.SAFETENSORS_SINGLE_FILE}): {error}; fetch "
                "or make both again"
            ) from error

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, revision: str | None,
        cache_dir: str | Path | None, force_download: bool, local_files_only: bool,
        token: str | bool | None, **made_with,
    ) -> Self:  # fmt: skip
        from nestlib.models.weights import load_new

        path = Path(model_id) / constants.SAFETENSORS_SINGLE_FILE
        if not Path(model_id).is_dir():
            path = hf_hub_download(
                model_id, constants.SAFETENSORS_SINGLE_FILE, revision=revision,
                cache_dir=cache_dir, force_download=force_download, token=token,
                local_files_only=local_files_only,
            )  # fmt: skip
        return load_new(partial(cls, **made_with), path, strict=strict).to(map_location)


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
