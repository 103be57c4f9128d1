"""Tells what a file is by how it starts, whatever its name ends in."""

from __future__ import annotations

import re

__all__ = [
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "describe_stranger",
    "identify",
    "is_system_file",
]

HEAD_BYTES = 512
"""Bytes at the start of a file that tell its kind."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"),
    *(".mpo", ".jp2", ".j2k", ".jxl"),
    # Camera RAW.
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"),
)
"""Ends of the names of files that are taken for images without a look inside, in
lower case; case doesn't count."""

# How a file starts, and what it is then.
_KINDS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS\0\1", "PSD"),
    (b"qoif", "QOI"),
    (b"\x01\xda\0\1", "SGI"),
    (b"\x01\xda\0\2", "SGI"),
    (b"\x01\xda\1\1", "SGI"),
    (b"\x01\xda\1\2", "SGI"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),
    (b"II\x1a\0\0\0HEAPCCDR", "RAW"),
    (b"\0MRM", "RAW"),
    (b"FOVb", "RAW"),
)
_PNM = re.compile(rb"P(?:[1-6]|[fF])(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+\s")
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)

_HEIF_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"mif2", b"msf1", b"miaf", b"jpeg", b"avci"),
}
_AVIF_BRANDS = {b"avif", b"avis"}

# The same for what is never read.
_VIDEO = "a video, not an image"
_SOUND = "a sound recording, not an image"
_ARCHIVE = "an archive; unpack it"
_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run git lfs pull"),
    (b"%PDF", "a PDF, not an image"),
    (b"%!PS", "PostScript, not an image of pixels"),
    (b"\xc5\xd0\xd3\xc6", "PostScript, not an image of pixels"),
    (b"<", "text such as HTML, SVG or AAE, not an image"),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"\0\0\1\xba", _VIDEO),
    (b"\0\0\1\xb3", _VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", _VIDEO),
    (b"FLV\1", _VIDEO),
    (b"OggS", _SOUND),
    (b"ID3", _SOUND),
    (b"fLaC", _SOUND),
    (b"PK\3\4", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"Rar!", _ARCHIVE),
    (b"\x1f\x8b", _ARCHIVE),
    (b"BZh", _ARCHIVE),
    (b"\xfd7zXZ", _ARCHIVE),
    (b"v/1\1", "an OpenEXR image, a format that isn't read; convert it to PNG"),
    (b"#?RADIANCE", "a Radiance image, a format that isn't read; convert it to PNG"),
    (b"II\xbc", "a JPEG XR image, a format that isn't read; convert it to JPEG"),
    (b"DDS ", "a DDS texture, a format that isn't read; convert it to PNG"),
    (b"gimp xcf", "a GIMP picture, a format that isn't read; export it as PNG"),
    (b"\0\0\1\0", "an icon, a format that isn't read; convert it to PNG"),
    (b"\0\0\2\0", "a cursor, not a photograph"),
    (b"icns", "an icon, a format that isn't read; convert it to PNG"),
    (b"SIMPLE  =", "a FITS image, a format that isn't read; convert it to TIFF"),
    (b"SQLite format 3", "a database, not an image"),
)
_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

# Written by systems and viewers into folders of pictures; nobody's photographs.
_SYSTEM_FILES = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini"),
    *("icon\r", "albumart_small.jpg"),
}
_SYSTEM_FOLDERS = {
    *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    "system volume information",
}


def is_system_file(name: str, *, folder: bool = False) -> bool:
    """Whether a name is hidden, or one that systems leave in folders of pictures."""
    known = _SYSTEM_FOLDERS if folder else _SYSTEM_FILES
    return name.startswith(".") or name.lower() in known


def _identify_box(head: bytes) -> str:
    """Name the kind of a file that starts with a box of brands."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if head[8:11] == b"crx":
        return "RAW"
    if head[8:12] in _AVIF_BRANDS:
        return "AVIF"
    if head[8:12] in _HEIF_BRANDS:
        # "mif1" says no more than that there is a picture.
        return "AVIF" if brands & _AVIF_BRANDS and head[8:9] != b"h" else "HEIC"
    return ""


def _is_bmp(head: bytes) -> bool:
    """Whether the header is that of a BMP; plain text may start with BM too."""
    if len(head) < 18:
        return head.startswith(b"BM")
    size = int.from_bytes(head[14:18], "little")
    return head.startswith(b"BM") and size in _BMP_HEADER_SIZES


def _is_targa(head: bytes) -> bool:
    """Whether a header has the values of a TGA, which has no magic number."""
    if len(head) < 18 or head[1] > 1 or head[2] not in (1, 2, 3, 9, 10, 11):
        return False
    mapped = head[2] in (1, 9)
    width, height = head[12] | head[13] << 8, head[14] | head[15] << 8
    depths = {1: (8,), 2: (15, 16, 24, 32), 3: (8, 16)}[head[2] & 7]
    return (
        mapped == bool(head[1])
        and (mapped or not any(head[3:8]))
        and min(width, height) > 0
        and head[16] in depths
        and head[17] & 0xC0 == 0
    )


def identify(head: bytes) -> str:
    """Name the format that a file starts like.

    Args:
      head: The first ``HEAD_BYTES`` of the file, or all of it.

    Returns:
      Such as ``"JPEG"``, or an empty string for what is no image that can be read.
      Camera RAW that looks like a TIFF from outside is ``"TIFF"``.

    Example:
      >>> identify(b"GIF89a")
      'GIF'
    """
    if head[:4] == b"RIFF":
        return "WebP" if head[8:12] == b"WEBP" else ""
    if head[4:8] == b"ftyp":
        return _identify_box(head)
    known = next((name for start, name in _KINDS if head.startswith(start)), "")
    if known == "TIFF" and head[8:10] == b"CR" and head[:2] == b"II":
        return "RAW"
    if known:
        return known
    if _is_bmp(head):
        return "BMP"
    if _PNM.match(head):
        return "PNM"
    return "TGA" if _is_targa(head) else ""


def describe_stranger(head: bytes) -> str:
    """Say what a file is that is none of the formats."""
    if head[4:8] == b"ftyp" or head[4:8] in _ATOMS:
        return _SOUND if head[8:11] == b"M4A" else _VIDEO
    if head[:4] == b"RIFF":
        return _SOUND if head[8:12] == b"WAVE" else _VIDEO
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.strip(b"\0"):
        return "nothing but zeros or blanks, not an image"
    for begins, text in _STRANGERS:
        if start.startswith(begins) or head.startswith(begins):
            return text
    return "not an image of a known format"
