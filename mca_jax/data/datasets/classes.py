"""Names of the classes, in the order of the labels, and the nouns they stand for.

Ids are those of WordNet 3.0. A superclass of CIFAR-100 for which WordNet has no
noun of its own, such as "medium-sized mammals", has none.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "CIFAR10",
    "CIFAR20",
    "IMAGENET10",
    "IMAGENET_DOGS",
    "STL10",
    "ClassName",
]


class ClassName(NamedTuple):
    """A class as its data set calls it.

    Attributes:
      name: Its name.
      synset: WordNet 3.0 id such as ``"n02084071"``, or empty.
    """

    name: str
    synset: str


def _table(text: str) -> tuple[ClassName, ...]:
    """Read lines of a name and, if there is one, an id."""
    rows = []
    for line in text.strip().splitlines():
        name, _, synset = line.strip().partition(" | ")
        rows.append(ClassName(name, synset))
    return tuple(rows)


CIFAR10 = _table("""
    airplane | n02691156
    automobile | n02958343
    bird | n01503061
    cat | n02121620
    deer | n02430045
    dog | n02084071
    frog | n01639765
    horse | n02374451
    ship | n04194289
    truck | n04490091
""")
"""Classes of CIFAR-10, in the order of its ``batches.meta.txt``."""

CIFAR20 = _table("""
    aquatic mammals | n02062017
    fish | n02512053
    flowers | n11669335
    food containers
    fruit and vegetables | n07705711
    household electrical devices | n03528263
    household furniture | n03405725
    insects | n02159955
    large carnivores | n02075296
    large man-made outdoor things | n04341686
    large natural outdoor scenes | n09287968
    large omnivores and herbivores
    medium-sized mammals
    non-insect invertebrates | n01905661
    people | n00007846
    reptiles | n01661091
    small mammals
    trees | n13104059
    vehicles 1 | n04524313
    vehicles 2 | n04524313
""")
"""Superclasses of CIFAR-100, in the order of its ``coarse_label_names.txt``."""

STL10 = _table("""
    airplane | n02691156
    bird | n01503061
    car | n02958343
    cat | n02121620
    deer | n02430045
    dog | n02084071
    horse | n02374451
    monkey | n02484322
    ship | n04194289
    truck | n04490091
""")
"""Classes of STL-10, in the order of its ``class_names.txt``."""

# The ten and fifteen classes of Chang et al., "Deep Adaptive Image Clustering",
# ICCV 2017, as the lists of Li et al., "Contrastive Clustering", AAAI 2021 give
# them; later work uses the same.
IMAGENET10 = _table("""
    king penguin | n02056570
    Maltese dog | n02085936
    snow leopard | n02128757
    airliner | n02690373
    airship | n02692877
    container ship | n03095699
    soccer ball | n04254680
    sports car | n04285008
    trailer truck | n04467665
    orange | n07747607
""")
"""Classes of ImageNet-10."""

IMAGENET_DOGS = _table("""
    Maltese dog | n02085936
    Blenheim spaniel | n02086646
    basset | n02088238
    Norwegian elkhound | n02091467
    giant schnauzer | n02097130
    golden retriever | n02099601
    Brittany spaniel | n02101388
    clumber | n02101556
    Welsh springer spaniel | n02102177
    groenendael | n02105056
    kelpie | n02105412
    Shetland sheepdog | n02105855
    Doberman | n02107142
    pug | n02110958
    chow | n02112137
""")
"""Classes of ImageNet-Dogs: 15 breeds."""
