"""Explanations, maps, wording and stop advice for a review."""
