"""Assets: what was altered, is missing or is not listed is never parsed."""

import hashlib
import json

import numpy as np
import pytest

from mca_jax.core.assets import (
    ASSET_FOLDER,
    asset_fingerprint,
    load_asset,
    read_manifest,
    record_asset,
)
from mca_jax.core.errors import InputError

SOURCE = {"package": "photos", "version": "1.0", "licence": "MIT"}


@pytest.fixture
def folder(tmp_path):
    """A folder with two assets and their manifest."""
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, x=np.arange(len(name)), y=np.array(name))
        record_asset(name, licence="MIT", sources=[SOURCE], folder=tmp_path)
    return tmp_path


def test_round_trip(folder):
    arrays = load_asset("a.npz", folder)
    assert sorted(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], [0, 1, 2, 3, 4])
    assert str(arrays["y"]) == "a.npz"


def test_manifest_states_checksum_size_and_sources(folder):
    entry = read_manifest(folder)["b.npz"]
    content = (folder / "b.npz").read_bytes()
    assert entry == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": "MIT",
        "sources": [SOURCE],
    }


def test_recording_again_replaces_the_entry(folder):
    before = read_manifest(folder)
    np.savez(folder / "a.npz", x=np.zeros(3))
    record_asset("a.npz", licence="BSD-3-Clause", sources=[], folder=folder)
    after = read_manifest(folder)
    assert sorted(after) == ["a.npz", "b.npz"]
    assert after["b.npz"] == before["b.npz"]
    assert after["a.npz"]["licence"] == "BSD-3-Clause"
    np.testing.assert_array_equal(load_asset("a.npz", folder)["x"], np.zeros(3))


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_altered_bit_is_noticed(folder, position):
    path = folder / "a.npz"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz was altered.*reinstall mca-jax"):
        load_asset("a.npz", folder)


def test_a_truncated_file_is_noticed(folder):
    path = folder / "a.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.npz was altered"):
        load_asset("a.npz", folder)


def test_a_missing_file_is_named(folder):
    (folder / "a.npz").unlink()
    with pytest.raises(InputError, match=r"a\.npz: No such file.*reinstall"):
        load_asset("a.npz", folder)


def test_an_unlisted_file_is_not_loaded(folder):
    np.savez(folder / "c.npz", x=np.zeros(1))
    with pytest.raises(InputError, match=r"c\.npz is not in .*MANIFEST\.json"):
        load_asset("c.npz", folder)


def test_pickles_are_refused(folder):
    np.savez(folder / "p.npz", x=np.array([{"code": 1}], dtype=object))
    record_asset("p.npz", licence="MIT", sources=[], folder=folder)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_asset("p.npz", folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"files": {"a.npz": {}}}', '{"files": []}']
)
def test_a_damaged_manifest_is_named(folder, text):
    (folder / "MANIFEST.json").write_text(text)
    with pytest.raises(InputError, match=r"MANIFEST\.json is damaged; reinstall"):
        load_asset("a.npz", folder)


def test_a_missing_manifest_is_named(folder):
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(InputError, match=r"MANIFEST\.json: No such file"):
        load_asset("a.npz", folder)


def test_fingerprint_depends_on_content_order_and_version(folder):
    def fingerprint(names=("a.npz", "b.npz"), version="1"):
        return asset_fingerprint(names, version=version, folder=folder)

    first = fingerprint()
    assert first == fingerprint()
    assert len(bytes.fromhex(first)) == 32
    others = {fingerprint(("b.npz", "a.npz")), fingerprint(version="2")}
    np.savez(folder / "a.npz", x=np.zeros(3))
    record_asset("a.npz", licence="MIT", sources=[], folder=folder)
    others.add(fingerprint())
    assert len(others | {first}) == 4


def test_what_ships_is_listed_intact_and_of_known_licence():
    manifest = read_manifest()
    shipped = {path.name for path in ASSET_FOLDER.glob("*.npz")}
    assert shipped == set(manifest)
    for name, entry in manifest.items():
        content = (ASSET_FOLDER / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        assert len(content) == entry["bytes"] <= 12_000_000, name
        assert entry["licence"]
        assert all(
            {"package", "version", "licence"} == set(s) for s in entry["sources"]
        )
    text = (ASSET_FOLDER / "MANIFEST.json").read_text()
    assert json.loads(text)["files"] == manifest
