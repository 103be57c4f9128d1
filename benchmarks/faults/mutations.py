"""Bytes and JSON values that are nearly what a program expects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

__all__ = ["mutate", "mutate_json"]

_EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80")
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**63, 1e308, float("nan"), "", "\ud800", "../x", "/x"),
    *([], {}, [[]], {"": 0}, "a" * 1000, [0] * 100, -(10**30), "0", "\n", "nan"),
)
_HEADER_BYTES = 256


def _place(random: np.random.Generator, size: int) -> int:
    """A place in a file; one in two is in its header, where most is decided."""
    most = min(size, _HEADER_BYTES) if random.integers(2) else size
    return int(random.integers(max(most, 1)))


def _flip(random: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        changed[_place(random, len(changed))] ^= int(random.integers(1, 256))
    return bytes(changed)


def _cut(random: np.random.Generator, content: bytes) -> bytes:
    return content[: _place(random, len(content))]


def _take_out(random: np.random.Generator, content: bytes) -> bytes:
    start = _place(random, len(content))
    return content[:start] + content[start + int(random.integers(1, 64)) :]


def _put_in(random: np.random.Generator, content: bytes) -> bytes:
    start = _place(random, len(content))
    return content[:start] + random.bytes(int(random.integers(1, 64))) + content[start:]


def _repeat(random: np.random.Generator, content: bytes) -> bytes:
    start, end = sorted(_place(random, len(content)) for _ in range(2))
    return content[:end] + content[start:]


def _set_number(random: np.random.Generator, content: bytes) -> bytes:
    start = _place(random, len(content))
    size = int(random.choice([2, 4]))
    number = _EXTREMES[random.integers(len(_EXTREMES))][:size]
    return content[:start] + number + content[start + size :]


def _blank(random: np.random.Generator, content: bytes) -> bytes:
    start = _place(random, len(content))
    size = min(int(random.integers(1, 4096)), len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


_WAYS = (_flip, _flip, _cut, _take_out, _put_in, _repeat, _set_number, _blank)


def mutate(random: np.random.Generator, content: bytes) -> bytes:
    """Change a file in one way: bytes, its length, a number, a part of it.

    Args:
      random: Draws the way and the place.
      content: What the file holds, at least a byte.
    """
    return _WAYS[random.integers(len(_WAYS))](random, content)


def _walk(value: Any) -> list[tuple[Any, Any]]:
    """Each place in a JSON value, as what holds it and the key or index there."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    found = []
    for key, inner in items:
        found.append((value, key))
        found += _walk(inner)
    return found


def mutate_json(random: np.random.Generator, content: bytes) -> bytes:
    """Change one value of a JSON text, or leave it out; one in four has bytes changed.

    Args:
      random: Draws what is changed.
      content: JSON with an object or a list at its top.
    """
    if not random.integers(4):
        return mutate(random, content)
    if not random.integers(32):
        return b"[" * 100_000
    tree = json.loads(content)
    places = _walk(tree)
    holder, key = places[random.integers(len(places))]
    if random.integers(4):
        holder[key] = _VALUES[random.integers(len(_VALUES))]
    else:
        del holder[key]
    return json.dumps(tree).encode()
