"""Curves with intervals as an SVG file, panels side by side."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

PANEL_INCHES = 3.6
# Okabe and Ito's colours for colour-blind readers, then dashed.
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d4b800", "#0072b2", "#d55e00", "#cc79a7")
DASHES = ("-", "--", ":")
# Text stays text; equal figures give equal files.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "winnow", "font.size": 8}

# (x, y, half the interval of y)
Line = Sequence[tuple[float, float, float]]


def curves(
    path: Path, panels: Mapping[str, Mapping[str, Line]], x_title: str, y_title: str
) -> None:
    """Write the curves of `draw` to an SVG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(SVG):
        draw(panels, x_title, y_title).savefig(path, format="svg", metadata={"Date": None})


def draw(panels: Mapping[str, Mapping[str, Line]], x_title: str, y_title: str) -> Figure:
    """Draw panels {title: {line: points}} with shared axes; x as log(1 + x)."""
    marks = sorted({x for lines in panels.values() for line in lines.values() for x, _, _ in line})
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = [(colour, dash) for dash, colour in product(DASHES, COLOURS)]
    figure = Figure(
        figsize=(PANEL_INCHES * (len(panels) + 0.6), PANEL_INCHES), layout="constrained"
    )
    (row,) = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)
    for axes, (title, lines) in zip(row, panels.items(), strict=True):
        axes.set_xscale("function", functions=(np.log1p, np.expm1))
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.grid(axis="y", color="#ddd")
        axes.set_title(title, fontweight="bold")
        for name, line in lines.items():
            number = names.index(name)
            colour, dash = looks[number % len(looks)]
            x, y, half = np.array(sorted(line)).T
            axes.plot(x, y, dash, color=colour, linewidth=1.2, label=name)
            # Shifted, so that intervals do not overlap.
            aside = ScaledTranslation((2 * number - len(names)) / 72, 0, figure.dpi_scale_trans)
            axes.vlines(
                x[half > 0],
                (y - half)[half > 0],
                (y + half)[half > 0],
                colors=colour,
                alpha=0.45,
                transform=axes.transData + aside,
            )
    # matplotlib ignores shifted lines when choosing limits.
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    low, high = min(y - half for _, y, half in points), max(y + half for _, y, half in points)
    row[0].set_ylim(low, high if high > low else low + 1)
    row[0].set_ylabel(y_title)
    figure.supxlabel(x_title, fontsize="medium")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure
