"""Explanations, maps, wording and stop advice of a review."""
