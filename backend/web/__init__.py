"""HTTP concerns that every feature uses."""
