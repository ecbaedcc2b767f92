"""A learning curve while it grows: a sheet, so that drawing it takes no time from training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.curves import smoothed, spread
from utils.plots.sheet import SMALLEST_TEXT, Sheet, shortened, text_width
from utils.plots.style import COLOURS, readable

if TYPE_CHECKING:
    from utils.trials import Look

WIDTH, HEIGHT = 340, 230  # pixels
LEFT, RIGHT, TOP, BOTTOM = 30, 74, 26, 38  # of the axes: room for ticks, names at the lines' ends, title, ticks
MOST_POINTS = 200  # of the line


def live_curve(
    losses: Sequence[float],
    looks: Sequence[Look],
    *,
    total_steps: int,
    batch_size: int,
    num_classes: int = 10,
    title: str = "Loss",
) -> Sheet:
    """Loss against the images seen so far, on axes that are there from the start: training as a thin grey line
    (smoothed), validation as a blue one with markers. The dotted line is chance, ln(num_classes)."""
    chance = math.log(num_classes)
    sheet = Sheet(WIDTH, HEIGHT, title, grows=1.5)
    finite = [loss for loss in (*losses, *(look.loss for look in looks)) if math.isfinite(loss)]
    top = min(max([1.08 * chance, *finite]), 2 * chance)
    axes = _Axes(total_steps, top)
    _draw_axes(sheet, axes, batch_size, chance, title, num_classes)
    ends = {}
    if losses:
        curve = smoothed(np.nan_to_num(np.array(losses, float), nan=top, posinf=top), max(1, total_steps // 50))
        every = max(1, len(curve) // MOST_POINTS)
        steps = [*range(0, len(curve) - 1, every), len(curve) - 1]
        points = [axes.at(i + 1, float(curve[i])) for i in steps]
        sheet.line(points, COLOURS["grey"], width=1.5, name="training loss")
        ends["training"] = (points[-1][1], COLOURS["quiet"])
    if looks:
        points = [axes.at(look.step, look.loss) for look in looks]
        sheet.line(points, COLOURS["convolution"], width=2.2, name="validation loss")
        for x, y in points:
            sheet.box(x - 3, y - 3, 6, 6, COLOURS["convolution"], name="look")
        ends["validation"] = (points[-1][1], readable(COLOURS["convolution"]))
    ordered = sorted(ends, key=lambda name: ends[name][0])
    heights = spread([ends[name][0] for name in ordered], 15, TOP + 6, HEIGHT - BOTTOM)
    for name, y in zip(ordered, heights, strict=True):
        sheet.text(WIDTH - RIGHT + 8, y + 4, name, size=12, colour=ends[name][1], name="end")
    sheet.alt = f"Loss after {len(losses)} of {total_steps} steps" + (
        f": {losses[-1]:.2f} on the last training images" if losses else ""
    )
    if looks:
        sheet.alt += f", {looks[-1].loss:.2f} on validation images, of which {looks[-1].accuracy:.0%} are right"
    sheet.alt += f"; chance is {chance:.2f}."
    return sheet


class _Axes:
    """From steps and losses to pixels."""

    def __init__(self, total_steps: int, top: float) -> None:
        self.total_steps, self.top = total_steps, top

    def at(self, step: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / self.total_steps
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(loss, 0.0), self.top) / self.top


def _draw_axes(sheet: Sheet, axes: _Axes, batch_size: int, chance: float, title: str, num_classes: int) -> None:
    from utils.plots.columns import short

    sheet.text(0, 14, shortened(title, 13, WIDTH, bold=True), size=13, bold=True, name="title")
    for tick in np.arange(0, axes.top, 0.5 if axes.top < 3 else 1):
        x, y = axes.at(0, tick)
        sheet.line([(x, y), (WIDTH - RIGHT, y)], COLOURS["grid"])
        sheet.text(x - 6, y + 4, f"{tick:.1f}", size=SMALLEST_TEXT, colour=COLOURS["quiet"], anchor="end", name="tick")
    images = axes.total_steps * batch_size
    step = next(s for power in range(10) for s in (10**power, 2 * 10**power, 5 * 10**power) if images / s <= 4)
    for tick in range(0, images + 1, step):
        x, y = axes.at(tick / batch_size, 0)
        words = short(tick)
        sheet.text(x, y + 15, words, size=SMALLEST_TEXT, colour=COLOURS["quiet"], anchor="middle", name="tick")
    sheet.text(
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "training images seen", size=SMALLEST_TEXT, anchor="middle", name="axis"
    )
    left, right = axes.at(0, chance), (WIDTH - RIGHT, axes.at(0, chance)[1])
    sheet.line([left, right], COLOURS["ink"], width=1.2, dash=(2, 3), name="chance")
    words = f"ln {num_classes}: knows nothing"
    sheet.text(
        right[0] - text_width(words, SMALLEST_TEXT), left[1] - 5, words, size=SMALLEST_TEXT, colour=COLOURS["quiet"],
        name="chance",
    )  # fmt: skip
