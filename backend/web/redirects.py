"""Follow only our own paths from addresses such as `next`."""

from urllib.parse import quote, urlencode, urlsplit

from fastapi import Request


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
    """Return the path and query of an address that anybody may have written, or ""."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def query_of(url: str) -> str:
    """Return the query of an address that anybody may have written, or ""."""
    return path_of(url).partition("?")[2]


def path_asked(request: Request) -> str:
    """Return the request's path and query; its Host header may be no host at all."""
    path, query = quote(request.scope["path"]), request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
