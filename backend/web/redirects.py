"""Addresses that come in from outside, such as a form's `origin` or a link's `next`: only paths of our own are followed."""

from urllib.parse import urlencode, urlsplit


def own_path(address: str, otherwise: str) -> str:
    """The path and query of the address if it is one of ours, else the other one. "//host" and "/\\host" are other hosts to a browser."""
    printable = address.isascii() and address.isprintable()
    ours = printable and address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if ours else otherwise


def login_address(come_back_to: str) -> str:
    """Where one signs in, to come back afterwards."""
    back = own_path(come_back_to, "")
    return f"/login?{urlencode({'next': back})}" if back else "/login"


def path_of(url: str) -> str:
    """Path and query of a whole address, as a browser names the page that it shows."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
