"""Pillow's warnings: ignored while decoding, in that thread only."""

from __future__ import annotations

import io
import struct
import threading
import warnings

import numpy as np
import pytest
from pictures import NOISE, encode
from PIL import Image

from mca_jax.data import decode as decode_module
from mca_jax.data import decode_image
from mca_jax.data.quiet import quiet_pillow


def warned_about() -> bytes:
    """A TIFF with a tag that Pillow warns about."""
    content = encode(NOISE, "TIFF")
    # Two values for ImageWidth, where one is expected.
    offset = struct.unpack("<I", content[4:8])[0]
    changed = bytearray(content)
    (count,) = struct.unpack_from("<H", changed, offset)
    for entry in range(count):
        place = offset + 2 + 12 * entry
        tag, kind, _, value = struct.unpack_from("<HHII", changed, place)
        if tag == 257:
            struct.pack_into("<HHIHH", changed, place, tag, 3, 2, value, value)
    return bytes(changed)


def test_the_file_does_warn():
    with pytest.warns(UserWarning, match="had too many entries"):
        Image.open(io.BytesIO(warned_about())).load()


def test_neither_shown_nor_an_error():
    content = warned_about()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(decode_image(content), NOISE)
    assert not caught
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode_image(content), NOISE)


def test_others_still_warn():
    decode_image(warned_about())
    with pytest.warns(UserWarning, match="had too many entries"):
        Image.open(io.BytesIO(warned_about())).load()


def test_other_threads_still_warn_meanwhile():
    caught: list[type[Warning]] = []

    def warn():
        try:
            warnings.warn_explicit("now", UserWarning, "x.py", 1, module="PIL.x")
        except UserWarning as warning:
            caught.append(type(warning))

    with quiet_pillow():
        warn()
        assert not caught
        thread = threading.Thread(target=warn)
        thread.start()
        thread.join()
    assert caught == [UserWarning]


def test_filters_reset_by_another_thread(monkeypatch):
    original = decode_module._decode
    calls = []

    def reset_first(*arguments):
        calls.append(1)
        if len(calls) == 1:
            warnings.simplefilter("error")
        return original(*arguments)

    monkeypatch.setattr(decode_module, "_decode", reset_first)
    with warnings.catch_warnings():
        found = decode_image(warned_about())
    np.testing.assert_array_equal(found, NOISE)


def test_filters_do_not_pile_up():
    content = encode(NOISE, "BMP")
    decode_image(content)
    before = len(warnings.filters)
    for _ in range(5):
        decode_image(content)
    assert len(warnings.filters) == before
