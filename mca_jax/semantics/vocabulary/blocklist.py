"""Finds the nouns that must not stand over a picture, from WordNet itself.

Four sources, none of them a list of slurs:

* WordNet's own marks: usage domains (ethnic slur, disparagement, obscenity) and
  definitions such as "offensive term for ...".
* Words that a marked synset shares with a harmless one (homographs), and names
  that contain such a word. The harmless noun is shown by another of its names,
  or not at all. ``HARMLESS_WORDS`` lists words that are safe to show, since
  the harmless sense is the one that everybody reads ("shrimp", "spade").
* Parts of the hierarchy that are unfit as a headline whatever the picture: sexual
  organs, excrement, prostitution, concentration camps.
* Among nouns for people, which are opt-in as it is: judgements (criminals,
  fools, drunkards), what a picture can't show and nobody should guess (illness,
  sexuality, descent, faith), names of individuals, and every capitalised name,
  which is a nationality, a people or a religion.

What it can't do: WordNet 3.0 is of 2006 and marks what its editors thought of
then. A harmless noun over the wrong picture can hurt as much as a slur, and no
list of words sees pictures: apes and monkeys are out with people (see
``categories.people_mask``), but a pig is not. Read the names
before you publish them. A user's own vocabulary is not screened at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mca_jax.semantics.vocabulary.graph import descendants
from mca_jax.semantics.vocabulary.nouns import Synset

__all__ = [
    "HARMLESS_WORDS",
    "OCCUPATIONS",
    "UNFIT",
    "UNFIT_SUBTREES",
    "screen_synsets",
]

# Unfit with all that is below them.
UNFIT_SUBTREES = (
    747215,  # pornography
    844254,  # sexual activity
    2846874,  # blackface
    3086183,  # concentration camp
    3088164,  # condom
    3198500,  # a sex toy
    3228533,  # douche
    3422288,  # gas chamber
    3576215,  # instrument of torture
    3726233,  # massage parlour, defined as a brothel
    4234969,  # slave market
    4235165,  # slave ship
    4458201,  # torture chamber
    4533042,  # vibrator
    4581595,  # brothel
    5218119,  # cadaver
    5404336,  # semen
    5513302,  # reproductive organ
    5538016,  # anus
    5538494,  # perineum
    5554405,  # breast
    5559256,  # buttocks
    6883725,  # swastika
    14853947,  # body waste
    # Judgements of people.
    9614047,  # coward
    9630641,  # unfortunate person: sick, handicapped, poor
    9631129,  # unwelcome person
    9633969,  # wrongdoer
    9831962,  # bad person
    9853645,  # bigot
    9921409,  # gullible person
    10100761,  # person who lacks judgement
    10231087,  # killer
    10257647,  # libertine
    10322238,  # misfit
    10386312,  # outcast
    10419047,  # deviant
    10485440,  # prostitute
    10599354,  # simpleton
    10609325,  # slave
    10667187,  # stupid person
    10731244,  # troublemaker
    10771636,  # weakling
    # What a picture can't show: sexuality, descent, faith, illness.
    9620078,  # inhabitant
    9627462,  # primitive person
    9628382,  # religious person
    9636106,  # person of colour
    9638875,  # person of a race
    9768830,  # addict
    9769076,
    9857007,  # bisexual
    10173895,  # heterosexual
    10182913,  # homosexual
    10323999,  # person of mixed descent
    10595647,  # sick person
)

# Below these a definition names whom somebody works with or against: a nurse
# cares for the sick, a detective investigates crimes.
OCCUPATIONS = (
    9617867,  # expert
    9632518,  # worker
    10480253,  # professional
)

# Unfit themselves: words that are also an insult which WordNet doesn't mark.
UNFIT = frozenset(
    {
        1514668,  # male bird, known by an obscene homograph only
        2083672,  # female dog
        2083780,  # female dog used for breeding
        12528109,  # coral trees, known by a slur
        12528768,
        2472293,  # human being, shown by a word for a homosexual
        10643400,  # a slur for Native American women
        10725734,  # transsexual
        10725893,
        10726031,  # transvestite
    }
)

# Words of marked synsets that nobody reads as an insult over a picture.
HARMLESS_WORDS = frozenset(
    """
american indian, bedlam, black, boy, bull, colored, dike, dirt, fairy, guinea,
hammer, indian, jerry, madhouse, mongrel, nigra, oriental, paddy, pansy, peewee,
peter, poop, pouf, pussy willow, queen, runt, sanatorium, screw, shaft, shag,
shrimp, slit, snake pit, softness, spade, suit, taco, throwaway, tom, tool
""".replace("\n", " ")
    .strip()
    .split(", ")
)

_BODY_FILE = 8
_PERSON_FILE = 18

# Ethnic slur, disparagement, obscenity.
_USAGE_DOMAINS = frozenset({6718862, 6717170, 7124340})

_JUDGING = (
    "offensive|disparaging|derogatory|pejorative|vulgar|obscene|insulting|contemptuous"
)
_MARKED = re.compile(
    r"\bethnic slur\b|\(offensive|\bsometimes offensive\b|\boften derogatory\b"
    rf"|\b(?:{_JUDGING})\)? (?:and (?:{_JUDGING}) )?(?:slang )?"
    r"(?:terms?|names?|words?|slang|reference)\b"
    r"|vulgar expression"
    rf"|\b(?:now considered|regarded as) (?:{_JUDGING})\b|\bterms? of contempt\b"
    r"|\((?:disparaging|derogatory)\)|\bderogatory of\b"
)
# A football lineman is no insult, nor is a word for four-letter words.
_NOT_MARKED = re.compile(r"\bfootball\b|\bEnglish words\b|\bsubstituted for\b")

_PRIVATE_PARTS = re.compile(
    r"\b(?:penis|vagina\w*|clitor\w*|genital\w*|pubic|scrotum|human nipple"
    r"|sexual stimulation|buttocks|woman's breasts?|erectile|ejaculat\w*)\b"
)

_JUDGED_PERSON = re.compile(
    r"\b(?:stupid\w*|ugly|dirty|evil|wicked|coward\w*|ignorant|incompetent|lazy"
    r"|drunk\w*|alcohol\w*|drugs?|sex\w*|promiscu\w*|prostitut\w*|whores?|lewd"
    r"|seduc\w*|crim\w*|convict\w*|prison\w*|murder\w*|terror\w*|insane|mental\w*"
    r"|psych\w*|diseas\w*|sick\w*|disab\w*|deform\w*|paraly\w*|crippl\w*|subnormal"
    r"|retard\w*|illegitimate|rac(?:e|es|ial|ist)|ethnic|Blacks?|skin|Jews?|Jewish"
    r"|Muslims?|Hindus?|immigra\w*|slaves?|savage|barbar\w*|uncivilized|primitive"
    r"|contempt\w*|despicable|obnoxious|annoy\w*|dislik\w*|unpleasant|repulsive"
    r"|inferior|worthless|fat|obese|dwarf|foolish|silly|boring|dull|clumsy|awkward"
    r"|vulgar|nazi|fascis\w*|racis\w*|traitor|illegal\w*|thie\w*|steal\w*|rape\w*"
    r"|addict\w*|marijuana|heroin|cocaine|deaf\w*|blind\w*|handicap\w*|aphasi\w*"
    r"|naked|nude|unattractive|attractive|shameless|immoral|mistress|homeless"
    r"|poor|poverty|orphan\w*|illitera\w*|politic\w*|communis\w*|socialis\w*"
    r"|leftist|neighborhood|pimp|effeminate|overbearing|nagging)\b",
    re.IGNORECASE,
)


def screen_synsets(
    synsets: Sequence[Synset], children: np.ndarray, parents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the lemma to display of each synset, and mark the unfit synsets.

    Synsets ascend by offset; hypernym edges go from ``children`` to ``parents``, both
    int ``[E]``.

    Returns:
      Number of the lemma to display, int64 ``[M]`` (0 where none is fit), and
      bool ``[M]`` that is True where the synset must not be shown.
    """
    marked = np.array([_is_marked(synset) for synset in synsets], bool)
    blocked = _blocked_words(synsets, marked)
    tokens = {word for word in blocked if " " not in word}
    unfit = marked | _unfit_by_position(synsets, children, parents)
    working = _below(OCCUPATIONS, synsets, children, parents)
    shown = np.zeros(len(synsets), np.int64)
    for row, synset in enumerate(synsets):
        fit = (
            index
            for index, lemma in enumerate(synset.lemmas)
            if not _is_blocked(lemma, blocked, tokens)
        )
        first = next(fit, -1)
        shown[row] = max(first, 0)
        unfit[row] |= first < 0 or _is_unfit_person(synset, bool(working[row]))
    return shown, unfit


def _is_marked(synset: Synset) -> bool:
    if any(lemma < 0 and domain in _USAGE_DOMAINS for lemma, domain in synset.usages):
        return True
    gloss = synset.gloss
    return bool(_MARKED.search(gloss)) and not _NOT_MARKED.search(gloss)


def _blocked_words(synsets: Sequence[Synset], marked: np.ndarray) -> set[str]:
    words = {
        lemma.casefold()
        for row in np.flatnonzero(marked).tolist()
        for lemma in synsets[row].lemmas
    }
    for synset in synsets:
        for lemma, domain in synset.usages:
            if lemma >= 0 and domain in _USAGE_DOMAINS:
                words.add(synset.lemmas[lemma].casefold())
    return words - HARMLESS_WORDS


def _is_blocked(lemma: str, blocked: set[str], tokens: set[str]) -> bool:
    folded = lemma.casefold()
    if folded in HARMLESS_WORDS:
        return False
    return folded in blocked or not tokens.isdisjoint(re.split(r"[^\w']+", folded))


def _unfit_by_position(
    synsets: Sequence[Synset], children: np.ndarray, parents: np.ndarray
) -> np.ndarray:
    unfit = _below(UNFIT_SUBTREES, synsets, children, parents)
    for row, synset in enumerate(synsets):
        in_body = synset.category == _BODY_FILE
        unfit[row] |= synset.offset in UNFIT
        unfit[row] |= in_body and bool(_PRIVATE_PARTS.search(synset.gloss))
    return unfit


def _below(
    roots: Sequence[int],
    synsets: Sequence[Synset],
    children: np.ndarray,
    parents: np.ndarray,
) -> np.ndarray:
    known = {synset.offset: row for row, synset in enumerate(synsets)}
    rows = [known[offset] for offset in roots if offset in known]
    return descendants(rows, children, parents, len(synsets))


def _is_unfit_person(synset: Synset, working: bool) -> bool:
    if synset.category != _PERSON_FILE:
        return False
    named = synset.instance or any(lemma[:1].isupper() for lemma in synset.lemmas)
    return named or (not working and bool(_JUDGED_PERSON.search(synset.gloss)))
