"""Puts the report together: one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from mca_jax.data import decode_image
from mca_jax.report.cards import choose_rows, make_cards, make_picture
from mca_jax.report.charts import history_charts
from mca_jax.report.matrix import make_matrix, read_contingency
from mca_jax.report.overview import overview_context, percent
from mca_jax.report.tables import (
    audit_rows,
    flat_settings,
    label_free_rows,
    score_rows,
)
from mca_jax.report.thumbnails import encode_thumbnails, thumbnail_size
from mca_jax.result import ClusterResult

__all__ = ["render_report"]

_LONG_COMMAND = 72


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
    return environment


def _picture_context(
    result: ClusterResult, load_image: Callable[[int], Image.Image] | None
) -> dict[str, Any]:
    """Everything with pictures in it."""
    rows = choose_rows(result)
    edge = thumbnail_size(len(rows.all))

    def read_row(row: int) -> Image.Image:
        path = os.path.join(result.root, result.paths[row])
        return decode_image(path, min_side=edge)

    if load_image is None and result.root:
        load_image = read_row
    uris = {}
    if load_image is not None:
        uris = encode_thumbnails(rows.all, load_image, size=edge)
    table = read_contingency(result.metrics.get("contingency"), len(result.clusters))
    cards = make_cards(
        result,
        rows,
        uris,
        classes=table.classes if table else (),
        counts=table.counts if table else None,
    )
    cards.sort(key=lambda card: (-card.size, card.index))
    return {
        "cards": cards,
        "edge": edge,
        "uncertain": [make_picture(result, row, uris) for row in rows.uncertain],
        "matrix": make_matrix(table, cards) if table else None,
    }


def _folded(command: str | None) -> str | None:
    """Break a long command before its flags; a quoted one is left as it is."""
    if command is None or len(command) <= _LONG_COMMAND or set(command) & set("'\"\n"):
        return command
    return command.replace(" --", " \\\n  --")


def render_report(
    result: ClusterResult,
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    seconds: Mapping[str, float] | None = None,
) -> str:
    """Render the report of a run.

    The page holds its pictures, style and script, asks the network for
    nothing, and is the same for two runs with one seed.

    Args:
      result: What a run returned.
      load_image: Returns the upright RGB picture of a row; None reads the
        files under ``result.root``. Rows that raise OSError or ValueError, and
        all rows of arrays without it, get a placeholder.
      command: What to type to run it again, or None.
      seconds: Wall time of each stage; None leaves times out, without which
        two equal runs would differ.

    Returns:
      HTML.
    """
    script = _asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    audit = audit_rows(result.audit)
    context: dict[str, Any] = {
        # Our own files, not data: markup, so not escaped.
        "style": Markup(_asset("style.css")),
        "script": Markup(script),
        "script_hash": Markup(f"sha256-{digest}"),
        "scores": score_rows(result.metrics.get("scores") or {}),
        "label_free": label_free_rows(result.metrics.get("label_free") or {}),
        "history": history_charts(result.history),
        "audit": audit,
        "audit_total": sum(result.audit.values()),
        "audit_kept": result.audit.get("kept", 0),
        "command": _folded(command),
        "settings": flat_settings(result.config),
        "provenance": flat_settings(result.provenance),
        "seconds": [
            (name, f"{value:.1f} s") for name, value in (seconds or {}).items()
        ],
    }
    context |= overview_context(result) | _picture_context(result, load_image)
    return _environment().get_template("report.html.j2").render(context)
