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
from markupsafe import Markup
from PIL import Image

from mca_jax.core.errors import check_one_of
from mca_jax.model.result import ClusterResult
from mca_jax.report.findings import (
    DuplicateGroup,
    Outlier,
    find_duplicates,
    find_outliers,
)
from mca_jax.report.images.album import PICTURE_FOLDER, Album, ImageReader, Thumbnails
from mca_jax.report.images.thumbnails import encode_thumbnails, thumbnail_size
from mca_jax.report.images.tiles import (
    affordable_rows,
    encode_sheets,
    read_tiles,
    tile_edge,
)
from mca_jax.report.page.cards import choose_rows, make_cards, make_picture
from mca_jax.report.page.charts import history_charts
from mca_jax.report.page.map import ImageMap, find_neighbors, make_map, map_context
from mca_jax.report.page.matrix import make_matrix, read_contingency
from mca_jax.report.page.overview import overview_context, percent
from mca_jax.report.page.tables import (
    audit_rows,
    baseline_rows,
    flat_settings,
    label_free_rows,
    score_rows,
)

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
    """

    html: str
    files: dict[str, bytes]
    outliers: tuple[Outlier, ...]
    duplicates: tuple[DuplicateGroup, ...]


class _Found(NamedTuple):
    """What was found by looking at all images.

    Attributes:
      image_map: Where the images are on the map.
      tiles: Their small pictures by row.
      edge: Edge of those in pixels.
      outliers: As in :class:`Report`.
      duplicates: As in :class:`Report`.
    """

    image_map: ImageMap
    tiles: dict[int, np.ndarray]
    edge: int
    outliers: tuple[Outlier, ...]
    duplicates: tuple[DuplicateGroup, ...]


def _asset(name: str) -> str:
    """Read one of the files beside the templates."""
    folder = resources.files("mca_jax.report") / "templates"
    return (folder / name).read_text("utf-8")


def _environment() -> jinja2.Environment:
    """Templates with escaping on: names of files and nouns are only text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mca_jax.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _seed(result: ClusterResult) -> int:
    """Seed of the run, which the map draws with as well."""
    seed = result.config.get("seed", 0)
    return seed if isinstance(seed, int) and seed >= 0 else 0


def _look_at_all(result: ClusterResult, reader: ImageReader) -> _Found:
    """Place all images, and find outliers and duplicates among them."""
    neighbors = result.neighbors
    if neighbors is None:
        neighbors = find_neighbors(result.embeddings)
    image_map = make_map(result, neighbors, seed=_seed(result))
    edge = tile_edge(len(image_map.rows))
    load = partial(reader.load, edge=edge)
    tiles: dict[int, np.ndarray] = {}
    if reader.available:
        rows = affordable_rows(image_map.rows.tolist(), reader.path)
        tiles = read_tiles(rows, load, edge=edge)

    def more_tiles(rows: list[int]) -> dict[int, np.ndarray]:
        if not reader.available:
            return {}
        missing = [row for row in rows if row not in tiles]
        return {**tiles, **read_tiles(missing, load, edge=edge)}

    return _Found(
        image_map=image_map,
        tiles=tiles,
        edge=edge,
        outliers=find_outliers(result.embeddings, neighbors),
        duplicates=find_duplicates(
            result.embeddings,
            neighbors,
            same_content=reader.same_content,
            read_tiles=more_tiles,
        ),
    )


def _map_part(result: ClusterResult, found: _Found, album: Album) -> dict[str, Any]:
    """The map with its tiles."""
    sheets = [
        album.add(f"map-{number:03d}", sheet)
        for number, sheet in enumerate(encode_sheets(found.tiles, edge=found.edge))
    ]
    return map_context(
        result,
        found.image_map,
        tile_rows=list(found.tiles),
        edge=found.edge,
        sheets=sheets,
    )


def _picture_context(
    result: ClusterResult, reader: ImageReader, found: _Found, album: Album
) -> dict[str, Any]:
    """Everything with pictures in it."""
    rows = choose_rows(result)
    outliers = found.outliers[:_SHOWN_OUTLIERS]
    groups = [
        (group, group.rows[:_SHOWN_OF_GROUP])
        for group in found.duplicates[:_SHOWN_GROUPS]
    ]
    wanted = {*rows.all, *(each.row for each in outliers)}
    wanted.update(row for _, shown in groups for row in shown)
    edge = thumbnail_size(len(wanted))
    pictures: dict[int, bytes] = {}
    if reader.available:
        pictures = encode_thumbnails(wanted, partial(reader.load, edge=edge), size=edge)
    uris = {row: album.add(f"{row:07d}", jpeg) for row, jpeg in pictures.items()}
    table = read_contingency(result.metrics.get("contingency"), len(result.clusters))
    cards = make_cards(
        result,
        rows,
        uris,
        classes=table.classes if table else (),
        counts=table.counts if table else None,
    )
    cards.sort(key=lambda card: (-card.size, card.index))
    show = partial(make_picture, result, uris=uris)
    return {
        "cards": cards,
        "edge": edge,
        "uncertain": [show(row) for row in rows.uncertain],
        "outliers": [(show(each.row), each.distance) for each in outliers],
        "num_outliers": len(found.outliers),
        "groups": [(group, [show(row) for row in shown]) for group, shown in groups],
        "num_groups": len(found.duplicates),
        "num_identical": sum(
            len(group.rows) - 1
            for group in found.duplicates
            if group.kind == "identical"
        ),
        "matrix": make_matrix(table, cards) if table else None,
    }


def _folded(command: str | None) -> str | None:
    """Break a long command before its flags; a quoted one is left as it is."""
    if command is None or len(command) <= _LONG_COMMAND or set(command) & set("'\"\n"):
        return command
    return command.replace(" --", " \\\n  --")


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

    Returns:
      The page, its files, and the outliers and duplicates that it shows.

    Raises:
      InputError: ``thumbnails`` is neither.
    """
    check_one_of("thumbnails", thumbnails, ("embed", "beside"))
    album, reader = Album(thumbnails), ImageReader(result, load_image)
    found = _look_at_all(result, reader)
    script = _asset("script.js") + _asset("map.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context: dict[str, Any] = {
        # Our own files, not data: markup, so not escaped.
        "style": Markup(_asset("style.css")),
        "script": Markup(script),
        "script_hash": Markup(f"sha256-{digest}"),
        # A page from disk has no origin that 'self' could stand for.
        "picture_sources": "data: 'self' file:" if thumbnails == "beside" else "data:",
        "scores": score_rows(result.metrics.get("scores") or {}),
        "baselines": baseline_rows(result.metrics.get("baselines") or {}),
        "label_free": label_free_rows(result.metrics.get("label_free") or {}),
        "history": history_charts(result.history),
        "audit": audit_rows(result.audit),
        "audit_total": sum(result.audit.values()),
        "audit_kept": result.audit.get("kept", 0),
        "command": _folded(command),
        "settings": flat_settings(result.config),
        "provenance": flat_settings(result.provenance),
        "seconds": [
            (name, f"{value:.1f} s") for name, value in (seconds or {}).items()
        ],
        "map": _map_part(result, found, album),
        "embedded": thumbnails == "embed",
        "size": Markup(_SIZE_MARK),
    }
    context |= overview_context(result)
    context |= _picture_context(result, reader, found, album)
    page = _environment().get_template("report.html.j2").render(context)
    return Report(_say_size(page, album), album.files, found.outliers, found.duplicates)


def render_report(
    result: ClusterResult,
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    seconds: Mapping[str, float] | None = None,
) -> str:
    """Render the report of a run as one page that holds its own pictures.

    Args:
      result: What a run returned.
      load_image: As for :func:`build_report`.
      command: As for :func:`build_report`.
      seconds: As for :func:`build_report`.

    Returns:
      HTML.
    """
    return build_report(
        result, load_image=load_image, command=command, seconds=seconds
    ).html
