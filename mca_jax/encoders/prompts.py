"""From nouns to the texts that a text tower was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mca_jax.core.errors import InputError

__all__ = ["ENSEMBLE", "PHOTO", "build_prompts", "check_templates", "parse_templates"]

PHOTO = ("a photo of a {}",)
"""The one template that the paper and most zero-shot tables start from."""

ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven templates that CLIP's authors chose by forward selection on ImageNet."""

_SLOT = "{}"
_VOWELS = "aeiou"
# First letters say how a word is written, articles follow how it sounds.
_SOUND_LIKE_CONSONANT = (
    "eu",
    "ewe",
    "one",
    "u-",
    "uni",
    "ura",
    "usa",
    "use",
    "usu",
    "ute",
    "uto",
)
_SOUND_LIKE_VOWEL = ("heir", "honest", "honor", "honour", "hour")
_UNI_AS_UN = ("unid", "unim", "unin", "unill")


def parse_templates(text: str, *, setting: str = "encoder.prompts") -> tuple[str, ...]:
    """Read templates from a setting.

    Args:
      text: ``"photo"``, ``"ensemble"``, or templates joined by ``|``.
      setting: Its name, for messages.

    Returns:
      The templates.

    Raises:
      InputError: A template has no ``{}`` or more than one.

    Example:
      >>> parse_templates("{}|a drawing of a {}")
      ('{}', 'a drawing of a {}')
    """
    named = {"photo": PHOTO, "ensemble": ENSEMBLE}
    if text in named:
        return named[text]
    if _SLOT not in text:
        raise InputError(
            f"Expected {setting} as photo, ensemble or templates with {_SLOT} "
            f"joined by |, found {text!r}"
        )
    return check_templates([part.strip() for part in text.split("|")])


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates if each has one place for the noun.

    Args:
      templates: At least one text with one ``{}``.

    Returns:
      The templates as a tuple.

    Raises:
      InputError: There are none, or one has no ``{}`` or more than one.
    """
    if isinstance(templates, str):
        templates = (templates,)
    if not templates:
        raise InputError("Expected at least one prompt template, found none")
    for template in templates:
        if template.count(_SLOT) != 1:
            raise InputError(
                f"Expected one {_SLOT} in prompt template {template!r}, found "
                f"{template.count(_SLOT)}"
            )
    return tuple(templates)


def build_prompts(
    names: Sequence[str],
    synset_ids: Sequence[str],
    *,
    templates: Sequence[str] = PHOTO,
    fix_articles: bool = False,
    glosses: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Put nouns into prompts.

    Args:
      names: Nouns with spaces or underscores, several words allowed.
      synset_ids: WordNet id of each noun, or an empty text.
      templates: Texts with one ``{}`` for the noun. The embeddings of a noun's
        prompts are averaged and renormalised.
      fix_articles: Whether "a" before the noun becomes "an" where the noun sounds
        so. Off, as in the published numbers.
      glosses: Synset id -> gloss, to tell the senses of a noun apart: the prompt
        goes on with a comma and the gloss.

    Returns:
      For each noun its prompts, one for each template.

    Raises:
      InputError: A template has no place for the noun, a noun is blank, or there
        are not as many ids as nouns.

    Example:
      >>> build_prompts(["owl", "sea_lion"], ["", ""], fix_articles=True)
      [['a photo of an owl'], ['a photo of a sea lion']]
    """
    templates = check_templates(templates)
    if len(names) != len(synset_ids):
        raise InputError(
            f"Expected a synset id for each of {len(names)} nouns, found "
            f"{len(synset_ids)}"
        )
    glosses = glosses or {}
    prompts = []
    for place, (name, synset_id) in enumerate(zip(names, synset_ids, strict=True)):
        noun = " ".join(name.replace("_", " ").split())
        if not noun:
            raise InputError(f"Expected a noun in row {place}, found {name!r}")
        gloss = glosses.get(synset_id, "").strip()
        prompts.append(
            [_fill(template, noun, gloss, fix_articles) for template in templates]
        )
    return prompts


def _fill(template: str, noun: str, gloss: str, fix_articles: bool) -> str:
    """Put one noun into one template."""
    before, after = template.split(_SLOT)
    if fix_articles and _takes_an(noun):
        for article, other in (("a ", "an "), ("A ", "An ")):
            if before == article or before.endswith(" " + article):
                before = before[: -len(article)] + other
    text = before + noun + after
    if not gloss:
        return text
    closing = "." if text.endswith(".") else ""
    return f"{text.removesuffix('.')}, {gloss.removesuffix('.')}{closing}"


def _takes_an(noun: str) -> bool:
    """Whether a noun takes "an", by spelling and the commonest exceptions."""
    word = noun.lower()
    if word.startswith(_SOUND_LIKE_VOWEL):
        return True
    if word.startswith(_UNI_AS_UN):
        return True
    return word[0] in _VOWELS and not word.startswith(_SOUND_LIKE_CONSONANT)
