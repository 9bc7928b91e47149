"""Recognise the encoding of names and tables that carry no sign of it."""

import unicodedata
from itertools import pairwise

from backend.core.name_encodings import codec

# Codecs that chardet tells apart, and the encoding that each stands for.
RECOGNISED = {
    "gb18030": "gbk",
    "big5hkscs": "big5",
    "cp932": "cp932",
    "shift_jis_2004": "cp932",
    "cp949": "cp949",
    "euc_kr": "cp949",
    "cp866": "cp866",
    "cp1251": "cp1251",
    "cp1252": "cp1252",
    "cp850": "cp850",
    "cp437": "cp437",
}
# Alike to chardet in a few letters. The standard of zip comes first.
LATIN = ("cp437", "cp850", "cp1252")
MOST_BYTES = 100_000


def recognise(text: bytes) -> str | None:
    """Return the encoding of a text that is neither ASCII nor UTF-8, or None."""
    import chardet  # slow

    sample = text[:MOST_BYTES]
    for answer in chardet.detect_all(sample, ignore_threshold=True, compat_names=False):
        encoding = RECOGNISED.get((answer["encoding"] or "").lower())
        if encoding in LATIN:
            return _latin(sample)
        if encoding is not None and _is_text(sample, encoding):
            return encoding
    return None


def _latin(text: bytes) -> str | None:
    """Choose the code page in which most bytes beyond ASCII are Latin letters."""
    letters = {encoding: _fitting_letters(text.decode(encoding, "replace")) for encoding in LATIN}
    best = max(LATIN, key=lambda encoding: letters[encoding])
    return best if letters[best] else None


def _fitting_letters(text: str) -> int:
    """Count Latin letters beyond ASCII, but no capital within a word."""
    return sum(
        unicodedata.name(sign, "").startswith("LATIN") and not (sign.isupper() and before.islower())
        for before, sign in pairwise(f" {text}")
        if not sign.isascii()
    )


def _is_text(text: bytes, encoding: str) -> bool:
    """Return False where the text has bytes or signs that no writer of it uses."""
    decoded = text.decode(
        codec(encoding), errors="ignore" if len(text) == MOST_BYTES else "replace"
    )
    return not any(
        sign == "\ufffd" or unicodedata.category(sign) in ("Cn", "Co", "Cs")
        for sign in decoded
        if not sign.isascii()
    )
