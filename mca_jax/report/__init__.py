"""The report of a run as one HTML page."""

from mca_jax.report.images import PICTURE_FOLDER
from mca_jax.report.page import Report, build_report, render_report

__all__ = ["PICTURE_FOLDER", "Report", "build_report", "render_report"]
