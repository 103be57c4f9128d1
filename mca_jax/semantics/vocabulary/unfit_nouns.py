"""Which parts of WordNet are unfit to stand over a picture; see `blocklist`."""

from __future__ import annotations

__all__ = ["HARMLESS_WORDS", "OCCUPATIONS", "UNFIT", "UNFIT_SUBTREES"]

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
    {
        "american indian",
        "bedlam",
        "black",
        "boy",
        "bull",
        "colored",
        "dike",
        "dirt",
        "fairy",
        "guinea",
        "hammer",
        "indian",
        "jerry",
        "madhouse",
        "mongrel",
        "nigra",
        "oriental",
        "paddy",
        "pansy",
        "peewee",
        "peter",
        "poop",
        "pouf",
        "pussy willow",
        "queen",
        "runt",
        "sanatorium",
        "screw",
        "shaft",
        "shag",
        "shrimp",
        "slit",
        "snake pit",
        "softness",
        "spade",
        "suit",
        "taco",
        "throwaway",
        "tom",
        "tool",
    }
)
