"""Trajectories: files, the step store and recorded training dynamics."""
