"""Validation errors in plain words: pydantic's are for programmers."""

from collections.abc import Mapping, Sequence
from typing import Any

# Pydantic's error type → words behind the field's name.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field here",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be a text",
    "string_unicode": "must be a text, and holds half of a character",
    "list_type": "must be a list",
    "model_type": "must be an object with fields",
    "model_attributes_type": "must be an object with fields",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}


def wrong(detail: Mapping[str, Any]) -> str:
    """Return the words for a pydantic error, or its own message."""
    words = WORDS.get(detail["type"])
    return words.format(**detail.get("ctx", {})) if words else str(detail["msg"])


def unknown(names: Sequence[str]) -> str:
    """Return the words for an unknown query parameter. names: the known names."""
    those = f"{'are' if len(names) != 1 else 'is'} {', '.join(names) or 'none here'}"
    return f"there is no such parameter; there {those}"
