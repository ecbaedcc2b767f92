"""Bars: one a layer, in the colour of what the layer is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from utils.plots.style import COLOURS, LessonFigure, counted, headline, style

KINDS = {
    "conv": COLOURS["convolution"],
    "pool": COLOURS["pooling"],
    "dense": COLOURS["dense"],
    "other": COLOURS["grey"],
}


@style()
def layer_bars(rows: Sequence[tuple[str, str, float]], *, title: str, unit: str) -> LessonFigure:
    """One horizontal bar for each (layer, kind, value), the first on top, its value and share at its end.

    kind: "conv", "pool", "dense" or "other"; it decides the colour. unit: what the values count.
    """
    rows = list(rows)
    _check(rows)
    layers, kinds, values = zip(*rows, strict=True)
    total, largest = sum(values), max(values)

    figure = LessonFigure(height=1.3 + 0.42 * len(rows))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(rows)), values, height=0.68, color=[KINDS[kind] for kind in kinds])
    ends = [f"{value:,.0f}  ·  {value / total:.0%}" if total else "0" for value in values]
    axes.bar_label(bars, ends, padding=6)
    axes.set_yticks(range(len(rows)), layers)
    axes.invert_yaxis()
    axes.set_xlim(0, (largest or 1) * 1.22)  # room for what stands at the end of the longest
    axes.locator_params("x", nbins=4)  # millions are long
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(unit)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    headline(axes, title)

    figure.title = title
    figure.alt = (
        f"{title}: {total:,.0f} {unit} in {counted(len(rows), 'layer')}. "
        + "; ".join(f"{layer}: {end.replace('  ·  ', ', ')}" for layer, end in zip(layers, ends, strict=True))
        + "."
    )
    return figure


def _check(rows: Sequence[tuple[str, str, float]]) -> None:
    if not rows:
        raise ValueError("rows must hold at least one layer to draw, got none")
    for layer, kind, value in rows:
        if kind not in KINDS:
            raise ValueError(f"{layer}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{layer}: its value must be a number of at least 0, got {value!r}")
