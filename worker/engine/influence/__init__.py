"""Influence beyond a score: replay, explanations and leaving images out."""
