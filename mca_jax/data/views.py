"""Views: random crops of an image in other light, which show the same thing."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

from mca_jax.data.files import FileIdentity
from mca_jax.data.sources import ImageSource

__all__ = ["draw_view", "pick_rows", "view_source"]

# Counts up whenever the same image gives other views.
_VERSION = "view 1"
# The usual ranges of augmentation: what leaves a thing what it is.
_AREA = (0.3, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_LIGHT = (0.6, 1.4)
_GREY_SHARE = 0.2


def draw_view(random: np.random.Generator, image: Image.Image) -> Image.Image:
    """Cut a random part out of an image, and change its light and colours.

    Args:
      random: Where the part and the changes come from.
      image: An upright RGB image.

    Returns:
      30 % to 100 % of its area at an aspect of 3:4 to 4:3, mirrored half of the
      times, with brightness, contrast and saturation times 0.6 to 1.4, and one in
      five without colour.
    """
    width, height = image.size
    area = random.uniform(*_AREA) * width * height
    aspect = np.exp(random.uniform(*np.log(_ASPECT)))
    crop_width = max(1, min(width, round((area * aspect) ** 0.5)))
    crop_height = max(1, min(height, round((area / aspect) ** 0.5)))
    left = int(random.integers(0, width - crop_width + 1))
    top = int(random.integers(0, height - crop_height + 1))
    view = image.crop((left, top, left + crop_width, top + crop_height))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(random.uniform(*_LIGHT))
    if random.random() < _GREY_SHARE:
        view = view.convert("L").convert("RGB")
    return view


def pick_rows(
    names: Sequence[str], rows: Sequence[int], count: int, seed: int
) -> list[int]:
    """Pick images by a hash of their names, so that more images change few picks.

    Args:
      names: Name of every row of a source.
      rows: Rows to pick from.
      count: Most rows to pick.
      seed: Other seeds pick other rows.

    Returns:
      Rows in increasing order.
    """

    def rank(row: int) -> bytes:
        return hashlib.sha256(f"{seed} {names[row]}".encode(errors="replace")).digest()

    return sorted(heapq.nsmallest(count, rows, key=rank))


def view_source(
    source: ImageSource, rows: Sequence[int], *, num_views: int, seed: int
) -> ImageSource:
    """Make a source of the views of some images, those of one image side by side.

    A view depends on the content of its image, its number and the seed alone: it is
    the same wherever the image lies and whatever else is in the set, so that a cache
    of embeddings knows it again.

    Args:
      source: Where the images come from.
      rows: Rows of it.
      num_views: Views of each image, at least 1.
      seed: Other seeds give other views.
    """
    plan = [(row, number) for row in rows for number in range(num_views)]

    def read(place: int) -> tuple[bytes, FileIdentity | None]:
        row, number = plan[place]
        content, identity = source.read(row)
        return f"{_VERSION} {seed} {number}\n".encode() + content, identity

    def decode(content: bytes, min_side: int) -> Image.Image:
        head, _, own = content.partition(b"\n")
        digest = hashlib.sha256(head + source.salt + hashlib.sha256(own).digest())
        random = np.random.default_rng(np.frombuffer(digest.digest(), np.uint32))
        return draw_view(random, source.decode(own, min_side))

    return ImageSource(
        root=source.root,
        names=tuple(f"{source.names[row]} view {seed}.{n}" for row, n in plan),
        skipped=(),
        salt=_VERSION.encode() + b" " + source.salt,
        identify=lambda place: source.identify(plan[place][0]),
        read=read,
        decode=decode,
    )
