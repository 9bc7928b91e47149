"""Replay, explanations and leaving images out."""
