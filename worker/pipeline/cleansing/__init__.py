"""Retraining in arms, and the verdict."""
