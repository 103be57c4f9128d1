"""Puts the report together: one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from mca_jax.core.errors import check_one_of
from mca_jax.core.text import printable
from mca_jax.model.result import ClusterResult
from mca_jax.report.cards import (
    choose_rows,
    make_cards,
    make_matrix,
    make_picture,
    read_contingency,
)
from mca_jax.report.duplicates import DuplicateGroup, find_duplicates
from mca_jax.report.findings import Outlier, find_outliers
from mca_jax.report.images import (
    PICTURE_FOLDER,
    Album,
    ImageReader,
    Thumbnails,
    affordable_rows,
    encode_sheets,
    encode_thumbnails,
    read_small,
    read_tiles,
    thumbnail_size,
    tile_edge,
)
from mca_jax.report.map import find_neighbors, make_map, map_context
from mca_jax.report.overview import counted, overview_context, percent
from mca_jax.report.tree import view_tree

__all__ = ["Report", "build_report", "render_report"]

_LONG_COMMAND = 72
_SHOWN_OUTLIERS = 24
_SHOWN_GROUPS = 24
_SHOWN_OF_GROUP = 6
# Text is escaped, so no name of a file can look like this.
_SIZE_MARK = "<!--size-->"


class Report(NamedTuple):
    """The report of a run and what was found on the way.

    Attributes:
      html: The page.
      files: Pictures to write beside it: content by path relative to its folder;
        none where they are in the page.
      outliers: The images most unlike any other, most distant first.
      duplicates: Images that show the same.
      pictures: The small pictures that were compared, or None.
    """

    html: str
    files: dict[str, bytes]
    outliers: tuple[Outlier, ...]
    duplicates: tuple[DuplicateGroup, ...]
    pictures: np.ndarray | None


def _asset(name: str) -> str:
    """Read one of the files beside the templates."""
    folder = resources.files("mca_jax.report") / "templates"
    return (folder / name).read_text("utf-8")


def _environment() -> jinja2.Environment:
    """Templates whose values are text, escaped and printable, unless marked up."""

    def finalize(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return printable(value) if plain else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mca_jax.report", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "counted": counted}
    environment.filters["grouped"] = "{:,}".format
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _seed(result: ClusterResult) -> int:
    """Seed of the run, which the map draws with as well."""
    seed = result.config.get("seed", 0)
    return seed if isinstance(seed, int) and seed >= 0 else 0


def _map_part(
    result: ClusterResult, neighbors: np.ndarray, reader: ImageReader, album: Album
) -> dict[str, Any]:
    """The map with the tiles of its images."""
    image_map = make_map(result, neighbors, seed=_seed(result))
    edge = tile_edge(len(image_map.rows))
    load = partial(reader.load, edge=edge)
    tiles: dict[int, np.ndarray] = {}
    if reader.available:
        rows = affordable_rows(image_map.rows.tolist(), reader.path)
        tiles = read_tiles(rows, load, edge=edge)

    sheets = [
        album.add(f"map-{number:03d}", sheet)
        for number, sheet in enumerate(encode_sheets(tiles, edge=edge))
    ]
    return map_context(
        result, image_map, tile_rows=list(tiles), edge=edge, sheets=sheets
    )


def _shown_of(group: DuplicateGroup) -> list[int]:
    """The first rows of a group, the best one before all."""
    others = [row for row in group.rows if row != group.best]
    return [group.best, *others[: _SHOWN_OF_GROUP - 1]]


def _picture_context(
    result: ClusterResult,
    reader: ImageReader,
    outliers: tuple[Outlier, ...],
    duplicates: tuple[DuplicateGroup, ...],
    album: Album,
) -> dict[str, Any]:
    """Everything with pictures in it."""
    rows = choose_rows(result)
    groups = [(each, _shown_of(each)) for each in duplicates[:_SHOWN_GROUPS]]
    wanted = {*rows.all, *(each.row for each in outliers[:_SHOWN_OUTLIERS])}
    wanted.update(row for _, shown in groups for row in shown)
    edge = thumbnail_size(len(wanted))
    pictures: dict[int, bytes] = {}
    if reader.available:
        pictures = encode_thumbnails(wanted, partial(reader.load, edge=edge), size=edge)
    uris = {row: album.add(f"{row:07d}", jpeg) for row, jpeg in pictures.items()}
    table = read_contingency(result.metrics.get("contingency"), len(result.clusters))
    cards = make_cards(result, rows, uris, table=table)
    cards.sort(key=lambda card: (-card.cluster.size, card.cluster.index))
    show = partial(make_picture, result, uris=uris)
    return {
        "cards": cards,
        "edge": edge,
        "uncertain": [show(row) for row in rows.uncertain],
        "outliers": [
            (show(each.row), each.distance) for each in outliers[:_SHOWN_OUTLIERS]
        ],
        "num_outliers": len(outliers),
        "groups": [(group, [show(row) for row in shown]) for group, shown in groups],
        "num_groups": len(duplicates),
        "num_identical": sum(
            len(each.rows) - 1 for each in duplicates if each.kind == "identical"
        ),
        "matrix": make_matrix(table, [c.cluster for c in cards]) if table else None,
    }


def _folded(command: str | None) -> Markup | None:
    """Break a long command before its flags; a quoted one is left as it is."""
    if command is None:
        return None
    if len(command) > _LONG_COMMAND and not set(command) & set("'\"\n"):
        command = command.replace(" --", " \\\n  --")
    return escape(command)


def _say_size(html: str, album: Album) -> str:
    """Put the size of the page and of what is beside it into its last line."""
    text = f"{len(html.encode()) / 1e6:.1f} MB"
    if album.files:
        beside = sum(map(len, album.files.values())) / 1e6
        text += f", and {beside:.1f} MB of pictures in the folder {PICTURE_FOLDER}"
    return html.replace(_SIZE_MARK, text)


def build_report(
    result: ClusterResult,
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    seconds: Mapping[str, float] | None = None,
    thumbnails: Thumbnails = "embed",
) -> Report:
    """Build the report of a run.

    The page asks the network for nothing, and is the same for two runs with one
    seed.

    Args:
      result: What a run returned.
      load_image: Returns the upright RGB picture of a row; None reads the
        files under ``result.root``. Rows that raise OSError or ValueError, and
        all rows of arrays without it, get a placeholder.
      command: What to type to run it again, or None.
      seconds: Wall time of each stage; None leaves times out, without which
        two equal runs would differ.
      thumbnails: ``"embed"`` puts pictures into the page; ``"beside"`` into files
        beside it.

    Raises:
      InputError: ``thumbnails`` is neither.
    """
    check_one_of("thumbnails", thumbnails, ("embed", "beside"))
    album, reader = Album(thumbnails), ImageReader(result, load_image)
    neighbors = result.neighbors
    if neighbors is None:
        neighbors = find_neighbors(result.embeddings)
    map_part = _map_part(result, neighbors, reader, album)
    outliers = find_outliers(result.embeddings, neighbors)
    small = read_small(result, reader)
    duplicates = find_duplicates(
        result.embeddings,
        neighbors,
        small,
        digests=result.digests,
        same_content=reader.same_content,
        measure=reader.measure,
    )
    script = "".join(map(_asset, ("script.js", "map.js", "tree.js")))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template("report.html.j2")
    html = page.render(
        # Our own files, not data: markup, so not escaped.
        style=Markup(_asset("base.css") + _asset("style.css")),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        # A page from disk has no origin that 'self' could stand for.
        picture_sources="data: 'self' file:" if thumbnails == "beside" else "data:",
        command=_folded(command),
        seconds=[(name, f"{value:.1f} s") for name, value in (seconds or {}).items()],
        map=map_part,
        tree=view_tree(result),
        embedded=thumbnails == "embed",
        size=Markup(_SIZE_MARK),
        **overview_context(result),
        **_picture_context(result, reader, outliers, duplicates, album),
    )
    return Report(_say_size(html, album), album.files, outliers, duplicates, small)


def render_report(
    result: ClusterResult,
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    seconds: Mapping[str, float] | None = None,
) -> str:
    """Render :func:`build_report`'s page, with its pictures in it, as HTML."""
    return build_report(
        result, load_image=load_image, command=command, seconds=seconds
    ).html
