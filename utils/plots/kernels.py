"""One large kernel beside a stack of small ones: what they see of a picture, what they cost, and where that is even."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.plots.axes import log_ticks, plain
from utils.plots.sheet import Sheet, beside, text_width, wrapped
from utils.plots.style import COLOURS, readable, to_array
from utils.stacks import Stack, break_even, verdict, weights_ratio, which_is_cheaper
from utils.words import plain as in_digits

BLUE, INK, QUIET, YOURS = COLOURS["convolution"], COLOURS["ink"], COLOURS["quiet"], COLOURS["yours"]
WIDTH, GAP = 700, 24
PICTURE = 276  # pixels a side
FADED = 0.45  # of a picture's darkness is left, so that lines on it can be seen
CHEAPER = "#E8F1F7"  # the part of the plot where the stack costs less

# --- what they see ----------------------------------------------------------------------------------------------------


def what_they_see(image: Any, large: Stack, stack: Stack) -> Sheet:
    """An image twice, with the square that one number depends on: through `large`, and through `stack` layer by layer.

    image: (H, W) or (1, H, W), uint8, square. Where a square is larger than the image, the padding round it is drawn.
    """
    pixels = to_array(image).squeeze()
    if pixels.ndim != 2 or pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"image must have the shape (H, H) or (1, H, H), got {to_array(image).shape}")
    reach = max(large.receptive_field, stack.receptive_field) // 2
    both = beside([_field(pixels, large, reach), _field(pixels, stack, reach)], gap=GAP)
    both.title = f"What one number sees: {large.label}, {stack.label}"
    return both


def _field(pixels: np.ndarray, stack: Stack, reach: int) -> Sheet:
    """One panel: the image, the squares on it, their sides beside it. reach: pixels to each side of the middle."""
    side, middle = len(pixels), len(pixels) // 2
    low = min(0, middle - reach)
    cell = PICTURE / (max(side, middle + reach + 1) - low)
    top = 44
    sheet = Sheet((WIDTH - GAP) / 2, top + PICTURE + 4)
    seen = f"{stack.receptive_field}×{stack.receptive_field}"
    sheet.text(0, 16, stack.label, size=14, bold=True)
    relus = "through one ReLU" if stack.num_relus == 1 else f"layer by layer, through {stack.num_relus} ReLUs"
    sheet.text(0, 34, f"sees {seen} pixels, {relus}", size=12, colour=QUIET)

    def place(pixel: float) -> float:
        return cell * (pixel - low)

    sheet.box(0, top, PICTURE, PICTURE, "white", stroke=COLOURS["grid"], name="padding")
    faded = 255 - FADED * pixels.astype(float)
    sheet.image(place(0), top + place(0), cell * side, cell * side, faded.round(), name="image")
    sheet.box(place(0), top + place(0), cell * side, cell * side, None, stroke=COLOURS["grey"])
    if low < 0:
        sheet.text(4, top + 14, "padding", size=11, colour=QUIET)
    for number, field in reversed([*enumerate(stack.fields, 1)]):  # the largest lies below
        at = place(middle - field // 2)
        sheet.box(at, top + at, cell * field, cell * field, BLUE, opacity=0.55 / stack.num_convs)
        sheet.box(at, top + at, cell * field, cell * field, None, stroke=BLUE, stroke_width=1.8, name=f"field {number}")
    sheet.box(place(middle), top + place(middle), cell, cell, YOURS, name="middle")
    _name_fields(sheet, [(place(middle + f // 2 + 1), top + place(middle - f // 2)) for f in stack.fields], stack)
    sheet.alt = f"{stack.label}: one number sees {seen} pixels. " + (
        f"Layer by layer, from the last to the first: {', '.join(f'{f}×{f}' for f in stack.fields)}."
        if stack.num_convs > 1
        else ""
    )
    return sheet


def _name_fields(sheet: Sheet, corners: Sequence[tuple[float, float]], stack: Stack) -> None:
    """The sides of the squares in a column beside the picture, each with a line to its square's upper right corner."""
    y = 0.0
    for field, (x, corner) in reversed(dict(zip(stack.fields, corners, strict=True)).items()):  # of 1×1, one
        y = max(corner, y + 17)
        sheet.line(((x, corner), (PICTURE + 6, y)), QUIET, width=0.8)
        sheet.text(PICTURE + 9, y + 4, f"{field}×{field}", size=12, name="field's side")


# --- what they cost ---------------------------------------------------------------------------------------------------


def costs_of(
    large: Stack, stack: Stack, in_channels: int, out_channels: int, side: int
) -> list[tuple[str, float, float, str]]:
    """(what, of large, of stack, unit), for each thing that is compared."""
    pairs = {
        "weights": [one.weights(in_channels, out_channels) for one in (large, stack)],
        "MACs": [one.macs(in_channels, out_channels, side) for one in (large, stack)],
        "ReLUs": [one.num_relus for one in (large, stack)],
        "sees": [one.receptive_field for one in (large, stack)],
    }
    return [(name, *values, " px" if name == "sees" else "") for name, values in pairs.items()]


def cost_table(large: Stack, stack: Stack, rows: Sequence[tuple[str, float, float, str]], note: str = "") -> Sheet:
    """A line for each (what, of large, of stack, unit): both numbers, and how many times as much the stack has.

    note: some words below it.
    """
    ends = (148, 232, 310)
    sheet = Sheet(ends[-1], 34 + 26 * len(rows), title="What they cost")
    heads = (large.label, stack.label, "ratio")
    for end, words in zip(ends, heads, strict=True):
        sheet.text(end, 16, words, size=12, bold=True, anchor="end")
    sheet.line(((0, 25), (ends[-1], 25)), COLOURS["grid"])
    said = []
    for number, (name, of_large, of_stack, unit) in enumerate(rows):
        y = 45 + 26 * number
        cells = (f"{short(of_large)}{unit}", f"{short(of_stack)}{unit}", f"{of_stack / of_large:.2f} ×")
        sheet.text(0, y, name, size=12)
        for at, (end, words) in enumerate(zip(ends, cells, strict=True)):
            sheet.text(
                end, y, words, size=12, anchor="end", bold=at == 2, name=f"{name} {('large', 'stack', 'ratio')[at]}"
            )
        said.append(f"{name}: {cells[0]} and {cells[1]}, {cells[2]}")
    for line in wrapped(note, 12, ends[-1]) if note else ():
        sheet.text(0, sheet.height + 18, line, size=12, name="note")
        sheet.height += 17
    sheet.height += 6
    sheet.alt = f"{large.label} and {stack.label}. {'; '.join(said)}. {note}".strip()
    return sheet


def short(number: float) -> str:
    """To three digits, but up to a million to the last: `0.123`, `800`, `12,800`, `10.0 M`, `1.85 G`."""
    if number < 1e6:
        return in_digits(number, 3) if number < 100 else f"{number:,.0f}"
    mantissa, exponent = f"{number:.2e}".split("e")
    unit = min(int(exponent) // 3, 4)
    places = int(exponent) - 3 * unit  # digits before the point, less one
    return f"{float(mantissa) * 10**places:.{max(0, 2 - places)}f} {' kMGT'[unit]}"


# --- where that is even -----------------------------------------------------------------------------------------------


def break_even_plot(large: Stack, stack: Stack, in_channels: int, out_channels: int) -> Sheet:
    """Weights of `stack` / weights of `large` (MACs alike) against C_in/C_out, both logarithmic; and where you are."""
    return _BreakEven(large, stack, in_channels, out_channels).sheet


class _BreakEven:
    LEFT, RIGHT, TOP, BOTTOM = 54, 360, 30, 204

    def __init__(self, large: Stack, stack: Stack, in_channels: int, out_channels: int) -> None:
        self.large, self.stack = large, stack
        self.even = break_even(stack, large)
        self.you = in_channels / out_channels
        self.channels = f"{in_channels} → {out_channels}"
        self.labels: list[tuple[float, float, float]] = []  # where words stand: left, right, baseline
        shown = [1 / 64, 4.0, self.you / 2, self.you * 2]
        if self.even is not None:
            shown += [self.even / 2, self.even * 2]
        self.low, self.high = float(min(shown)), float(max(shown))
        values = [1.0, *(self.ratio(r) for r in (self.low, self.high))]
        # Where one of them has more throughout, there is room for words on the other side, too.
        self.least, self.most = min(values) / 1.6, max(values) * 1.6
        self.least, self.most = min(self.least, self.most**-0.2), max(self.most, self.least**-0.2)
        self.sheet = Sheet(self.RIGHT + 6, 252)
        self._draw_frame()
        self._draw_curve()
        if self.even is not None:
            self._draw_even()
        self._draw_you()
        self._name_sides()
        self._finish()

    def ratio(self, channels_ratio: float) -> float:
        return weights_ratio(self.stack, self.large, channels_ratio)

    def x(self, channels_ratio: float) -> float:
        share = math.log(channels_ratio / self.low) / math.log(self.high / self.low)
        return self.LEFT + share * (self.RIGHT - self.LEFT)

    def y(self, ratio: float) -> float:
        share = math.log(ratio / self.least) / math.log(self.most / self.least)
        return self.BOTTOM - share * (self.BOTTOM - self.TOP)

    def _draw_frame(self) -> None:
        sheet, left, right, bottom = self.sheet, self.LEFT, self.RIGHT, self.BOTTOM
        look = {"size": 11, "colour": QUIET}
        sheet.box(left, self.y(1), right - left, bottom - self.y(1), CHEAPER, name="cheaper")
        for tick in log_ticks(self.least, self.most):
            sheet.line(((left, self.y(tick)), (right, self.y(tick))), COLOURS["grid"])
            sheet.text(left - 6, self.y(tick) + 4, plain(tick), anchor="end", name="ratio tick", **look)
        sheet.line(((left, self.y(1)), (right, self.y(1))), INK, width=1.2)
        for power in _powers(self.low, self.high):
            words = f"{2**power}" if power >= 0 else f"1/{2**-power}"
            sheet.line(((self.x(2.0**power), bottom), (self.x(2.0**power), bottom + 4)), QUIET)
            sheet.text(self.x(2.0**power), bottom + 17, words, anchor="middle", name="channels tick", **look)
        sheet.text((left + right) / 2, bottom + 38, "channels in / channels out", size=12, anchor="middle")

    def _draw_curve(self) -> None:
        self.curve = [(self.x(r), self.y(self.ratio(r))) for r in np.geomspace(self.low, self.high, 60)]
        self.sheet.line(self.curve, BLUE, width=2.4, name="curve")

    def _draw_even(self) -> None:
        x = self.x(self.even)
        self.sheet.line(((x, self.TOP), (x, self.BOTTOM)), INK, dash=(4, 3), name="break-even")
        words = f"even at {self.even}"
        is_left = x + 5 + text_width(words, 12) > self.RIGHT
        self._label(x - 5 - text_width(words, 12) if is_left else x + 5, self.TOP + 12, words, INK)

    def _draw_you(self) -> None:
        """The words stand above the curve, which falls; where there is no room, below it."""
        x, y = self.x(self.you), self.y(self.ratio(self.you))
        self.sheet.box(x - 5.5, y - 5.5, 11, 11, YOURS, stroke="white", stroke_width=1.5, name="you")
        words = f"{self.channels}: {self.ratio(self.you):.2f} ×"
        width, baseline = text_width(words, 12, bold=True), max(y - 9, self.TOP + 12)
        is_crowded = any(left < x + 10 + width and abs(baseline - other) < 15 for left, _, other in self.labels)
        if x + 10 + width > self.RIGHT or is_crowded:
            x, baseline = max(self.LEFT + 4, x - 10 - width) - 10, min(y + 20, self.BOTTOM - 5)
        self._label(x + 10, baseline, words, readable(YOURS), bold=True)

    def _label(self, x: float, y: float, words: str, colour: str, *, bold: bool = False, size: float = 12) -> None:
        """On white, so that it can be read over a line."""
        width = text_width(words, size, bold=bold)
        self.sheet.box(x - 2, y - 11, width + 4, 14, "white", opacity=0.8)
        self.sheet.text(x, y, words, size=size, colour=colour, bold=bold, name="label")
        self.labels.append((x - 2, x + width + 2, y))

    def _name_sides(self) -> None:
        """What it means to be above 1, and below: on the left, or else on the right."""
        for words, y in (("the stack has more", self.y(1) - 6), ("the stack has fewer", self.y(1) + 15)):
            width = text_width(words, 11)
            free = (x for x in (self.LEFT + 6, self.RIGHT - 4 - width) if self._is_free(x, x + width, y))
            if (x := next(free, None)) is not None:
                self.sheet.text(x, y, words, size=11, colour=QUIET, name="side")

    def _is_free(self, left: float, right: float, y: float) -> bool:
        """Has a line of words no label in its way, and not the curve?"""
        curve = [point for point in self.curve if left - 4 <= point[0] <= right + 4]
        is_crossed = min(p[1] for p in curve) < y + 4 and max(p[1] for p in curve) > y - 12
        is_taken = any(left < end and begin < right and abs(y - other) < 15 for begin, end, other in self.labels)
        return not is_crossed and not is_taken

    def _finish(self) -> None:
        sheet = self.sheet
        sheet.title = f"Weights of {self.stack.label} / weights of {self.large.label}"
        sheet.text(0, 16, sheet.title, size=12, bold=True)
        sheet.alt = (
            f"{sheet.title}, against channels in / channels out. {which_is_cheaper(self.stack, self.large)} Marked: "
            f"{self.channels} channels, {self.ratio(self.you):.2f} times the weights, and as many times the MACs."
        )


def _powers(low: float, high: float) -> list[int]:
    """Powers of two from `low` to `high`, at most seven, equally far apart, 0 among them."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    apart = next(step for step in (1, 2, 3, 4, 6, 8) if (last - first) // step < 7)
    return [power for power in range(first, last + 1) if power % apart == 0]


def costs(
    large: Stack,
    stack: Stack,
    in_channels: int,
    out_channels: int,
    side: int,
    seconds: tuple[float, float] | None = None,
) -> Sheet:
    """Table and plot side by side, and below the table in words where it is even. seconds: an image's, of both."""
    rows = costs_of(large, stack, in_channels, out_channels, side)
    if seconds is not None:
        rows.append(("time", *(1000 * each for each in seconds), " ms"))
    note = verdict(stack, large, in_channels, out_channels)
    plot = break_even_plot(large, stack, in_channels, out_channels)
    return beside([cost_table(large, stack, rows, note), plot], gap=GAP)
