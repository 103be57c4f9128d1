"""What sentence-transformers keeps beside a model: pooling, length, case, prompts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mca_jax.core.errors import InputError, InputWarning
from mca_jax.encoders.huggingface.checkpoint_files import read_json

__all__ = ["SETTING_FILES", "StoredSettings", "read_stored_settings"]

SETTING_FILES = (
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
)
"""The files that are read, where they are."""

_PARTS = ("Transformer", "Pooling", "Normalize")
# Names of pooling modes, of before and of since version 5.4 of the library.
_MODES = {
    **{"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"},
    "lasttoken": "last",
}
# transformers writes some 1e30 where a tokenizer knows no longest text.
_UNLIMITED = 1_000_000


class StoredSettings(NamedTuple):
    """Settings that a sentence encoder was trained with.

    Attributes:
      pooling: ``"mean"`` of all tokens, ``"cls"``, the first, or ``"last"``.
      most_tokens: Longest text in tokens; None where no file says.
      lowercase: Whether texts are lower-cased before the tokenizer sees them.
      prompt: What goes before each text, such as ``"query: "``.
    """

    pooling: str
    most_tokens: int | None
    lowercase: bool
    prompt: str


def read_stored_settings(folder: Path) -> StoredSettings:
    """Read the settings beside a model.

    Without such files pooling is the mean, as most are trained. The prompt is the one
    that the model names as its default, else the one for queries, which short texts
    are.

    Raises:
      InputError: The model has a part, or pools in a way, that is not known here.
    """
    _check_parts(folder / "modules.json")
    settings = _read_object(folder / "sentence_bert_config.json")
    pooling, sees_prompt = _read_pooling(folder / "1_Pooling" / "config.json")
    prompt = _read_prompt(folder / "config_sentence_transformers.json")
    if prompt and not sees_prompt:
        warnings.warn(
            InputWarning(
                f"{folder} leaves its prompt {prompt!r} out of the pooling, which is "
                "not supported: its nouns go without; encoder.text_prompts sets others"
            ),
            stacklevel=2,
        )
        prompt = ""
    return StoredSettings(
        pooling=pooling,
        most_tokens=_read_length(folder, settings),
        lowercase=bool(settings.get("do_lower_case", False)),
        prompt=prompt,
    )


def _read_object(path: Path) -> Mapping[str, Any]:
    """Return what is in a JSON file; nothing where there is none."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, Mapping):
        raise InputError(f"Expected an object in {path}; download it again")
    return content


def _check_parts(path: Path) -> None:
    """Check that a model is a transformer, pooled and perhaps brought to length 1."""
    modules = read_json(path) if path.is_file() else []
    for module in modules if isinstance(modules, list) else []:
        part = str(module.get("type", "")).rpartition(".")[2]
        if part not in _PARTS:
            raise InputError(
                f"Expected {path} with no parts but {', '.join(_PARTS)}, found "
                f"{part!r}; take another sentence encoder"
            )


def _read_length(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """Return the longest text, which newer files leave to the tokenizer's."""
    found = settings.get("max_seq_length")
    if found is None:
        found = _read_object(folder / "tokenizer_config.json").get("model_max_length")
    if not isinstance(found, int | float) or found > _UNLIMITED:
        return None
    if found < 1:
        raise InputError(f"Expected room for a token in {folder}, found {found!r}")
    return int(found)


def _read_pooling(path: Path) -> tuple[str, bool]:
    """Return how tokens become one vector, and whether the prompt's are among them."""
    content = _read_object(path)
    if not content:
        return "mean", True
    found = content.get("pooling_mode")
    if found is None:
        prefix = "pooling_mode_"
        modes = {
            name.removeprefix(prefix)
            for name, value in content.items()
            if name.startswith(prefix) and value is True
        }
    else:
        modes = {str(mode) for mode in ([found] if isinstance(found, str) else found)}
    if len(modes) != 1 or not modes <= _MODES.keys():
        raise InputError(
            f"Expected {path} to choose mean, cls or lasttoken, found "
            f"{', '.join(sorted(modes)) or 'nothing'}; take another sentence encoder"
        )
    return _MODES[modes.pop()], bool(content.get("include_prompt", True))


def _read_prompt(path: Path) -> str:
    """Return the prompt that goes before a text if nobody asks for another."""
    content = _read_object(path)
    prompts = content.get("prompts")
    if not isinstance(prompts, Mapping):
        return ""
    name = content.get("default_prompt_name") or "query"
    prompt = prompts.get(name, "")
    if not isinstance(prompt, str) or "{}" in prompt:
        raise InputError(
            f"Expected prompt {name!r} of {path} as text, found {prompt!r}"
        )
    return prompt
