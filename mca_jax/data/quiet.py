"""Keeps Pillow and the libraries below it from writing past the program."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, cast

from PIL import Image

__all__ = ["has_tiff_codec", "quiet_libtiff", "quiet_pillow", "quiet_stderr"]

# Loggers that report on files. A filter of a logger isn't asked for those below it.
_LOGGERS = (
    *("PIL.Image", "PIL.ImageFile", "PIL.TiffImagePlugin", "PIL.PngImagePlugin"),
    *("PIL.PsdImagePlugin", "PIL.Jpeg2KImagePlugin", "PIL.JpegImagePlugin"),
    *("PIL.AvifImagePlugin", "pillow_heif"),
)


class _DecodingThread(threading.local):
    """Matches Pillow's modules in a thread that is decoding, else nothing.

    ``warnings.catch_warnings`` swaps the filters of the whole process, so it
    isn't safe in threads. A filter asks its module pattern to ``match`` a name;
    this one answers by thread, so it can stay in the list and changes nothing
    for the rest of the program.
    """

    active = False

    def match(self, module: str) -> bool:
        """Whether a warning of ``module`` is to be ignored here and now."""
        return self.active and module.startswith(("PIL.", "pillow_"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line of a logger is to be written."""
        return not self.active


_decoding = _DecodingThread()
_QUIET_FILTER = cast(Any, ("ignore", None, Warning, _decoding, 0))
_filter_lock = threading.Lock()

for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_decoding)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings of this thread: damaged metadata is no news."""
    filters = cast(list[Any], warnings.filters)
    with _filter_lock:
        # Somebody may have put another filter before it, or taken it out.
        if not filters or filters[0] is not _QUIET_FILTER:
            with suppress(ValueError):
                filters.remove(_QUIET_FILTER)
            filters.insert(0, _QUIET_FILTER)
    _decoding.active = True
    try:
        yield
    finally:
        _decoding.active = False


@cache
def _libtiff() -> Any:
    """Pillow's libtiff, or None where its functions can't be called."""
    try:
        # A symbol is looked up in the libraries that a module is linked to as well.
        library = ctypes.CDLL(cast(Any, Image.core).__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.restype, function.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
        library.TIFFIsCODECConfigured.argtypes = (ctypes.c_uint16,)
    # On Windows libtiff is a part of Pillow's module and not to be seen.
    except (AttributeError, OSError):
        return None
    return library


def has_tiff_codec(compression: int) -> bool:
    """Whether Pillow's libtiff was built with a codec; without a way to ask, True."""
    library = _libtiff()
    return library is None or bool(library.TIFFIsCODECConfigured(compression))


class _Handlers:
    """How often libtiff is to be quiet now, and what it would call else."""

    users = 0
    error: int | None = None
    warning: int | None = None


_handlers = _Handlers()
_handlers_lock = threading.Lock()


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Keep libtiff from writing to the terminal, in all threads while one decodes."""
    library = _libtiff()
    if library is None:
        yield
        return
    with _handlers_lock:
        if not _handlers.users:
            _handlers.error = library.TIFFSetErrorHandler(None)
            _handlers.warning = library.TIFFSetWarningHandler(None)
        _handlers.users += 1
    try:
        yield
    finally:
        with _handlers_lock:
            _handlers.users -= 1
            if not _handlers.users:
                library.TIFFSetErrorHandler(_handlers.error)
                library.TIFFSetWarningHandler(_handlers.warning)


_stderr_lock = threading.Lock()


@contextmanager
def quiet_stderr(start: bytes) -> Iterator[None]:
    """Keep lines that start so from the terminal; others come a little later.

    For libraries that know no other way, one call at a time.
    """
    with _stderr_lock, tempfile.TemporaryFile() as kept:
        try:
            terminal = os.dup(2)
        # There is none.
        except OSError:
            yield
            return
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            lines = (line for line in kept if not line.startswith(start))
            with suppress(OSError):
                os.write(2, b"".join(lines))
