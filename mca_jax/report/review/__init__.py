"""A finished run under review: edits by hand, kept as events, in the browser."""

from mca_jax.report.review.groups import NOWHERE, Groups, apply_event, first_groups
from mca_jax.report.review.history import (
    REVIEW_FOLDER,
    History,
    Review,
    open_review,
    put_aside,
    read_review,
)

__all__ = [
    "NOWHERE",
    "REVIEW_FOLDER",
    "Groups",
    "History",
    "Review",
    "apply_event",
    "first_groups",
    "open_review",
    "put_aside",
    "read_review",
]
