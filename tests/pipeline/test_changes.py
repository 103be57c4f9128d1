import os
import shutil
from dataclasses import replace

import pytest
from encoders.small_encoder import build_small_encoder, write_images
from sample_results import build_result

from mca_jax.data import files as files_module
from mca_jax.data import find_images, open_source
from mca_jax.data.files import SkippedImage
from mca_jax.encoders.embed_images import embed_images
from mca_jax.pipeline.changes import FolderChanges, compare_folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    # Files are not known by their times when they were written just now.
    monkeypatch.setattr(files_module, "_SETTLING_NS", 0)
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    write_images(folder, 10)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def run_of(folder, cache_dir):
    """What a run would keep of its images."""
    embedded = embed_images(build_small_encoder(), folder, cache_dir=cache_dir)
    assert embedded.digests is not None
    assert len(embedded.digests) == len(embedded.paths)
    return replace(
        build_result(),
        root=embedded.root,
        paths=embedded.paths,
        digests=embedded.digests,
        skipped=embedded.skipped,
    )


def change(folder):
    write_images(folder, 2, start=20)
    write_images(folder, 1, start=100)
    (folder / "100.png").replace(folder / "000.png")
    (folder / "001.png").rename(folder / "first.png")
    (folder / "002.png").rename(folder / "below/002.png")
    (folder / "003.png").unlink()
    shutil.copy(folder / "004.png", folder / "copy.png")
    os.utime(folder / "005.png")


@pytest.mark.parametrize("cached", [True, False])
def test_what_happened_to_each_image(photos, tmp_path, cached):
    result = run_of(photos, tmp_path / "cache" if cached else None)
    source = open_source(photos)
    assert not compare_folder(result, source, tmp_path / "cache").any
    change(photos)
    source = open_source(photos)
    reads = []
    source = source._replace(
        read=lambda row, read=source.read: reads.append(source.names[row]) or read(row)
    )
    found = compare_folder(result, source, tmp_path / "cache")
    assert found.added == ("020.png", "021.png", "copy.png")
    assert found.changed == ("000.png",)
    assert found.renamed == {"below/002.png": "002.png", "first.png": "001.png"}
    assert found.deleted == ("003.png",)
    assert "broken.png" in found.same
    assert len(found.same) == 7
    assert found.counts() == {
        **{"added": 3, "changed": 1, "renamed": 1, "moved": 1, "deleted": 1}
    }
    if cached:
        # Files that are as they were are known by their times; a new one is read
        # where its size is that of one that is gone.
        assert set(reads) <= {"000.png", "005.png", *found.added, *found.renamed}


def test_a_run_of_before_there_were_digests(photos, tmp_path):
    result = replace(run_of(photos, tmp_path / "cache"), digests=None)
    write_images(photos, 1, start=50)
    (photos / "006.png").unlink()
    found = compare_folder(result, open_source(photos), tmp_path / "none")
    assert found.counts() == {"added": 1, "deleted": 1}


def test_copies_of_one_content_keep_their_own_names(photos, tmp_path):
    for name in ("a.png", "b.png"):
        shutil.copy(photos / "000.png", photos / name)
    result = run_of(photos, tmp_path / "cache")
    for name in ("a.png", "b.png"):
        (photos / name).rename(photos / "below" / name)
    found = compare_folder(result, open_source(photos), tmp_path / "cache")
    assert found.renamed == {"below/a.png": "a.png", "below/b.png": "b.png"}
    assert found.counts() == {"moved": 2}


def test_digests_are_those_of_the_rows_that_could_be_read(photos):
    (photos / "000.png").write_bytes(b"")
    result = run_of(photos, None)
    names = [each.path for each in result.skipped]
    assert names == ["000.png", "broken.png"]
    assert isinstance(result.skipped[0], SkippedImage)
    shutil.copy(photos / "001.png", photos / "zzz.png")
    again = run_of(photos, None)
    assert again.digests[0].tobytes() == again.digests[-1].tobytes()
    assert (
        len({row.tobytes() for row in again.digests})
        == len(find_images(photos).paths) - 3
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            FolderChanges((), (), (), {"b": "a", "d/c": "c"}, ()),
            "since the last run 1 image was renamed, 1 moved; 0 are as they were",
        ),
        (
            FolderChanges(("a",), (), ("b", "c"), {}, ()),
            "since the last run 2 images were changed; 1 is as it was",
        ),
        (
            FolderChanges(("a", "b"), ("c",), (), {}, (), unread=1),
            "since the last run 1 image was added; 2 are as they were "
            "(1 could not be read)",
        ),
        (
            FolderChanges(("a", "b"), (), (), {}, (), unread=2),
            "all 2 images are as they were in the last run (2 could not be read)",
        ),
    ],
)
def test_what_is_said(changes, sentence):
    assert changes.sentence() == sentence
