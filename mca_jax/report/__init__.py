"""The report of a run as one HTML page."""

from mca_jax.report.html import render_report

__all__ = ["render_report"]
