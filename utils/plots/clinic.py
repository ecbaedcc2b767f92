"""The clinic's drawings, made anew at every turn of a knob: vital signs by layer, and a training's first losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.panel import Panel, Scale
from utils.plots.sheet import SMALLEST_TEXT, Sheet, text_width, wrapped
from utils.plots.style import COLOURS, readable
from utils.plots.vitals import PANELS, log_limits, plain_powers, powers_of_ten, signs_in_words, which_layers
from utils.words import plain

if TYPE_CHECKING:
    from utils.vitals import VitalSigns

WIDTH, GROWS = 450, 1.35  # pixels: as much as there is in a narrow window, and how much larger where there is room
TEXT, LINE = 12, 17
BEFORE, AFTER = COLOURS["convolution"], COLOURS["yours"]

# --- vital signs ------------------------------------------------------------------------------------------------------

TALL = 150  # pixels of a panel
FROM, TO = 1e-6, 1e2  # of the log axes, at least: so that lines move when a knob is turned, and not the axes


def vital_signs_sheet(
    before: VitalSigns, after: VitalSigns | None = None, *, title: str, after_what: str = "after training", words: str
) -> Sheet:
    """Activation, gradient and dead channels by layer, in three panels: before a training, and after it if it was.

    The same as `plots.vital_signs`, drawn in a millisecond or two. What is exactly 0 lies on the lower edge.
    after_what: the second line's name. words: what is said below.
    """
    sheet = Sheet(WIDTH, 0, title, grows=GROWS)
    lines = {"before training": (before, BEFORE), after_what: (after, AFTER)}
    if after is None:
        lines = {"before training": (before, BEFORE)}
    else:
        _draw_key(sheet, {name: colour for name, (_, colour) in lines.items()})
    room, top = WIDTH / len(PANELS), 82
    for number, panel in enumerate(PANELS):
        left = number * room
        for row, text in enumerate((PANELS[panel][0], *PANELS[panel][1].split("\n"))):
            look = {"size": 12, "bold": True} if row == 0 else {"size": SMALLEST_TEXT, "colour": COLOURS["quiet"]}
            sheet.text(left, top - 28 + 14 * row - 2, text, **look)
        values = {name: signs.layers[panel].to_numpy(float) for name, (signs, _) in lines.items()}
        depth = max(map(len, values.values()))
        y = _shares(top) if panel == "dead" else _powers(values.values(), top)
        axes = Panel(Scale(1, max(depth, 2), left + 36, left + room - 14), y)
        has_zero = panel != "dead" and any((own == 0).any() for own in values.values())
        _draw_axes(sheet, axes, panel, depth, has_zero=has_zero)
        for name, own in values.items():
            _draw_line(sheet, axes, panel, name, own, lines[name][1])
    kinds = which_layers(before.layers.kind.to_list())
    y = top + 10 + TALL + 34
    sheet.text(WIDTH / 2, y, f"layers, in the order in which they run{f': {kinds}' if kinds else ''}", size=TEXT,
               anchor="middle", name="axis")  # fmt: skip
    sheet.height = _write_below(sheet, words, y + 8)
    sheet.head(title)
    sheet.alt = f"{words} " + " ".join(signs_in_words(name, signs) for name, (signs, _) in lines.items())
    return sheet


def _powers(values: Sequence[np.ndarray], top: float) -> Scale:
    low, high = log_limits(np.concatenate([*values]))
    return Scale(min(low, FROM), max(high, TO), top + 10 + TALL, top + 10, is_log=True)


def _shares(top: float) -> Scale:
    return Scale(0, 1, top + 10 + TALL, top + 10)


def _draw_axes(sheet: Sheet, axes: Panel, panel: str, depth: int, *, has_zero: bool) -> None:
    """has_zero: the lower edge of the logarithmic axis is 0."""
    if panel == "dead":
        shares = (0, 0.25, 0.5, 0.75, 1)
        axes.draw_rows(sheet, shares, [f"{100 * share:.0f}" for share in shares])
    else:
        lowest = axes.y.low * (axes.y.high / axes.y.low) ** 0.08 if has_zero else axes.y.low  # no tick on the 0
        ticks = powers_of_ten(lowest, axes.y.high)
        axes.draw_rows(sheet, ticks, plain_powers(ticks))
        if has_zero:
            axes.draw_rows(sheet, [axes.y.low], ["0"])
    layers = [*range(1, depth + 1)] if depth <= 6 else [1, *range(5, depth + 1, 5)]
    axes.draw_columns(sheet, layers, [f"{layer}" for layer in layers])


def _draw_line(sheet: Sheet, axes: Panel, panel: str, name: str, values: np.ndarray, colour: str) -> None:
    """Squares on a line, filled before training and hollow after it; where there is no ReLU, neither."""
    places = [(axes.at(layer, value), value) for layer, value in enumerate(values, start=1) if value == value]
    if not places:
        middle = (axes.x.start + axes.x.end) / 2
        if name == "before training":
            sheet.text(middle, (axes.y.start + axes.y.end) / 2, "no ReLU", size=TEXT, colour=COLOURS["quiet"],
                       anchor="middle", name="no ReLU")  # fmt: skip
        return
    sheet.line([place for place, _ in places], colour, width=1.6, name=f"{panel} line: {name}")
    is_filled = name == "before training"
    for (x, y), value in places:
        what = f"{panel} zero" if value == 0 and panel != "dead" else panel
        sheet.box(x - 2, y - 2, 4, 4, colour if is_filled else "white", stroke=colour, name=f"{what}: {name}")


def _draw_key(sheet: Sheet, colours: dict[str, str]) -> None:
    """What the lines are, at the upper right."""
    right = WIDTH - 14
    for name, colour in reversed(colours.items()):
        right -= text_width(name, TEXT)
        sheet.text(right, 34, name, size=TEXT, colour=readable(colour), name="key")
        fill = colour if name == "before training" else "white"
        sheet.line([(right - 22, 30), (right - 6, 30)], colour, width=1.6)
        sheet.box(right - 17, 27, 6, 6, fill, stroke=colour)
        right -= 38


# --- the first losses -------------------------------------------------------------------------------------------------

LOW, HIGH = 1.6, 3.0  # of the losses' axis, at least
HIGHEST = 2.0  # × chance: what is above lies on the upper edge
BOTTOM = 190


def first_losses_sheet(
    losses: Sequence[float], earlier: Sequence[float] = (), *, num_steps: int, num_classes: int, title: str,
    earlier_title: str = "", words: str = "",
) -> Sheet:  # fmt: skip
    """The losses of a training's first steps, one a step, beside chance, the dotted line; `earlier` ones in grey.

    Losses may be NaN or infinite: such a one ends the line. words: what is said below.
    """
    chance = math.log(num_classes)
    sheet = Sheet(WIDTH, 0, title, grows=GROWS)
    own, before = _finite(losses), _finite(earlier)
    low = min([LOW, *own, *before])
    high = min(max([HIGH, *(loss * 1.03 for loss in (*own, *before))]), HIGHEST * chance)
    axes = Panel(Scale(0, num_steps, 36, WIDTH - 96), Scale(low, high, BOTTOM, 32))
    step = 0.5 if high - low < 3 else 1.0
    ticks = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    axes.draw_rows(sheet, ticks, [f"{tick:.1f}" for tick in ticks])
    axes.draw_columns(sheet, range(0, num_steps + 1, 5), [f"{n}" for n in range(0, num_steps + 1, 5)])
    sheet.text((36 + WIDTH - 96) / 2, BOTTOM + 33, "steps", size=TEXT, anchor="middle", name="axis")
    sheet.line([axes.at(0, chance), axes.at(num_steps, chance)], COLOURS["ink"], width=1.4, dash=(2, 3), name="chance")
    sheet.text(WIDTH - 90, axes.y(chance) + 4, f"ln {num_classes} = {chance:.3f}", size=TEXT, name="chance")
    ends = [axes.y(chance)]
    for name, values, colour in (("earlier", before, COLOURS["grey"]), ("loss", own, BEFORE)):
        if values:
            _draw_losses(sheet, axes, name, values, colour)
    _tell_beyond(sheet, axes, own)
    if before and earlier_title:
        ends.append(_name_end(sheet, axes.y(before[-1]), earlier_title, ends))
    sheet.height = _write_below(sheet, words, BOTTOM + 40)
    sheet.head(title)
    sheet.alt = " ".join(filter(None, [_losses_in_words(losses, num_steps, chance), words]))
    return sheet


def _finite(losses: Sequence[float]) -> list[float]:
    """Those before the first that is no finite number."""
    end = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return [float(loss) for loss in losses[:end]]


def _draw_losses(sheet: Sheet, axes: Panel, name: str, losses: Sequence[float], colour: str) -> None:
    points = [axes.at(step, loss) for step, loss in enumerate(losses, start=1)]
    sheet.line(points, colour, width=1.6, name=f"{name} line")
    for x, y in points:
        sheet.box(x - 2.5, y - 2.5, 5, 5, colour, name=name)


def _tell_beyond(sheet: Sheet, axes: Panel, losses: Sequence[float]) -> None:
    """How high they go, if that is beyond the axes."""
    if losses and max(losses) > axes.y.high:
        x = axes.x(1 + max(step for step, loss in enumerate(losses) if loss > axes.y.high)) + 8
        words = f"up to {plain(max(losses), 3)}"
        anchor = "start" if x + text_width(words, TEXT) < axes.x.end else "end"
        x = x if anchor == "start" else axes.x.end
        sheet.text(x, axes.y.end + 14, words, size=TEXT, colour=readable(BEFORE), anchor=anchor, name="beyond")


def _name_end(sheet: Sheet, y: float, words: str, taken: Sequence[float]) -> float:
    """A line's name right of the axes, out of the way of what stands there."""
    lines = wrapped(words, SMALLEST_TEXT, 88)
    height = 13 * len(lines)
    top = y - height / 2
    for other in taken:
        if other - 10 - height < top < other + 6:
            top = other + 8 if y >= other else other - 12 - height
    if top + height > BOTTOM:  # there stand the steps
        top = BOTTOM - height
        for other in taken:
            if other - 10 - height < top < other + 6:
                top = other - 12 - height
    for row, line in enumerate(lines):
        sheet.text(WIDTH - 90, top + 13 * row + 10, line, size=SMALLEST_TEXT, colour=COLOURS["quiet"], name="earlier's")
    return y


def _losses_in_words(losses: Sequence[float], num_steps: int, chance: float) -> str:
    if not losses:
        return f"Axes for the losses of {num_steps} steps, none taken yet; chance is {chance:.3f}."
    return f"Loss by step, {len(losses)} of {num_steps}: {', '.join(plain(loss, 3) for loss in losses)}."


def _write_below(sheet: Sheet, words: str, y: float) -> float:
    """`words` in lines from `y` on; gives where they end."""
    for line in wrapped(words, TEXT, WIDTH) if words else ():
        y += LINE
        sheet.text(0, y, line, size=TEXT, name="words")
    return y + 8
