"""Nouns in prompts."""

import pytest

from mca_jax.core.errors import InputError
from mca_jax.encoders.prompts import ENSEMBLE, PHOTO, build_prompts, check_templates


def one(noun, **settings):
    (prompts,) = build_prompts([noun], ["n1"], **settings)
    return prompts


def test_default_is_the_papers_template_word_for_word():
    assert PHOTO == ("a photo of a {}",)
    assert one("owl") == ["a photo of a owl"]


def test_lemmas_of_several_words():
    assert one("sea_lion") == one("sea lion") == ["a photo of a sea lion"]
    assert one("  New   York ") == ["a photo of a New York"]


def test_braces_in_a_noun_stay():
    assert one("{}") == ["a photo of a {}"]
    assert one("a{0}b") == ["a photo of a a{0}b"]


def test_an_ensemble_keeps_its_order():
    assert one("cat", templates=ENSEMBLE)[:2] == [
        "itap of a cat.",
        "a bad photo of the cat.",
    ]
    assert len(one("cat", templates=ENSEMBLE)) == 7
    assert check_templates("{}") == ("{}",)


@pytest.mark.parametrize(
    ("noun", "article"),
    [
        ("owl", "an"),
        ("Apple", "an"),
        ("hour", "an"),
        ("honest man", "an"),
        ("heirloom", "an"),
        ("unidentified flying object", "an"),
        ("umbrella", "an"),
        ("onion", "an"),
        ("unicycle", "a"),
        ("university", "a"),
        ("European", "a"),
        ("one-way street", "a"),
        ("ewe", "a"),
        ("user", "a"),
        ("horse", "a"),
        ("cat", "a"),
        ("42", "a"),
    ],
)
def test_articles_follow_the_sound(noun, article):
    assert one(noun, fix_articles=True) == [f"a photo of {article} {noun}"]


def test_only_an_article_right_before_the_noun_changes():
    templates = ("a photo of the {}", "A {}", "a {} in a hat", "panorama {}", "data {}")
    assert one("owl", templates=templates, fix_articles=True) == [
        "a photo of the owl",
        "An owl",
        "an owl in a hat",
        "panorama owl",
        "data owl",
    ]


def test_glosses_go_behind_and_only_for_their_sense():
    glosses = {"n1": "sloping land beside water", "n2": "a building."}
    templates = ("a {}", "art of the {}.")
    found = build_prompts(
        ["bank", "bank", "bank"], ["n1", "n2", ""], templates=templates, glosses=glosses
    )
    assert found == [
        [
            "a bank, sloping land beside water",
            "art of the bank, sloping land beside water.",
        ],
        ["a bank, a building", "art of the bank, a building."],
        ["a bank", "art of the bank."],
    ]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ((), "at least one prompt template"),
        (("a photo",), r"Expected one \{\} in prompt template 'a photo', found 0"),
        (("{} and {}",), "found 2"),
    ],
)
def test_bad_templates(templates, message):
    with pytest.raises(InputError, match=message):
        build_prompts(["cat"], [""], templates=templates)


@pytest.mark.parametrize("noun", ["", "  ", "__"])
def test_blank_nouns_are_named_by_row(noun):
    with pytest.raises(InputError, match="noun in row 1"):
        build_prompts(["cat", noun], ["", ""])


def test_ids_and_nouns_have_to_match():
    with pytest.raises(InputError, match="each of 2 nouns, found 1"):
        build_prompts(["cat", "dog"], [""])
