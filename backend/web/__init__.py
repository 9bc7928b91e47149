"""HTTP concerns of every feature."""
