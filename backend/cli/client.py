"""Client of a running Winnow's REST API."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from backend.core.errors import AppError

Json = dict[str, Any]
Progress = Callable[[Json], None]  # gets the job repeatedly until it ends

ENDED = ("done", "failed", "cancelled")
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 60.0  # for a web that is starting


class Refused(AppError):
    """A refusal of the API, with its sentence and status."""

    title = "The API refused"


class JobEnded(AppError):
    """A job failed or was cancelled; the message says why."""

    title = "The job did not finish"


class Client:
    """Sends requests with a token; retries for a minute. Raises Refused."""

    def __init__(self, address: str, token: str) -> None:
        self._http = httpx2.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Json:
        return self._send(
            "GET", path, params={name: value for name, value in query.items() if value is not None}
        )

    def post(self, path: str, body: Json | None = None) -> Json:
        """POST /api/v1<path>; retried if the connection breaks, so send a client key."""
        return self._send("POST", path, json=body or {})

    def upload(self, path: str, file: Path, fields: Json) -> Json:
        with file.open("rb") as content:
            form = {name: str(value) for name, value in fields.items()}
            return _answer(
                self._http.post(f"/api/v1{path}", files={"file": (file.name, content)}, data=form)
            )

    def pages(self, path: str, **query: Any) -> Iterator[Json]:
        """Yield every item of a list, page by page."""
        after: str | None = None
        while True:
            page = self.get(path, after=after, **query)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def follow(self, job_id: int, progress: Progress = lambda _: None) -> Json:
        """Wait for a job. Raises JobEnded with its sentence unless it is done."""
        while True:
            job = self.get(f"/jobs/{job_id}")
            progress(job)
            if job["state"] == "done":
                return job
            if job["state"] == "asking":
                raise JobEnded(f"{job['title']}: it asks a question. Answer it, then wait again.")
            if job["state"] in ENDED:
                raise JobEnded(f"{job['title']}: {job['error'] or 'it was cancelled.'}")
            time.sleep(POLL_SECONDS)

    def _send(self, method: str, path: str, **options: Any) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return _answer(self._http.request(method, f"/api/v1{path}", **options))
            except httpx2.TransportError as error:
                if time.monotonic() > deadline:
                    raise Refused(
                        f"Winnow does not answer at {self._http.base_url} ({error})."
                    ) from error
                time.sleep(POLL_SECONDS)


def _answer(response: httpx2.Response) -> Json:
    if response.is_success:
        answer: Json = response.json()
        return answer
    try:
        problem = response.json()
        sentence = problem.get("detail") or problem.get("title")
    except ValueError:
        sentence = None
    fallback = (
        f"{response.request.method} {response.request.url.path} answered {response.status_code}."
    )
    raise Refused(sentence or fallback, response.status_code)
