"""Templates: one strict environment, with escaping, and `page`."""

import hashlib
import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import humanize
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backend.core.job_kinds import KINDS
from backend.web.access import may

FRONTEND = Path(__file__).resolve().parents[2] / "frontend"
STATIC = FRONTEND / "static"
TEN_MINUTES = 600


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    known = {
        "request": request,
        "user": getattr(request.state, "user", None),
        "version": static_version(),
    }
    return HTMLResponse(environment().get_template(template).render(known | context), status)


@cache
def static_version() -> str:
    """Hash of scripts and style sheets, for addresses cached for ever."""
    digest = hashlib.sha256()
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        digest.update(path.relative_to(STATIC).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FRONTEND / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["job_kinds"] = KINDS
    made.globals["may"] = may
    made.filters |= {
        "percent": percent,
        "points": points,
        "number": number,
        "duration": duration,
        "about": about,
        "counted": counted,
        "filesize": lambda size: humanize.naturalsize(size, format="%.1f"),
        "localtime": localtime,
    }
    return made


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.912 → "91.2 %", with a non-breaking space."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{_rounded(100 * fraction, digits):.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float | None, digits: int = 1) -> str:
    """0.014 → "+1.4 points"; no sign where it rounds to zero."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    value = _rounded(100 * fraction, digits)
    return f"{value:{'+' if value else ''}.{digits}f} points".replace("-", "−")


def number(value: float | None) -> str:
    """1797 → "1,797"; fractions with up to four significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:.4g}"
    )


def duration(seconds: float | None) -> str:
    """125 → "2 min 5 s"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if 0 < seconds < 1:
        return "less than 1 s"
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def about(seconds: float | None) -> str:
    """125.2 → "about 2 min 5 s"; 0.4 → "less than 1 s"; no seconds from ten minutes on."""
    words = duration(seconds)
    if seconds is not None and math.isfinite(seconds) and seconds >= TEN_MINUTES:
        words = duration(60 * round(seconds / 60)).removesuffix(" 0 s")
    return words if words.startswith(("less", "–")) else f"about {words}"


def counted(count: int, noun: str) -> str:
    """1 and "file" → "1 file"; 2 → "2 files"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def _rounded(value: float, digits: int) -> float:
    """Round, without the sign of "−0.0"."""
    return round(value, digits) + 0.0


def localtime(moment: datetime | None) -> Markup | str:
    """Show a moment in local time; UTC without JavaScript."""
    if moment is None:
        return "–"
    utc = moment.astimezone(UTC)  # PostgreSQL returns its own zone
    return Markup('<time datetime="{}" data-controller="local-time">{}</time>').format(
        utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M UTC")
    )
