"""Trajectories and training dynamics on disk."""
