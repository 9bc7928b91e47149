"""Imports: from an upload or a folder to rows and pixels."""
