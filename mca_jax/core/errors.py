"""Bad input from outside: every message says what was expected and found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "InputError",
    "InputWarning",
    "check_in_range",
    "check_one_of",
    "nearest_option",
]


class InputError(ValueError):
    """Bad input from outside: a path, a value, a flag, a file.

    The message is one line that names the culprit and says what to do. The
    launchers print it without a traceback and exit with status 2.

    Example:
      >>> check_in_range("num_clusters", 1, low=2)
      Traceback (most recent call last):
      mca_jax.core.errors.InputError: Expected num_clusters at least 2, found 1
    """


class InputWarning(UserWarning):
    """Something in what came from outside that is passed over, and why.

    The launchers print it in one line, as they print an ``InputError``.
    """


def nearest_option(name: str, options: Iterable[str]) -> str:
    """Return the end of a message: ``"; did you mean 'lite'?"``, or all options."""
    known = sorted(options)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid are {', '.join(known)}"


def check_one_of(name: str, value: str, options: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``options``; ``name`` is for the message.

    Raises:
      InputError: ``value`` is none of the options; the nearest is named.
    """
    known = sorted(options)
    if value not in known:
        raise InputError(f"Unknown {name} {value!r}{nearest_option(value, known)}")
    return value


def check_in_range(
    name: str, value: float, low: float | None = None, high: float | None = None
) -> None:
    """Check ``low <= value <= high``; a bound of None is open, ``name`` is shown.

    Raises:
      InputError: ``value`` is outside the range, or not a number.
    """
    below = low is not None and not value >= low
    above = high is not None and not value <= high
    if below or above:
        if high is None:
            expected = f"at least {low}"
        elif low is None:
            expected = f"at most {high}"
        else:
            expected = f"between {low} and {high}"
        raise InputError(f"Expected {name} {expected}, found {value}")
