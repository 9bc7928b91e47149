"""Refuse requests that pages of another origin made the browser send."""

from urllib.parse import urlsplit

from fastapi import Request

from backend.core.errors import Forbidden

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def refuse_foreign(request: Request) -> None:
    """Refuse requests from pages of another origin. Raises Forbidden."""
    site = request.headers.get("Sec-Fetch-Site")
    # Missing over plain HTTP, except on this machine; there Origin decides.
    ours = _from_our_origin(request) if site is None else site in ("same-origin", "none")
    if not ours:
        raise Forbidden("This request did not come from a page of Winnow. Programs use a token.")


def _from_our_origin(request: Request) -> bool:
    public = urlsplit(request.app.state.settings.public_url)
    netloc = public.netloc.lower().removesuffix(DEFAULT_PORTS.get(public.scheme, ""))
    asked = (request.scope["scheme"], request.headers.get("Host", ""))
    origins = {f"{scheme}://{host}" for scheme, host in (asked, (public.scheme, netloc)) if host}
    return request.headers.get("Origin") in origins
