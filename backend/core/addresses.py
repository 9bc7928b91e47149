"""Addresses of the settings: checked at the start, and given their passwords."""

from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

UNREADABLE = (
    "it cannot be read. A password that holds /, @, :, ?, # or % must not stand in it: put it into "
    "WINNOW_{name}_PASSWORD, or write it percent-encoded (@ is %40)"
)


def check_database(address: str) -> str:
    """Return the address. Raises ValueError with a sentence."""
    if not address or address.startswith("sqlite://"):
        return address
    if not address.startswith("postgresql+psycopg://"):
        raise ValueError("it must begin with postgresql+psycopg:// or sqlite://")
    url = _read_database(address)
    # SQLAlchemy ends a password at the first "@".
    if url is None or "@" in (url.host or "") or not (url.host or "host" in url.query):
        raise ValueError(UNREADABLE.format(name="DATABASE"))
    return address


def check_broker(address: str) -> str:
    """Return the address, or addresses with ";" between them. Raises ValueError with a sentence."""
    for part in address.split(";") if address else ():
        scheme, _, _ = part.partition("://")
        if scheme not in ("redis", "rediss", "redis+socket", "sentinel"):
            raise ValueError("it must begin with redis:// or rediss://")
        read = _split(part)
        if scheme != "redis+socket" and (read is None or not read.hostname):
            raise ValueError(UNREADABLE.format(name="BROKER"))
    return address


def check_public(address: str) -> str:
    """Return the address without a final slash. Raises ValueError with a sentence."""
    if not address:
        return address
    example = "write it like https://winnow.example.org"
    read = _split(address)
    if read is None or read.scheme not in ("http", "https") or not read.hostname:
        raise ValueError(f"this is no address of a web site; {example}")
    if read.path.strip("/") or read.query or read.fragment or "@" in read.netloc:
        raise ValueError(
            "Winnow cannot live below a path such as /winnow/, because its pages link from the "
            f"root. Give it a host name or a port of its own, and {example}"
        )
    return address.rstrip("/")


def database_with(password: str, address: str) -> str:
    """Put the password into an address that has none."""
    url = _read_database(address)
    if not password or url is None or url.password is not None or not url.host:
        return address
    return url.set(password=password).render_as_string(hide_password=False)


def broker_with(password: str, address: str) -> str:
    """Put the password into each address that has none, percent-encoded."""
    return ";".join(_with(password, part) for part in address.split(";"))


def _with(password: str, address: str) -> str:
    read = _split(address)
    if not password or read is None or read.password is not None or not read.hostname:
        return address
    user, _, host = read.netloc.rpartition("@")
    login = f"{user.rstrip(':')}:{quote(password, safe='')}"
    return urlunsplit(read._replace(netloc=f"{login}@{host}"))


def _read_database(address: str) -> URL | None:
    try:
        return make_url(address)
    except (ArgumentError, ValueError):
        return None


def _split(address: str) -> SplitResult | None:
    try:
        read = urlsplit(address)
        _ = read.port  # raises ValueError unless it is a number
    except ValueError:
        return None
    return read
