"""Plain requests to the REST API, without our own client."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

Json = dict[str, Any]
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 240


class Api:
    """A program with a token, which checks every answer's status."""

    def __init__(self, address: str, token: str) -> None:
        self.http = httpx2.Client(
            base_url=f"{address}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def send(self, method: str, path: str, *, status: int = 200, **options: Any) -> httpx2.Response:
        answer = self.http.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def get(self, path: str, *, status: int = 200, **query: Any) -> Any:
        return self.send("GET", path, status=status, params=query).json()

    def post(self, path: str, body: Json | None = None, *, status: int = 200) -> Json:
        return dict(self.send("POST", path, status=status, json=body or {}).json())

    def upload(self, path: str, file: Path, **fields: str) -> Json:
        """POST a file as a form does."""
        with file.open("rb") as content:
            form = {"file": (file.name, content, "application/zip")}
            return dict(self.send("POST", path, status=202, files=form, data=fields).json())

    def watch(self, job_id: int) -> Iterator[Json]:
        """Yield the job's state again and again, until it has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            job = self.get(f"/jobs/{job_id}")
            yield job
            if job["state"] not in ("queued", "running"):
                return
            assert time.monotonic() < deadline, f"job {job_id} does not end: {job}"
            time.sleep(POLL_SECONDS)

    def follow(self, job: Json) -> Json:
        """Wait until the job is done."""
        (last,) = list(self.watch(job["id"]))[-1:]
        assert last["state"] == "done", last["error"]
        return last

    def pages(self, path: str, **query: Any) -> list[list[Json]]:
        """Yield all items of a list, page by page."""
        pages: list[list[Json]] = []
        after = None
        while True:
            page = self.get(path, **query, **({"after": after} if after else {}))
            pages.append(page["items"])
            after = page["next"]
            if after is None:
                return pages
