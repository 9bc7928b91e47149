"""The refusal of a file."""


class Refused(Exception):
    """A file that cannot be used; the message is the reason."""
