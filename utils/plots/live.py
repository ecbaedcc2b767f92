"""A learning curve while it grows: a sheet, so that drawing it takes no time from training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.columns import short
from utils.plots.curves import smoothed, spread
from utils.plots.panel import Panel, Scale
from utils.plots.sheet import SMALLEST_TEXT, Sheet, shortened
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
    axes = Panel(Scale(0, total_steps, LEFT, WIDTH - RIGHT), Scale(0, top, HEIGHT - BOTTOM, TOP))
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


def _draw_axes(sheet: Sheet, axes: Panel, batch_size: int, chance: float, title: str, num_classes: int) -> None:
    sheet.text(0, 14, shortened(title, 13, WIDTH, bold=True), size=13, bold=True, name="title")
    rows = np.arange(0, axes.y.high, 0.5 if axes.y.high < 3 else 1).tolist()
    axes.draw_rows(sheet, rows, [f"{loss:.1f}" for loss in rows])
    images = int(axes.x.high) * batch_size
    step = next(s for power in range(10) for s in (10**power, 2 * 10**power, 5 * 10**power) if images / s <= 4)
    columns = range(0, images + 1, step)
    axes.draw_columns(sheet, [tick / batch_size for tick in columns], [short(tick) for tick in columns])
    sheet.text(
        (axes.x.start + axes.x.end) / 2, HEIGHT - 5, "training images seen", size=SMALLEST_TEXT, anchor="middle",
        name="axis",
    )  # fmt: skip
    left, right = axes.at(0, chance), axes.at(axes.x.high, chance)
    sheet.line([left, right], COLOURS["ink"], width=1.2, dash=(2, 3), name="chance")
    sheet.text(
        right[0], left[1] - 5, f"ln {num_classes}: knows nothing", size=SMALLEST_TEXT, colour=COLOURS["quiet"],
        anchor="end", name="chance",
    )  # fmt: skip
