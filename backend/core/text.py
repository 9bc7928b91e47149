"""Names that users give."""

import unicodedata


def tidy(name: str) -> str:
    """Put a name on one line, without the characters that databases refuse."""
    return " ".join(
        "".join(
            " " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in name
        ).split()
    )
