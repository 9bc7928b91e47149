"""Requests below HTTP: a body that comes in pieces, slowly, or not to its end."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI


@dataclass
class Answer:
    status: int
    body: bytes
    pieces_read: int


def send_in_pieces(
    app: FastAPI,
    path: str,
    headers: Mapping[str, str],
    pieces: Iterable[bytes],
    between: Callable[[int], None] = lambda _: None,
    *,
    cut: bool = False,
) -> Answer:
    """POST a body in pieces, calling `between(number)` before each; `cut`: then disconnect."""
    sent: list[dict[str, Any]] = []
    waiting = list(pieces)
    total = len(waiting)

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        between(total - len(waiting))
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting) or cut}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    asyncio.run(app(scope, receive, send))
    status = next(
        (message["status"] for message in sent if message["type"] == "http.response.start"), 0
    )
    return Answer(
        status, b"".join(message.get("body", b"") for message in sent), total - len(waiting)
    )


def form(*parts: tuple[str, str | None, bytes], boundary: str = "xyz") -> bytes:
    """A multipart body of (name, file name or None, content)."""
    body = b""
    for name, file_name, content in parts:
        file = f'; filename="{file_name}"' if file_name is not None else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
            + content
            + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode()
