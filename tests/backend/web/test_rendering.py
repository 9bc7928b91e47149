"""Templates: missing values are errors, input is text, numbers are readable."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import escape

from backend.core.text import tidy
from backend.web import rendering
from backend.web.rendering import (
    about,
    counted,
    duration,
    environment,
    localtime,
    number,
    percent,
    points,
    static_version,
)
from tests.world import HOSTILE


def render(text: str, **values: object) -> str:
    return environment().from_string(text).render(values)


@pytest.mark.parametrize(
    "text",
    [
        "{{ nothing }}",
        "{{ known.nothing }}",
        "{% if nothing %}{% endif %}",
        "{{ nothing|percent }}",
        "{{ known[0] }}",
    ],
)
def test_what_is_not_there_is_an_error_and_never_an_empty_place(text: str) -> None:
    with pytest.raises(UndefinedError):
        render(text, known={})


@pytest.mark.parametrize("typed", HOSTILE)
def test_what_somebody_typed_is_text_in_every_place_of_a_page(typed: str) -> None:
    text = render(
        '<p title="{{ typed }}">{{ typed }}</p><script type="application/json">{{ [typed]|tojson '
        "}}</script>",
        typed=typed,
    )
    assert f'<p title="{escape(typed)}">{escape(typed)}</p>' in text
    assert text.count("<") == 4  # of the tags above and no other
    assert "{{ 7 * 7 }}" in text or "7 * 7" not in typed


def test_every_template_is_escaped_whatever_it_is_called_and_none_switches_that_off() -> None:
    assert environment().autoescape is True
    for path in sorted((rendering.FRONTEND / "templates").rglob("*")):
        if path.is_file():
            text = path.read_text()
            assert "autoescape" not in text, path
            assert "|safe" not in text.replace(" ", ""), path


def test_every_template_can_be_read() -> None:
    names = environment().list_templates()
    assert len(names) > 20
    for name in names:
        environment().get_template(name)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.912, "91.2\N{NO-BREAK SPACE}%"),
        (0, "0.0\N{NO-BREAK SPACE}%"),
        (1, "100.0\N{NO-BREAK SPACE}%"),
        (0.9996, "100.0\N{NO-BREAK SPACE}%"),
        (-0.0001, "0.0\N{NO-BREAK SPACE}%"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_shares_are_per_cent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_a_share_has_as_many_digits_as_asked_for() -> None:
    assert percent(0.12345, 0) == "12\N{NO-BREAK SPACE}%"
    assert percent(0.1234, 2) == "12.34\N{NO-BREAK SPACE}%"


POINTS = [
    (0.014, "+1.4 points"),
    (-0.014, "−1.4 points"),
    (0.0, "0.0 points"),
    (-0.0, "0.0 points"),
    (0.0004, "0.0 points"),
    (-0.0004, "0.0 points"),
    (1, "+100.0 points"),
    (None, "–"),
    (float("nan"), "–"),
]


@pytest.mark.parametrize(("value", "text"), POINTS)
def test_differences_of_shares_are_points_with_a_sign_unless_they_are_nothing(
    value: float | None, text: str
) -> None:
    assert points(value) == text


NUMBERS = [
    (0, "0"),
    (1797, "1,797"),
    (2_000_000, "2,000,000"),
    (-1234, "-1,234"),
    (0.5, "0.5"),
    (0.123456, "0.1235"),
    (12.0, "12"),
    (999.95, "1000"),
    (12_345.6, "12,346"),
    (1_234_567.0, "1,234,567"),
    (1e-5, "1e-05"),
    (None, "–"),
    (float("nan"), "–"),
    (float("-inf"), "–"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_grouped_and_fractions_short(value: float | None, text: str) -> None:
    assert number(value) == text


DURATIONS = [
    (0, "0 s"),
    (0.4, "less than 1 s"),
    (1, "1 s"),
    (59.4, "59 s"),
    (59.6, "1 min 0 s"),
    (60, "1 min 0 s"),
    (125, "2 min 5 s"),
    (3599.6, "1 h 0 min"),
    (3600, "1 h 0 min"),
    (7384, "2 h 3 min"),
    (90_000, "25 h 0 min"),
    (-3, "0 s"),
    (None, "–"),
    (float("nan"), "–"),
    (float("inf"), "–"),
]


@pytest.mark.parametrize(("value", "text"), DURATIONS)
def test_time_is_in_the_units_that_people_use(value: float | None, text: str) -> None:
    assert duration(value) == text


def test_sizes_are_in_the_units_that_people_use() -> None:
    assert [
        render("{{ size|filesize }}", size=size) for size in (0, 999, 1_236_000, 1_932_000_000)
    ] == [
        "0 Bytes",
        "999 Bytes",
        "1.2 MB",
        "1.9 GB",
    ]


def test_a_moment_is_in_utc_for_browsers_that_cannot_turn_it_into_local_time() -> None:
    moment = datetime(2026, 3, 1, 23, 5, tzinfo=UTC)
    assert (
        localtime(moment)
        == '<time datetime="2026-03-01T23:05:00+00:00" data-controller="local-time">2026-03-01 '
        "23:05 UTC</time>"
    )
    tokyo = moment.astimezone(timezone(timedelta(hours=9)))
    assert ">2026-03-01 23:05 UTC<" in localtime(tokyo)
    assert localtime(None) == "–"


def test_an_address_of_a_script_or_style_changes_with_any_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rendering, "STATIC", tmp_path)
    versions = set()
    for text in ("a", "b"):
        (tmp_path / "x.css").write_text(text)
        static_version.cache_clear()
        versions.add(static_version())
    static_version.cache_clear()
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("name", "tidied"),
    [
        ("  a \t b\n", "a b"),
        ("\x00", ""),
        ("a\x00b", "a b"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("\ud800x", "x"),
        ("ß\u00a0ä", "ß ä"),
        ("=1", "=1"),
    ],
)
def test_names_are_one_line_that_every_database_takes(name: str, tidied: str) -> None:
    assert tidy(name) == tidied


def test_about_is_not_said_of_less_than_a_second() -> None:
    assert [about(seconds) for seconds in (0.4, 5.2, 125, None)] == [
        "less than 1 s",
        "about 5 s",
        "about 2 min 5 s",
        "–",
    ]


def test_about_speaks_of_no_seconds_from_ten_minutes_on() -> None:
    times = [about(seconds) for seconds in (599.4, 600, 3004, 3599, 7384, float("inf"))]
    assert times == [
        "about 9 min 59 s",
        "about 10 min",
        "about 50 min",
        "about 1 h 0 min",
        "about 2 h 3 min",
        "–",
    ]


def test_one_thing_is_not_counted_like_many() -> None:
    assert [counted(count, "file") for count in (0, 1, 1_797)] == [
        "0 files",
        "1 file",
        "1,797 files",
    ]
