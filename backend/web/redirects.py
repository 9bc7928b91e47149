"""Follow only our own paths from addresses such as `next`."""

from urllib.parse import urlencode, urlsplit


def own_path(address: str, otherwise: str) -> str:
    """Return the address if it is our path, else the other.

    "//host" and "/\\host" name other hosts to a browser.
    """
    printable = address.isascii() and address.isprintable()
    ours = printable and address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if ours else otherwise


def login_address(come_back_to: str) -> str:
    back = own_path(come_back_to, "")
    return f"/login?{urlencode({'next': back})}" if back else "/login"


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
