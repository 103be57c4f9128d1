"""Files of several hosts' embeddings: what is left behind goes, what is used stays."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.encoders.cache import shared_table
from mca_jax.encoders.cache.embedding_cache import EmbeddingCache
from mca_jax.encoders.cache.shared_table import remove_left_behind, share_table


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(7, 3)).astype(np.float16)


def test_the_file_goes_with_the_last_view(tmp_path, rows):
    table = share_table(tmp_path, rows, 0, 7)
    np.testing.assert_array_equal(table, rows)
    assert not table.flags.writeable
    part = table[2:5]
    (path,) = tmp_path.iterdir()
    del table
    assert path.exists()
    np.testing.assert_array_equal(part, rows[2:5])
    del part
    assert not path.exists()


def test_a_file_in_use_is_not_removed(tmp_path, rows):
    table = share_table(tmp_path, rows, 0, 7)
    (path,) = tmp_path.iterdir()
    EmbeddingCache(tmp_path.parent, "encoder", "key")
    assert remove_left_behind(path)
    assert path.exists()
    np.testing.assert_array_equal(table, rows)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    cache = EmbeddingCache(tmp_path, "encoder", "key")
    script = (
        "import os, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from mca_jax.encoders.cache.shared_table import share_table\n"
        "table = share_table(Path(sys.argv[1]), np.ones((3, 2), np.float32), 0, 3)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(cache.folder)])
    assert killed.returncode == -9
    (path,) = cache.folder.iterdir()
    assert path.stat().st_size == 24
    reopened = EmbeddingCache(tmp_path, "encoder", "key")
    assert not path.exists()
    assert reopened.warnings == []


def test_without_locks_only_an_old_file_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "rows-00.shared"
    path.write_bytes(b"12345678")

    def refuse(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(shared_table.fcntl, "flock", refuse)
    assert remove_left_behind(path)
    assert path.exists()
    old = time.time() - 8 * 24 * 3600
    os.utime(path, (old, old))
    assert remove_left_behind(path)
    assert not path.exists()


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "chunk-00.npy"
    path.write_bytes(b"")
    assert not remove_left_behind(path)
    assert path.exists()


def test_no_room_leaves_nothing_behind(tmp_path, rows, monkeypatch):
    def refuse(descriptor, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_table, "reserve", refuse)
    cache = EmbeddingCache(tmp_path, "encoder", "key", dtype="float16")
    with pytest.raises(InputError, match="no space left on device; make room"):
        cache.share(rows, 0, 7)
    assert not list(cache.folder.iterdir())
