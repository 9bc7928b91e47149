"""Training: the loop, resuming, defaults and checks."""
