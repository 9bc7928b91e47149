"""`python -m backend.cli` is `winnow`."""

from backend.cli import app

app()
