"""What an import is made from: files of a zip or a folder, and the images found among them."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from worker.pipeline.imports.messages import Payload

LONGEST_CLASS_NAME = 300
LONG_NAME = f"its class name is longer than {LONGEST_CLASS_NAME} characters"
# The names that people give to splits.
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
# Larger files are refused: one would fill the memory before its header could be judged.
MOST_BYTES_A_FILE = 256 * 2**20
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# What operating systems leave behind; hidden files (a leading dot) are passed over as well.
JUNK = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"))
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ABSOLUTE = re.compile(r"/|[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class File:
    """A file to look at: its folders and name, its bytes, and whatever its source needs to read it."""

    parts: tuple[str, ...]
    size: int
    key: Any

    @property
    def path(self) -> str:
        """For people, and to sort by."""
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        """Lower case, with its dot; empty without one."""
        _, dot, suffix = self.parts[-1].rpartition(".")
        return f".{suffix.lower()}" if dot else ""


@dataclass
class Refusals:
    """Files that are not imported, each with its reason."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        """Note one."""
        self.rows.append((path, reason))


@dataclass
class Files:
    """The files of a source in order of their paths, the folders (empty ones too), and the way to read one. `what` names it in sentences."""

    what: str
    files: list[File]
    folders: set[tuple[str, ...]]
    read: Callable[[File], Payload]  # what a child needs: a path, or the bytes; raises Refused
    open: Callable[[File], BinaryIO]  # raises Refused
    refusals: Refusals


@dataclass(slots=True)
class Entry:
    """An image to import. `split` is None where it is to be drawn; `true_label` is set where `label` was made wrong on purpose."""

    path: str
    label: str
    split: str | None
    size: int
    key: Any
    true_label: str | None = None


@dataclass
class Found:
    """The images of a source in the order of their future rows, and how to read them. `given` are the splits that the source names."""

    entries: list[Entry]
    read: Callable[[Entry], Payload]
    refusals: Refusals
    given: frozenset[str] = frozenset()
    class_names: tuple[str, ...] = ()  # that the source names, with or without images
    split_words: str = ""  # where its splits come from; made up from `given` if left out
    sizes: frozenset[tuple[int, int]] = (
        frozenset()
    )  # (height, width) of all of its images, if they are grey and that is known beforehand
    bad_rows: list[tuple[str, str]] | None = (
        None  # of a manifest, each with its reason; None where there is none
    )


def cleaned(name: str) -> str:
    """A name as text that every database takes: composed characters (macOS writes them apart), undecodable bytes and control characters replaced."""
    return unicodedata.normalize("NFC", CONTROL.sub("\N{REPLACEMENT CHARACTER}", name))


def is_junk(parts: tuple[str, ...]) -> bool:
    """Whether an operating system left this there, and nobody wants to hear of it."""
    return any((part.startswith(".") and part != "..") or part.lower() in JUNK for part in parts)


def why_unsafe(name: str) -> str | None:
    """What is wrong with a name that must stay inside its archive; None where nothing is."""
    if "\\" in name:
        return "its name has a backslash; folders are separated by / in a zip"
    if ABSOLUTE.match(name):
        return "its name is an absolute path"
    if ".." in name.split("/"):
        return "its name leads out of the archive (..)"
    return None


def why_no_image(file: File) -> str | None:
    """Why a file need not even be opened; None where it may be an image. Its bytes decide then, whatever its name says."""
    name = file.parts[-1].lower()
    if name.endswith(ARCHIVE_SUFFIXES):
        return "an archive inside the import is not opened; unpack it first"
    if file.size > MOST_BYTES_A_FILE:
        return f"{file.size:,} bytes are more than the limit of {MOST_BYTES_A_FILE:,} for one file"
    return None


def natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key: digit 2 before digit 10, upper and lower case together."""
    pieces = [
        (not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece)
        for piece in re.split(r"([0-9]+)", name.casefold())
        if piece
    ]
    return pieces, name
