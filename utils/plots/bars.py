"""Bars: one a layer, or two, in the colour of what the layer is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from utils.checks import dict_of, of_kind
from utils.plots.style import COLOURS, LessonFigure, headline, style, text_on
from utils.words import counted, listed

if TYPE_CHECKING:
    from utils.profiling import Profile

KINDS = {
    "conv": COLOURS["convolution"],
    "pool": COLOURS["pooling"],
    "dense": COLOURS["dense"],
    "other": COLOURS["grey"],
}
COLOUR_NAMES = {"conv": "blue", "pool": "light blue", "dense": "orange", "other": "grey"}


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


@style()
def layer_costs(profile: Profile, *, title: str = "Where parameters sit, and where computation") -> LessonFigure:
    """Two bars for each convolution and dense layer: to the left its share of the parameters, to the right of the MACs.

    profile: what `utils.profiling.profile` gives. The layers are numbered in the order in which they run.
    """
    from utils.profiling import Profile

    of_kind("profile", profile, Profile, "profile(build(ALEXNET, device='meta'))")
    layers = profile.layers[profile.layers.macs > 0]
    if layers.empty:
        raise ValueError("the network must have a convolution or a dense layer to draw, got none")
    names = [f"{kind} {number}" for number, kind in enumerate(layers.kind, start=1)]
    colours = [KINDS.get(kind, KINDS["other"]) for kind in layers.kind]
    shares = {
        "parameters": 100 * layers.parameters.to_numpy() / max(1, profile.total.parameters),
        "multiply-accumulates": 100 * layers.macs.to_numpy() / profile.total.macs,
    }
    figure = LessonFigure(height=1.5 + 0.36 * len(names))
    sides = figure.subplots(1, 2, sharey=True)
    longest = max(map(max, shares.values()))
    for axes, values, way in zip(sides, shares.values(), (-1, 1), strict=True):
        axes.barh(range(len(names)), way * values, height=0.7, color=colours)
        for row, value in enumerate(values):
            written = f"{value:.0f} %" if value >= 0.5 else f"{value:.1g} %"
            axes.annotate(
                written, (way * value, row), (5 * way, 0), textcoords="offset points", va="center",
                ha="left" if way > 0 else "right",
            )  # fmt: skip
        axes.set_xlim(*sorted((0, 1.25 * way * longest)))
        axes.set_axis_off()
    sides[0].set_ylim(len(names) - 0.5, -0.5)
    totals = f"{profile.total.parameters:,} parameters", f"{profile.total.macs:,} MACs an image"
    sides[0].set_title(totals[0], loc="right", weight="normal", size=12)
    sides[1].set_title(totals[1], loc="left", weight="normal", size=12)
    for row, name in enumerate(names):  # in the middle, between the two bars
        sides[1].annotate(
            name, (0, row), (-42, 0), textcoords="offset points", ha="center", va="center", annotation_clip=False
        )
    figure.get_layout_engine().set(wspace=0.14)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=15)

    figure.title = title
    figure.alt = f"{title}. {totals[0]}, {totals[1]}. " + "; ".join(
        f"{name}: {left:.1f}% and {right:.1f}%" for name, left, right in zip(names, *shares.values(), strict=True)
    )
    return figure


@style()
def stacked_bars(parts: Mapping[str, Mapping[str, float]], *, title: str, unit: str) -> LessonFigure:
    """One bar a network, of parts one after the other: `{"A": {"conv": 9_220_480, "dense": 123_642_856}}`.

    The parts are kinds ("conv", "pool", "dense", "other"), which decide the colour. unit: what the values count.
    """
    dict_of("parts", parts, dict, "{'A': {'conv': 9_220_480, 'dense': 123_642_856}}")
    for name, values in parts.items():
        _check([(name, kind, value) for kind, value in values.items()])
    figure = LessonFigure(height=1.5 + 0.42 * len(parts))
    axes = figure.add_subplot()
    widest = max(sum(values.values()) for values in parts.values()) or 1
    for row, values in enumerate(parts.values()):
        left = 0.0
        for kind, value in values.items():
            axes.barh(row, value, left=left, height=0.68, color=KINDS[kind])
            if value > 0.16 * widest:
                axes.text(left + value / 2, row, f"{value:,.0f}", ha="center", va="center", color=text_on(KINDS[kind]))
            left += value
        axes.annotate(f"{left:,.0f}", (left, row), (6, 0), textcoords="offset points", va="center", weight="bold")
    axes.set_yticks(range(len(parts)), parts)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * widest)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    kinds = list(dict.fromkeys(kind for values in parts.values() for kind in values))
    headline(axes, title, f"{unit}: {listed([f'{kind} {COLOUR_NAMES[kind]}' for kind in kinds])}")

    figure.title = title
    figure.alt = f"{title}: " + "; ".join(
        f"{name}, {listed([f'{value:,.0f} {kind}' for kind, value in values.items()])}"
        for name, values in parts.items()
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
