"""Files of a zip or a folder, and the images among them."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from worker.pipeline.imports.messages import Payload

# Writes a large file of an archive into another, calling the second argument now and then.
Copy = Callable[[BinaryIO, Callable[[], None]], None]

LONGEST_CLASS_NAME = 300
LONG_NAME = f"its class name is longer than {LONGEST_CLASS_NAME} characters"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# A larger file of an archive is copied to the disk for its decoder.
LARGE = 4 << 20
MOST_BYTES_A_FILE = 256 * 2**20
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# Names that operating systems and programs leave behind, in lower case.
JUNK = frozenset(
    (
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__pycache__",
        ".ds_store",
        ".localized",
        ".appledouble",
        ".lsoverride",
        ".fseventsd",
        ".spotlight-v100",
        ".trashes",
        ".temporaryitems",
        ".documentrevisions-v100",
        ".volumeicon.icns",
        ".directory",
        ".nomedia",
        ".picasa.ini",
        ".git",
        ".gitignore",
        ".gitattributes",
        ".gitkeep",
        ".gitmodules",
        ".svn",
        ".hg",
        ".dvc",
        ".dvcignore",
        ".ipynb_checkpoints",
        ".idea",
        ".vscode",
        ".thumbnails",
    )
)
JUNK_STARTS = ("._", ".trash-", ".nfs", ".~lock.")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


@dataclass(frozen=True, slots=True)
class File:
    """A file: folders and name, size in bytes, and what its source needs to read it."""

    parts: tuple[str, ...]
    size: int
    key: Any

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        _, dot, suffix = self.parts[-1].rpartition(".")
        return f".{suffix.lower()}" if dot else ""


@dataclass
class Refusals:
    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        self.rows.append((path, reason))


@dataclass
class Files:
    """Files of a source by path, its folders, and how to read a file.

    what: the source's noun in sentences. notes: what a person should know about the listing.
    roots: absolute paths of a folder, each ending in /. names_encoding: that of a zip's names
    without a sign of theirs. tick: called now and then; stops a job that is cancelled.
    """

    what: str
    files: list[File]
    folders: set[tuple[str, ...]]
    read: Callable[[File], Payload | Copy]  # a child's input; raises Refused
    open: Callable[[File], BinaryIO]  # raises Refused
    refusals: Refusals
    notes: list[str] = field(default_factory=list)
    roots: tuple[str, ...] = ()
    names_encoding: str | None = None
    tick: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Entry:
    """An image to import. true_label: set if `label` is wrong on purpose."""

    path: str
    label: str
    split: str | None
    size: int
    key: Any
    true_label: str | None = None


@dataclass
class Found:
    """Images of a source, in the order of their future rows.

    given: the source's splits. class_names: its classes, even without images.
    split_words: origin of the splits. sizes: (height, width) of all images, if known to be grey.
    bad_rows: refused rows of a manifest, with reasons. understood: the reading of the source.
    notes: what a person should know about it. names_encoding: that of names without a sign.
    columns: columns of a table → what was read from them.
    """

    entries: list[Entry]
    read: Callable[[Entry], Payload | Copy]
    refusals: Refusals
    given: frozenset[str] = frozenset()
    class_names: tuple[str, ...] = ()
    split_words: str = ""
    sizes: frozenset[tuple[int, int]] = frozenset()
    bad_rows: list[tuple[str, str]] | None = None
    understood: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names_encoding: str | None = None
    columns: dict[str, str] = field(default_factory=dict)


def cleaned(name: str) -> str:
    """Clean a name for any database; macOS writes accents apart."""
    if name.isascii() and name.isprintable():
        return name
    return unicodedata.normalize("NFC", CONTROL.sub("\N{REPLACEMENT CHARACTER}", name))


def is_junk(parts: tuple[str, ...]) -> bool:
    """Recognize files that nobody misses, by a name on their path."""
    names = (part.lower() for part in parts)
    return any(name in JUNK or name.startswith(JUNK_STARTS) for name in names)


def without_hidden(files: list[File]) -> tuple[list[File], list[str]]:
    """Leave out hidden files, with a note; hidden folders are folders like any other."""
    kept = [file for file in files if not file.parts[-1].startswith(".")]
    count = len(files) - len(kept)
    if not count:
        return kept, []
    example = next(file.path for file in files if file.parts[-1].startswith("."))
    were = "1 hidden file was" if count == 1 else f"{count:,} hidden files were"
    return kept, [f"{were} passed over, for example “{example[:200]}”."]


def why_unsafe(name: str) -> str | None:
    """Return the reason why a name could leave its archive, or None."""
    if "\\" in name:
        return "its name has a backslash; folders are separated by / in a zip"
    if ABSOLUTE.match(name):
        return "its name is an absolute path"
    if ".." in name.split("/"):
        return "its name leads out of the archive (..)"
    return None


def why_no_image(file: File) -> str | None:
    """Return the reason not to open a file, or None if its bytes must decide."""
    name = file.parts[-1].lower()
    if name.endswith(ARCHIVE_SUFFIXES):
        return "an archive inside the import is not opened; unpack it first"
    if file.size > MOST_BYTES_A_FILE:
        return f"{file.size:,} bytes are more than the limit of {MOST_BYTES_A_FILE:,} for one file"
    return None


def natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key: 2 before 10, ignoring case."""
    pieces = [
        (not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece)
        for piece in re.split(r"([0-9]+)", name.casefold())
        if piece
    ]
    return pieces, name
