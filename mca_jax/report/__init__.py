"""The report of a run as one HTML page."""

from mca_jax.report.findings import DuplicateGroup, Outlier
from mca_jax.report.images.album import PICTURE_FOLDER, Thumbnails
from mca_jax.report.page.html import Report, build_report, render_report

__all__ = [
    "PICTURE_FOLDER",
    "DuplicateGroup",
    "Outlier",
    "Report",
    "Thumbnails",
    "build_report",
    "render_report",
]
