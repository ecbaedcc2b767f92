"""Photographs as a network saw them, and what it takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from utils.checks import shown, tuple_of
from utils.plots.style import COLOURS, WIDTH, LessonFigure, style, text_size
from utils.words import counted

if TYPE_CHECKING:
    from utils.photos import Prediction

ROW = 0.36  # inches, a bar with its gap
SIDE = 2.2  # inches, of a photograph


@style()
def predictions(
    found: Sequence[Prediction] | Prediction,
    names: Sequence[str] | None = None,
    *,
    title: str = "What the network takes it for",
) -> LessonFigure:
    """Each photograph as the network saw it, and beside it bars: the probabilities of the classes it finds likeliest.

    found: what `utils.photos.classify` gives, one below the other. names: what to write over each, if there are
    several networks or photographs to tell apart.
    """
    found = (found,) if hasattr(found, "top") else tuple_of("found", found)
    if not found:
        raise ValueError("found must hold at least one prediction to draw, got none")
    for i, one in enumerate(found):
        if not hasattr(one, "top") or not hasattr(one, "seen"):
            raise ValueError(
                f"found[{i}] must be a prediction, such as classify(net, [photo], weights)[0], got {shown(one)}"
            )
    if names is not None and len(tuple_of("names", names)) != len(found):
        raise ValueError(f"names must be one a prediction: expected {len(found)}, got {len(names)}")
    names = [""] * len(found) if names is None else [f"{name}" for name in names]

    heights = [max(SIDE, ROW * len(one.top)) + 0.35 * bool(name) + 0.15 for one, name in zip(found, names, strict=True)]
    figure = LessonFigure(height=sum(heights) + 0.5)
    for_names = max(text_size(figure.text(0, 0, _short(label)))[0] for one in found for label, _ in one.top)
    while figure.texts:  # they were there to be measured
        figure.texts[0].remove()
    widths = [SIDE, WIDTH - SIDE - for_names - 0.4]
    cells = figure.subplots(len(found), 2, width_ratios=widths, height_ratios=heights, squeeze=False)
    for (picture, axes), one, name in zip(cells, found, names, strict=True):
        picture.imshow(np.asarray(one.seen), interpolation="antialiased")
        picture.set_axis_off()
        picture.set_anchor("NW")
        _bars(axes, one)
        axes.set_title(name, size=12, pad=4)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=15)

    figure.title = title
    figure.alt = f"{counted(len(found), 'photograph')}, and how likely the network finds which class. " + " ".join(
        f"{f'{name}: ' if name else ''}{_in_words(one)}." for one, name in zip(found, names, strict=True)
    )
    return figure


def _bars(axes: Axes, one: Prediction) -> None:
    classes, shares = zip(*one.top, strict=True)
    colours = [COLOURS["ink"], *[COLOURS["grey"]] * (len(shares) - 1)]
    bars = axes.barh(range(len(shares)), shares, height=0.68, color=colours)
    axes.bar_label(bars, [percent(share) for share in shares], padding=6)
    axes.set_yticks(range(len(classes)), map(_short, classes))
    axes.set_ylim(max(len(classes), int(SIDE / ROW)) - 0.5, -0.5)  # few bars are not blown up
    axes.set_xlim(0, 1.2)  # room for what stands at the end of the longest
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _short(label: str) -> str:
    """The class as it is written beside its bar: in full, if it is one of ImageNet's."""
    return shorten(label, 36, placeholder=" …") or f"{label[:35]}…"


def _in_words(one: Prediction) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in one.top)


def percent(share: float) -> str:
    """`87.3 %`; and never 0 or 100, which no softmax gives."""
    if share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"
