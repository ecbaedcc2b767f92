"""What plots of points share: logarithmic axes with plain numbers, and labels that find their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axis import Axis
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from utils.plots.labels import Boxes, Placement, place_labels
from utils.plots.style import COLOURS, text_size

HALO = (withStroke(linewidth=3, foreground="white"),)  # no line runs through a text
TICKS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))  # × powers of ten; a narrow axis takes equal steps
CHARACTER = 0.0145  # the width of a digit, as a share of the axis


def make_logarithmic(axis: Axis, low: float, high: float, unit: float = 1.0) -> None:
    """From `low` to `high`, with plain round numbers at the ticks: multiples of `unit`."""
    name = axis.axis_name  # "x" or "y"
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis.set_major_locator(FixedLocator([unit * tick for tick in log_ticks(low / unit, high / unit)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: plain(value / unit))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """`30,000`, `0.3`."""
    return f"{value:,.10g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: the coarsest choice of at least three, or else two, that fit side by side."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [[10.0**decade for decade in decades if decade % 3 == 0]]
    choices += [[step * 10.0**decade for decade in decades for step in steps] for steps in TICKS]
    top = math.floor(math.log10(high))
    for step in (digit * 10.0**decade for decade in (top, top - 1, top - 2) for digit in (5, 2, 1)):
        choices.append([n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)])
    choices = [[round(tick, 10) for tick in ticks if low <= tick <= high] for ticks in choices]
    fitting = [ticks for ticks in choices if _fit(ticks, low, high)]
    return next((ticks for ticks in fitting if len(ticks) >= 3), max(fitting, key=len))


def _fit(ticks: Sequence[float], low: float, high: float) -> bool:
    """Are there at most nine, and do no two labels touch?"""
    spans = [(math.log(tick / low) / math.log(high / low), len(plain(tick)) + 1) for tick in ticks]
    return len(ticks) <= 9 and all(b - a > CHARACTER * (x + y) / 2 for (a, x), (b, y) in pairwise(spans))


def place_texts(texts: Sequence[Annotation], radii: np.ndarray, *, obstacles: Boxes, lines: np.ndarray) -> None:
    """Move each text from its point to a free place nearby, with a leader line if it is far. The figure is laid out.

    texts: annotations at their points, in data coordinates. radii (N,): of the points' markers, in pixels. obstacles
    (M, 4) and lines (S, 2), in pixels: as in `place_labels`.
    """
    axes, figure = texts[0].axes, texts[0].get_figure(root=True)
    spots, box = axes.transData.transform([text.xy for text in texts]), axes.get_window_extent()
    sizes = np.array([text_size(text) for text in texts]) * figure.dpi
    within = (box.x0, box.y0, figure.bbox.x1, box.y1)
    placed = place_labels(spots, radii, sizes, within=within, obstacles=obstacles, lines=lines)
    for text, placement, spot in zip(texts, placed, spots, strict=True):
        _move(text, placement, spot, 72 / figure.dpi)


def _move(text: Annotation, placement: Placement, spot: np.ndarray, points: float) -> None:
    """Put the text where it was placed, with its leader line; `points` turns pixels into them."""
    text.set_position(tuple((np.array([placement.x, placement.y]) - spot) * points))
    if placement.leader is not None:
        rim, label = (np.array(placement.leader) - spot) * points
        line = {"arrowstyle": "-", "color": COLOURS["grey"], "linewidth": 0.9, "shrinkA": 0}
        text.axes.annotate(
            "", text.xy, tuple(label), textcoords="offset points", annotation_clip=False,
            arrowprops=line | {"shrinkB": float(np.hypot(*rim))},
        )  # fmt: skip
