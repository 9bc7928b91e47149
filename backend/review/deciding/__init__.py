"""Decisions: recording, undoing, second opinions and history."""
