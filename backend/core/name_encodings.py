"""Encodings of names in archives and of tables, which carry no sign of theirs."""

from typing import Literal

NameEncoding = Literal[
    "utf-8", "gbk", "big5", "cp932", "cp949", "cp866", "cp1251", "cp1252", "cp850", "cp437"
]

# The largest relative of each, as Python calls it.
CODECS: dict[str, str] = {"gbk": "gb18030", "big5": "big5hkscs"}

TITLES: dict[NameEncoding, str] = {
    "utf-8": "UTF-8",
    "gbk": "GBK (simplified Chinese)",
    "big5": "Big5 (traditional Chinese)",
    "cp932": "CP932 (Japanese)",
    "cp949": "CP949 (Korean)",
    "cp866": "CP866 (Cyrillic, DOS)",
    "cp1251": "CP1251 (Cyrillic, Windows)",
    "cp1252": "CP1252 (Western Europe, Windows)",
    "cp850": "CP850 (Western Europe, DOS)",
    "cp437": "CP437 (the standard of zip)",
}


def codec(encoding: str) -> str:
    return CODECS.get(encoding, encoding)


def short_title(encoding: str) -> str:
    """Return the name that sentences use, such as GBK."""
    return encoding.upper() if encoding != "big5" else "Big5"
