"""Cleansings: retraining in arms, and the verdict."""
