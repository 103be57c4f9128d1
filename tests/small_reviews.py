"""A small run with pictures, opened for review without a socket."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sample_results import write_images
from small_runs import small_run

from mca_jax.model.result import read_result
from mca_jax.pipeline.command_line.review import build_desk
from mca_jax.report.review import open_review

__all__ = ["ORIGIN", "TOKEN", "open_desk", "open_page", "write_run"]

TOKEN = "0123456789-token"
ORIGIN = "http://127.0.0.1:8000"


def write_run(folder: Path, *, pictures: int = 0, name: str = "{row:04d}.jpg") -> Path:
    """Write the run; ``pictures`` of its images get a file."""
    result = small_run()
    paths = tuple(name.format(row=row) for row in range(len(result.paths)))
    root = folder / "photos"
    write_images(root, paths[:pictures])
    root.mkdir(parents=True, exist_ok=True)
    run = folder / "run"
    # As of one that read files, but that nobody knows what they held.
    replace(result, paths=paths, root=str(root)).save(run)
    return run


@contextmanager
def open_desk(run: Path):
    """Yield the desk of a run and its review."""
    result = read_result(run)
    review = open_review(result, run)
    try:
        yield build_desk(result, review), review
    finally:
        review.close()


@contextmanager
def open_page(run: Path):
    """Yield a client of the server, as a browser with the address is one."""
    from starlette.testclient import TestClient

    from mca_jax.report.review.app import build_app

    with open_desk(run) as (desk, _):
        client = TestClient(build_app(desk, TOKEN), f"{ORIGIN}/{TOKEN}/")
        client.headers["origin"] = ORIGIN
        yield client
