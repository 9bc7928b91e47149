"""Uploads, streamed into their file: never in memory, copied, or inside a transaction."""

import errno
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO
from urllib.parse import unquote

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from backend.accounts.dependencies import identify
from backend.core import file_kinds
from backend.core.errors import DiskFull, Invalid
from backend.core.storage import Storage
from backend.web.access import check
from backend.web.cross_origin import refuse_foreign

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_FIELD = 10_000
ZIP_START = b"PK"
MOST_PARTS = 50
EXTENDED_NAME = re.compile(r"filename\*\s*=\s*utf-8'[\w-]*'(?P<name>[^;\s]+)", re.IGNORECASE)


@dataclass
class UploadedForm:
    """A form's fields as text, and its file, if any."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    file_name: str = ""
    kept: bool = False

    def add(self, name: str, value: str) -> None:
        """Add a field. Raises Invalid if it is there."""
        if name in self.fields:
            raise Invalid(f"The field “{name[:40]}” came twice. Send it once.")
        self.fields[name] = value

    def keep(self) -> Path | None:
        """Keep the file if the request succeeds, and return it."""
        self.kept = True
        return self.file


def check_zip(upload: Path) -> None:
    """Raise Invalid for an upload that is empty or not a zip archive."""
    with upload.open("rb") as file:
        start = file.read(file_kinds.MOST_BYTES)
    # The import reports any other fault; here it would leave an unwanted data set.
    if not start:
        raise Invalid(
            "This file is empty (zero bytes). Choose the zip again; "
            "perhaps it was still being written."
        )
    # A self-extracting archive begins with a program, and ends as every zip does.
    if not start.startswith(ZIP_START) and not zipfile.is_zipfile(upload):
        raise Invalid(
            f"{file_kinds.not_a_zip(start)} Put the class folders into a zip, and choose that."
        )


async def receive(request: Request) -> AsyncIterator[UploadedForm]:
    """Read the form if the user may import; delete its file if the request fails."""
    await _check(request)
    form = UploadedForm()
    try:
        if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
            await _stream(request, form)
        else:
            for name, value in (await request.form()).multi_items():
                if isinstance(value, str):
                    form.add(name, value)
        yield form
    except BaseException:
        form.kept = False
        raise
    finally:
        if form.file is not None and not form.kept:
            request.app.state.storage.discard(form.file)


async def _check(request: Request) -> None:
    who = await identify(request)
    if who.by_cookie:
        refuse_foreign(request)
    check(who.user, "import")


async def _stream(request: Request, form: UploadedForm) -> None:
    _, options = parse_options_header(request.headers["Content-Type"])
    reader = _Reader(form, request.app.state.storage)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        async for chunk in request.stream():
            await run_in_threadpool(parser.write, chunk)
    except (FormParserError, KeyError) as error:
        raise Invalid(
            "The upload is not a form as browsers and curl -F send it. "
            "Send the archive in the field “file”."
        ) from error
    except ClientDisconnect:
        pass  # reported below
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from error
        raise
    finally:
        reader.close()
    if not reader.complete:
        raise Invalid("The upload broke off before its end. Send it again.")


class _Reader:
    """Receiver of the parser's parts: fields into the form, the first file to disk."""

    def __init__(self, form: UploadedForm, storage: Storage) -> None:
        self.complete = False
        self._form = form
        self._storage = storage
        self._target: BinaryIO | None = None
        self._parts = 0

    def callbacks(self) -> "MultipartCallbacks":
        """Return callbacks by the parser's names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._content,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        if self._target is not None:
            self._target.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Invalid(
                f"This form has more than {MOST_PARTS} fields. Send one archive, not single files."
            )
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _begin_content(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        self._field = _text(options.get(b"name", b""))
        self._text = b""
        file_name = _extended_name(disposition) or _text(options.get(b"filename", b""))
        self._is_file = bool(file_name)
        if not self._is_file:
            return
        if self._form.file is not None:
            raise Invalid("Send one archive at a time.")
        self._form.file_name = file_name
        self._form.file = self._storage.new_upload(".zip")
        self._target = self._storage.open_upload(self._form.file)

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._is_file and self._target is not None:
            self._target.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LONGEST_FIELD:
            raise Invalid(
                f"The field “{self._field[:40]}” is longer than {LONGEST_FIELD:,} bytes. "
                "The archive belongs into the field “file”."
            )

    def _end(self) -> None:
        if self._is_file and self._target is not None:
            self._target.close()
        else:
            self._form.add(self._field, _text(self._text))

    def _finish(self) -> None:
        self.complete = True


def _extended_name(disposition: bytes) -> str:
    """Return the file name that UTF-8''caf%C3%A9.zip encodes (RFC 5987), or nothing."""
    found = EXTENDED_NAME.search(_text(disposition))
    return unquote(found["name"], encoding="utf-8", errors="replace") if found else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


UploadDep = Annotated[UploadedForm, Depends(receive, scope="function")]
