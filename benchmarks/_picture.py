"""Curves as an SVG file: a few panels side by side, lines with their intervals over a logarithmic axis, one legend."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT, GAP, LEGEND = 300, 240, 56, 190
# Distinct on white, for people who see colours differently as well (Okabe and Ito's eight), then dashed once more.
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d4b800", "#0072b2", "#d55e00", "#cc79a7")
DASHES = ("", "6 3", "2 2")

# From data to places on the page.
Place = Callable[[float, float], tuple[float, float]]
# (x, y, half the width of the interval of y)
Line = Sequence[tuple[float, float, float]]


def curves(
    path: Path, panels: Mapping[str, Mapping[str, Line]], x_title: str, y_title: str
) -> None:
    """Write panels {title: {line's name: [(x, y, half the width of y's interval), …]}}; all share both axes. x is drawn as log(1 + x)."""
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    low, high = min(y - half for _, y, half in points), max(y + half for _, y, half in points)
    high = high if high > low else low + 1.0
    marks = sorted({x for x, _, _ in points})
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    width = len(panels) * (WIDTH + GAP) + LEGEND
    height = HEIGHT + 2 * GAP

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log1p(x) - math.log1p(marks[0])) / (
            math.log1p(marks[-1]) - math.log1p(marks[0]) or 1.0
        )
        return across * WIDTH, (high - y) / (high - low) * HEIGHT

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    ]
    parts.append(f'<rect width="{width}" height="{height}" fill="#fff"/>')
    for number, (title, lines) in enumerate(panels.items()):
        parts.append(f'<g transform="translate({GAP + number * (WIDTH + GAP)} {GAP})">')
        parts.append(
            f'<text x="{WIDTH / 2}" y="-14" text-anchor="middle" font-weight="bold">{escape(title)}</text>'
        )
        parts += _axes(marks, low, high, place)
        parts += [
            _line(line, *_look(names.index(name)), place, 2.0 * names.index(name) - len(names))
            for name, line in lines.items()
        ]
        parts.append("</g>")
    parts.append(
        f'<text x="{GAP}" y="{height - 12}">{escape(x_title)}</text><text x="6" y="16">{escape(y_title)}</text>'
    )
    parts += _legend(names, width - LEGEND + 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>\n"]))


def _look(number: int) -> tuple[str, str]:
    """Colour and dashes of the line with this number."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def _line(line: Line, colour: str, dashes: str, place: Place, aside: float) -> str:
    """aside: how far beside its points, in pixels, the intervals stand, so that they do not cover those of other lines."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(x, y) for x, y, _ in sorted(line)))
    ends = [(place(x, y + half), place(x, y - half)) for x, y, half in line if half]
    bars = "".join(f"M{x + aside:.1f} {top:.1f}V{bottom:.1f}" for (x, top), (_, bottom) in ends)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dashes}"/>'
        f'<path d="{bars}" stroke="{colour}" stroke-opacity=".45"/>'
    )


def _axes(marks: Sequence[float], low: float, high: float, place: Place) -> list[str]:
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>']
    for mark in marks:
        x, _ = place(mark, low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{mark:g}</text>')
    for part in range(5):
        value = low + (high - low) * part / 4
        _, y = place(marks[0], value)
        parts.append(
            f'<path d="M0 {y:.1f}H{WIDTH}" stroke="#ddd"/><text x="-5" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    return parts


def _legend(names: Sequence[str], left: float) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        (colour, dashes), y = _look(number), GAP + 16 * number
        parts.append(
            f'<path d="M{left} {y}h22" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dashes}"/>'
        )
        parts.append(f'<text x="{left + 28}" y="{y + 4}">{escape(name)}</text>')
    return parts
