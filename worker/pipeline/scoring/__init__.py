"""Scorings: scores, averages, costs, similarity and explanations."""
