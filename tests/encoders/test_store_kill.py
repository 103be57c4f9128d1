"""``kill -9`` while embedding: nothing is lost but the chunk in flight."""

import sys

import numpy as np
import pytest
from kill_embedding import contents, events, kept, run_with_kills, start
from small_encoder import write_images

COUNT = 300
CHUNK = 16
BATCH = 8


def arguments(folder, out):
    settings = ("--encoder=small", f"--chunk={CHUNK}", f"--batch={BATCH}")
    return [str(folder), str(out), *settings]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_run_leaves_what_an_uninterrupted_one_does(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    write_images(folder, COUNT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(*arguments(folder, whole)).wait() == 0
    found = run_with_kills(
        arguments(folder, killed), killed, kills=5, seconds=1.2, seed=1
    )
    assert contents(killed) == contents(whole)
    # What is on disk is never embedded again, and only whole chunks are lost.
    assert found == sorted(found)
    assert all(count % CHUNK == 0 or count == COUNT for count in found)
    assert events(killed)[-1] == f"computed {COUNT - found[-1]}"
    digests = np.concatenate(
        [np.load(path)["digest"] for path in (killed / "cache").glob("*/chunk-*.npy")]
    )
    assert len(np.unique(digests, axis=0)) == len(digests) == kept(killed) == COUNT
