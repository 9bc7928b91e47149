"""Kinds of files that people take for a zip archive, told by their first bytes."""

MOST_BYTES = 512  # a tar archive shows itself at byte 257

_STARTS = (
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip file (such as .tar.gz)"),
    (b"BZh", "a bzip2 file (such as .tar.bz2)"),
    (b"\xfd7zXZ\x00", "an xz file (such as .tar.xz)"),
    (b"(\xb5/\xfd", "a Zstandard file (such as .tar.zst)"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF document"),
)


def kind_of(start: bytes) -> str | None:
    """Name a file's kind. start: its first MOST_BYTES bytes."""
    if start[257:262] == b"ustar":
        return "a tar archive"
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps saved in place of the archive"
    return next((kind for sign, kind in _STARTS if start.startswith(sign)), None)


def not_a_zip(start: bytes) -> str:
    """Say what a file is instead of a zip archive. start: its first MOST_BYTES bytes."""
    kind = kind_of(start)
    return f"This is {kind}, not a zip archive." if kind else "This is not a zip archive."
