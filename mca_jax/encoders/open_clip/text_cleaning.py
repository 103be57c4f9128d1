"""Texts as open_clip cleans them before its tokenizers see them."""

from __future__ import annotations

import html
import string
from collections.abc import Callable

from mca_jax.core.errors import check_one_of

__all__ = ["CLEANING", "get_cleaning"]


def _repair(text: str) -> str:
    """Undo wrong decoding, curly quotes and what HTML makes of signs."""
    # Imported here: only checkpoints in this layout need it.
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _tidy(text: str) -> str:
    """Leave one space between words."""
    return " ".join(_repair(text).split())


def _lower(text: str) -> str:
    """Tidy up and lower-case."""
    return _tidy(text).lower()


def _canonicalize(text: str) -> str:
    """Lower-case, without punctuation, one space between words."""
    text = _repair(text).replace("_", " ")
    text = text.translate(str.maketrans("", "", string.punctuation))
    return " ".join(text.lower().split())


CLEANING: dict[str, Callable[[str], str]] = {
    "canonicalize": _canonicalize,
    "lower": _lower,
    "whitespace": _tidy,
}
"""Name in open_clip_config.json -> function of a text."""


def get_cleaning(name: str, source: str) -> Callable[[str], str]:
    """Return the cleaning that a configuration names.

    Raises:
      InputError: There is none of that name.
    """
    return CLEANING[check_one_of(f"clean in {source}", name, CLEANING)]
