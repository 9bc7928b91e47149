"""What people call things."""

import unicodedata


def tidy(name: str) -> str:
    """The name on one line: without control characters and broken surrogates, which databases refuse, and with single spaces."""
    return " ".join(
        "".join(
            " " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in name
        ).split()
    )
