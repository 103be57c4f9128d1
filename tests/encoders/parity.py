"""Golden checkpoints and what is promised of them, from the list of what works."""

from mca_jax.encoders.catalogue import FAMILIES


def golden_names(folder):
    """Names of the golden checkpoints in a folder below ``tests/goldens``."""
    names = [name for family in FAMILIES.values() for name in family.goldens]
    return tuple(
        sorted(name.split("/")[1] for name in names if name.startswith(f"{folder}/"))
    )


def promised(folder, name):
    """The parity that the list promises of a golden checkpoint."""
    (family,) = (
        each for each in FAMILIES.values() if f"{folder}/{name}" in each.goldens
    )
    assert family.parity <= 1e-5
    return family.parity
