"""A page of another origin in the browser of a signed-in owner: it changes nothing."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, expect
from sqlalchemy import func, select

from backend.core.db import Database
from backend.core.models import Credential, DataSet, User
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import follow

pytestmark = pytest.mark.browser

# The same application by two addresses. Only to its own machine does a browser send Sec-Fetch-Site
# over plain HTTP; to any other name it sends Origin alone.
HOSTS = ["127.0.0.1", "winnow.test"]
# Both are of the same site, so that the browser sends the cookie along.
NEIGHBOURS = {"127.0.0.1": "127.0.0.1", "winnow.test": "other.winnow.test"}

FORM = """([address, fields, encoding]) => {
  const form = Object.assign(document.createElement("form"), { method: "post", action: address,
    enctype: encoding });
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  form.submit();
}"""
SCRIPTS = {
    "text": "body => body",
    "a form": "() => new URLSearchParams({ name: 'stolen', kind: 'sample' })",
    "an upload": """() => {
      const form = new FormData();
      form.append("kind", "upload");
      form.append("file", new File(["PK\\x03\\x04"], "a.zip"));
      return form;
    }""",
}


class Blank(BaseHTTPRequestHandler):
    """An empty page at every address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:><title>Foreign</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def foreign_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(params=HOSTS)
def address(request: pytest.FixtureRequest, live_server: str) -> str:
    return f"http://{request.param}:{urlsplit(live_server).port}"


@pytest.fixture
def owners_page(
    address: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> Page:
    page = open_page(address)
    follow(page, login_link(owner))
    expect(page).to_have_url(f"{address}/datasets")
    return page


@pytest.fixture
def foreign_page(owners_page: Page, address: str, foreign_port: int) -> Page:
    """A page of the same site and another origin, in the owner's browser."""
    page = owners_page.context.new_page()
    page.goto(f"http://{NEIGHBOURS[urlsplit(address).hostname or '']}:{foreign_port}/")
    return page


def rows(database: Database) -> dict[str, int]:
    """Data sets, and credentials by their kind, without used links."""
    with database.transaction(write=False) as session:
        unused = select(Credential.kind, func.count()).where(Credential.used_at.is_(None))
        kinds = session.execute(unused.group_by(Credential.kind)).all()
        data_sets = session.scalar(select(func.count()).select_from(DataSet)) or 0
    return {"data set": data_sets} | dict(kinds)


def submit(page: Page, address: str, fields: dict[str, str], encoding: str) -> Response:
    with page.expect_response(address) as answer:
        page.evaluate(FORM, [address, fields, encoding])
    page.wait_for_url(address)
    return answer.value


@pytest.mark.parametrize(
    "encoding", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
)
def test_a_foreign_form_is_refused(
    foreign_page: Page, address: str, database: Database, page_errors: PageErrors, encoding: str
) -> None:
    page_errors.expect("403")
    fields = {"name": "stolen", "kind": "sample"}
    foreign_address = foreign_page.url
    for path in ("/account/tokens", "/datasets", "/api/v1/tokens", "/logout"):
        foreign_page.goto(foreign_address)
        answer = submit(foreign_page, f"{address}{path}", fields, encoding)
        sent = answer.request.all_headers()
        assert "winnow_session" in sent["cookie"]  # the refused request is a signed-in owner's
        assert sent.get("sec-fetch-site") == (None if "winnow.test" in address else "same-site")
        assert answer.status == 403, path
        assert rows(database) == {"data set": 0, "session": 1}, path


@pytest.mark.parametrize("body", SCRIPTS.values(), ids=SCRIPTS)
def test_a_foreign_script_is_refused(
    foreign_page: Page, address: str, database: Database, page_errors: PageErrors, body: str
) -> None:
    page_errors.expect("403")
    for path in ("/account/tokens", "/datasets", "/api/v1/data-sets/upload", "/logout"):
        with foreign_page.expect_response(f"{address}{path}") as answer:
            foreign_page.evaluate(
                f"""async address => await fetch(address, {{
                  method: "POST", mode: "no-cors", credentials: "include", body: ({body})("x"),
                }})""",
                f"{address}{path}",
            )
        assert answer.value.status == 403
    assert rows(database) == {"data set": 0, "session": 1}


def test_a_foreign_page_signs_nobody_in(
    foreign_page: Page,
    address: str,
    database: Database,
    page_errors: PageErrors,
    login_link: Callable[[User], str],
    reviewer: User,
) -> None:
    """Otherwise the owner would continue as someone else, unaware."""
    page_errors.expect("403")
    token = login_link(reviewer).partition("=")[2]
    kind = "application/x-www-form-urlencoded"
    assert submit(foreign_page, f"{address}/login", {"token": token}, kind).status == 403
    assert rows(database) == {"data set": 0, "session": 1, "login_link": 1}


def test_pages_of_ours_work_at_both_addresses(
    owners_page: Page, address: str, database: Database, page_errors: PageErrors
) -> None:
    page_errors.expect("Clear-Site-Data")  # over plain HTTP a browser refuses it, and says so
    page = owners_page
    page.goto("/account")
    page.get_by_label("Name of a new token").fill("nightly")
    page.get_by_role("button", name="Create a token").click()
    expect(page.get_by_text("nightly")).to_be_visible()
    status = page.evaluate(
        """async () => (await fetch("/api/v1/tokens", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: '{"name": "x"}',
        })).status"""
    )
    assert status == 201
    assert rows(database) == {"data set": 0, "session": 1, "api_token": 2}
    page.goto("/account")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    assert rows(database) == {"data set": 0, "api_token": 2}


def test_the_login_button_works_at_both_addresses(
    address: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> None:
    """Over plain HTTP its request must not say `Origin: null`."""
    page = open_page(address)
    follow(page, login_link(owner))
    expect(page).to_have_url(f"{address}/datasets")
