"""The roofline as a sheet, drawn anew as the batch grows: where each layer could be, and where it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from utils.plots.axes import log_ticks, plain
from utils.plots.bars import KINDS
from utils.plots.labels import boxes_round, place_labels, samples
from utils.plots.panel import Panel, Scale
from utils.plots.roofline import ALMOST_NOTHING, above_in_words, numbered, percent, unit_prefix, with_unit
from utils.plots.sheet import SMALLEST_TEXT, Sheet, text_width, wrapped
from utils.plots.style import COLOURS
from utils.words import counted
from utils.words import plain as in_digits

if TYPE_CHECKING:
    from utils.roofline import Ceilings, LayerTimes

WIDTH, GROWS = 450, 1.35  # pixels: as much as there is in a narrow window, and how much larger where there is room
TEXT, LINE = 12, 17
QUIET = COLOURS["quiet"]

# --- the roof ---------------------------------------------------------------------------------------------------------

LEFT, RIGHT, TOP, BOTTOM = 52, 20, 48, 300  # of the axes, in pixels
# The axes stay as they are when the batch grows, so that the layers move and not the numbers beside them.
LEAST_INTENSITY, MOST_INTENSITY = 0.2, 1000.0
BELOW = 60.0  # how far the vertical axis goes below the roof's foot, at least
MARK = 9.0  # pixels a side


def roofline_sheet(
    work: pd.DataFrame,
    ceilings: Ceilings,
    times: LayerTimes | None = None,
    *,
    title: str,
    notes: Sequence[str] = (),
) -> Sheet:
    """Each layer as a point: FLOPs a second against FLOPs per byte moved, both axes log.

    work: what `utils.roofline.layer_work` gives. A hollow square on the roof is where the layer would be if nothing but
    memory and arithmetic held it up; a filled one below is where it was measured, if `times` of the same batch are
    given. Layers without FLOPs are no points. notes: what is said below, each from a line of its own on.
    """
    sheet = Sheet(WIDTH, 0, title, grows=GROWS)
    names = numbered(work)
    rows = [i for i, macs in enumerate(work.macs) if macs]
    x = work.intensity.to_numpy(float)[rows]
    could = np.array([ceilings.attainable(value) for value in x])
    found = np.full(len(rows), np.nan) if times is None else times.layers.flops_per_s.to_numpy(float)[rows]
    axes = _axes(ceilings, x, found)
    _draw_frame(sheet, axes, ceilings)
    roof = [axes.at(value, ceilings.attainable(value)) for value in (axes.x.low, ceilings.ridge, axes.x.high)]
    sheet.line(roof, COLOURS["ink"], width=2, name="roof")
    spots = []
    for row, at, on_roof, measured in zip(rows, x, could, found, strict=True):
        spots.append(_draw_layer(sheet, axes, names[row], work.kind.iloc[row], at, on_roof, measured))
    taken = _name_ceilings(sheet, axes, ceilings, roof)
    if rows:
        _name_layers(sheet, axes, [names[row] for row in rows], np.array(spots), roof, taken)
    y = _draw_key(sheet, is_measured=times is not None, ceilings=ceilings)
    said = [note for note in (*notes, above_in_words(found / could)) if note]
    for note in said:
        for line in wrapped(note, TEXT, WIDTH):
            y += LINE
            sheet.text(0, y, line, size=TEXT, name="note")
        y += 4
    sheet.height = y + 8
    sheet.head(title)
    sheet.alt = " ".join([_in_words([names[row] for row in rows], x, could, found, ceilings), *said])
    return sheet


def _axes(ceilings: Ceilings, x: np.ndarray, found: np.ndarray) -> Panel:
    low = min([LEAST_INTENSITY, *(x / 1.5)])
    high = max([MOST_INTENSITY, 4 * ceilings.ridge, *(1.5 * x)])
    measured = found[~np.isnan(found)]
    bottom = min([ceilings.attainable(LEAST_INTENSITY) / BELOW, *(measured / 1.7)])
    top = max([2.5 * ceilings.flops_per_s, *(1.7 * measured)])
    return Panel(
        Scale(low, high, LEFT, WIDTH - RIGHT, is_log=True), Scale(bottom, top, BOTTOM, TOP, is_log=True)
    )  # fmt: skip


def _draw_frame(sheet: Sheet, axes: Panel, ceilings: Ceilings) -> None:
    unit, prefix = unit_prefix(ceilings.flops_per_s)
    ticks = log_ticks(axes.y.low / unit, axes.y.high / unit)
    axes.draw_rows(sheet, [unit * tick for tick in ticks], [plain(tick) for tick in ticks])
    ticks = log_ticks(axes.x.low, axes.x.high)
    axes.draw_columns(sheet, ticks, [plain(tick) for tick in ticks])
    sheet.text(0, TOP - 13, f"{prefix}FLOP/s", size=TEXT, name="axis")
    sheet.text((LEFT + WIDTH - RIGHT) / 2, BOTTOM + 33, "FLOPs per byte moved", size=TEXT, anchor="middle", name="axis")


def _draw_layer(
    sheet: Sheet, axes: Panel, name: str, kind: str, at: float, on_roof: float, measured: float
) -> tuple[float, float]:
    """Its marks; gives where its name belongs: at what was measured, or else at what could be."""
    colour = KINDS.get(kind, KINDS["other"])
    x, y = axes.at(at, on_roof)
    place = (x, y)
    if measured == measured:
        place = axes.at(at, measured)
        sheet.line([(x, y), place], COLOURS["grey"], width=0.9, dash=(2, 2), name=f"gap: {name}")
    _draw_mark(sheet, x, y, "white", colour, f"roof: {name}")
    if measured == measured:
        _draw_mark(sheet, *place, colour, colour, f"measured: {name}")
    return place


def _draw_mark(sheet: Sheet, x: float, y: float, fill: str, colour: str, name: str) -> None:
    sheet.box(x - MARK / 2, y - MARK / 2, MARK, MARK, fill, stroke=colour, stroke_width=1.8, name=name)


Corners: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom


def _name_ceilings(sheet: Sheet, axes: Panel, ceilings: Ceilings, roof: Sequence[tuple[float, float]]) -> list[Corners]:
    """`106 GFLOP/s` over the flat roof, `23.4 GB/s` over the slope, where no mark is; gives the boxes they take."""
    marks = [(m.x, m.y, m.x + m.width, m.y + m.height) for m in (*sheet.named("roof: "), *sheet.named("measured: "))]
    flat, slope = with_unit(ceilings.flops_per_s, "FLOP/s"), with_unit(ceilings.bytes_per_s, "B/s")
    (foot_x, foot_y), (ridge_x, ridge_y), _ = roof
    wide, narrow = text_width(flat, TEXT, bold=True), text_width(slope, TEXT, bold=True)
    room = axes.x.end - wide - ridge_x
    over_flat = [(ridge_x + share * room, ridge_y - 8) for share in (1, 0.8, 0.6, 0.4, 0.2, 0)]
    over_slope = [
        (max(foot_x + share * (ridge_x - foot_x) - narrow - 10, foot_x + 2), foot_y + share * (ridge_y - foot_y) - 6)
        for share in (0.35, 0.2, 0.5, 0.65, 0.8, 0.1)
    ]
    boxes = []
    for name, words, width, places in (("flat", flat, wide, over_flat), ("slope", slope, narrow, over_slope)):
        corners = [(x, y - 11, x + width, y + 3) for x, y in places]
        free = (place for place, box in zip(places, corners, strict=True) if not _touches(box, marks))
        x, y = next(free, (places[0][0], places[0][1] - 14))
        sheet.text(x, y, words, size=TEXT, bold=True, name=f"ceiling: {name}")
        boxes.append((x, y - 11, x + width, y + 3))
    return boxes


def _touches(box: Corners, others: Sequence[Corners]) -> bool:
    left, top, right, bottom = box
    return any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in others)


def _name_layers(
    sheet: Sheet,
    axes: Panel,
    names: Sequence[str],
    spots: np.ndarray,
    roof: Sequence[tuple[float, float]],
    taken: Sequence[tuple[float, float, float, float]],
) -> None:
    """Each beside its mark, in nobody's way."""
    sizes = np.array([(text_width(name, SMALLEST_TEXT), 13.0) for name in names])
    marks = [(m.x, m.y, m.x + m.width, m.y + m.height) for m in sheet.named("roof: ") if m.name[6:] in names]
    corners = np.array(roof)
    placed = place_labels(
        spots,
        np.full(len(names), MARK / 2 + 1),
        sizes,
        within=(axes.x.start, TOP - 8, WIDTH, BOTTOM),
        obstacles=np.array([*marks, *taken]),
        lines=samples(corners[:-1], corners[1:], 40).reshape(-1, 2),
    )
    for name, label, size in zip(names, placed, sizes, strict=True):
        if label.leader is not None:
            sheet.line(label.leader, COLOURS["grey"], width=0.8, name=f"leader: {name}")
        left, top, *_ = boxes_round(np.array([label.x, label.y]), size)
        sheet.box(left - 1, top, size[0] + 2, size[1], "white", opacity=0.8)
        sheet.text(left, top + 10.5, name, size=SMALLEST_TEXT, name=f"label: {name}")


def _draw_key(sheet: Sheet, *, is_measured: bool, ceilings: Ceilings) -> float:
    """What hollow and filled mean, and what it was measured on; gives where it ends."""
    y, x = BOTTOM + 54, 0.0
    for fill, words in (("white", "on the roof"), (QUIET, "measured"))[: 1 + is_measured]:
        _draw_mark(sheet, x + 6, y - 4, fill, QUIET, "key")
        sheet.text(x + 16, y, words, size=TEXT, colour=QUIET, name="key")
        x += 30 + text_width(words, TEXT)
    stamp = f"{ceilings.device}, {counted(ceilings.threads, 'thread')}, {ceilings.dtype}"
    for line in wrapped(stamp, SMALLEST_TEXT, WIDTH):  # a device may have a long name
        y += LINE
        sheet.text(0, y, line, size=SMALLEST_TEXT, colour=QUIET, name="stamp")
    return y + 2


def _in_words(names: Sequence[str], x: np.ndarray, could: np.ndarray, found: np.ndarray, ceilings: Ceilings) -> str:
    said = []
    for name, intensity, on_roof, measured in zip(names, x, could, found, strict=True):
        own = f"{name} at {in_digits(intensity, 3)} FLOPs per byte could do {with_unit(on_roof, 'FLOP/s')}"
        said.append(own + (f", does {with_unit(measured, 'FLOP/s')}" if measured == measured else ""))
    ridge = in_digits(ceilings.ridge, 3)
    roof = (
        f"The roof rises with {with_unit(ceilings.bytes_per_s, 'B/s')} to {ridge} FLOPs per byte and is flat from "
        f"there, at {with_unit(ceilings.flops_per_s, 'FLOP/s')}."
    )
    return f"{roof} {'; '.join(said)}."


# --- shares -----------------------------------------------------------------------------------------------------------

SHARES_WIDTH = 336  # pixels: it stands below the controls
ROW, THICK = 24, 8
NAMES, BARS, APART = 80, 121, 14  # of the names, of both columns of bars, between them
FIGURES = 40  # of a column, for the number at a bar's end


class _Shares(NamedTuple):
    """A layer's name and kind; its shares of the FLOPs, of the time on the roof, and as measured (NaN: it wasn't)."""

    name: str
    kind: str
    flops: float
    on_roof: float
    measured: float

    @property
    def largest(self) -> float:
        return float(np.nanmax([self.flops, self.on_roof, self.measured]))


def shares_sheet(work: pd.DataFrame, ceilings: Ceilings, times: LayerTimes | None = None) -> Sheet:
    """For each layer its share of the FLOPs, and of the time: on the roof hollow, as measured filled.

    Layers with less than 1 % of all of these are one row, the last.
    """
    seconds = ceilings.least_seconds(work)
    rows = _rows(work, seconds, times)
    sheet = Sheet(SHARES_WIDTH, 62 + ROW * len(rows), "Shares of the FLOPs and of the time", grows=GROWS)
    sheet.text(NAMES, 14, "FLOPs", size=TEXT, bold=True)
    total = f"of {with_unit(2 * int(work.macs.sum()), 'FLOP')}s"
    sheet.text(NAMES, 31, total, size=SMALLEST_TEXT, colour=QUIET, name="total FLOPs")
    left = NAMES + BARS + APART
    sheet.text(left, 14, "time", size=TEXT, bold=True)
    totals = [("white", f"roof: {with_unit(float(seconds.sum()), 's')}")]
    totals += [(QUIET, f"measured: {with_unit(times.parts_seconds, 's')}")] if times is not None else []
    for number, (fill, words) in enumerate(totals):
        _draw_mark(sheet, left + 5, 27 + 16 * number, fill, QUIET, "key")
        sheet.text(left + 14, 31 + 16 * number, words, size=SMALLEST_TEXT, colour=QUIET, name="total time")
    longest = max(row.largest for row in rows)
    for number, row in enumerate(rows):
        _draw_row(sheet, row, 54 + ROW * number, longest)
    sheet.alt = "; ".join(_row_in_words(row) for row in rows) + "."
    return sheet


def _rows(work: pd.DataFrame, seconds: pd.Series, times: LayerTimes | None) -> list[_Shares]:
    measured = [math.nan] * len(work) if times is None else times.layers.share
    flops = work.macs / max(1, work.macs.sum())
    columns = (numbered(work), work.kind, flops, seconds / seconds.sum(), measured)
    every = [_Shares(*row) for row in zip(*columns, strict=True)]
    small = [row for row in every if row.largest < ALMOST_NOTHING]
    if len(small) < 2:  # one needs no other name
        return every
    sums = (math.fsum(getattr(row, name) for row in small) for name in ("flops", "on_roof", "measured"))
    return [*(row for row in every if row not in small), _Shares(f"the rest ({len(small)})", "other", *sums)]


def _draw_row(sheet: Sheet, row: _Shares, top: float, longest: float) -> None:
    colour = KINDS.get(row.kind, KINDS["other"])
    middle = top + ROW / 2
    sheet.text(NAMES - 8, middle + 4, row.name, size=SMALLEST_TEXT, anchor="end", name="name")
    is_measured = row.measured == row.measured
    right = NAMES + BARS + APART
    bars = [("FLOPs", NAMES, middle, row.flops, colour), ("roof", right, middle, row.on_roof, "white")]
    if is_measured:
        bars[1:] = [
            ("roof", right, middle - 5, row.on_roof, "white"),
            ("time", right, middle + 5, row.measured, colour),
        ]
    for what, left, y, value, fill in bars:
        width = value / longest * (BARS - FIGURES)
        if value:
            sheet.box(left, y - THICK / 2, width, THICK, fill, stroke=colour, name=f"{what} bar: {row.name}")
        if what != "roof" or not is_measured:
            sheet.text(left + width + 5, y + 4, percent(value), size=SMALLEST_TEXT, name=f"{what} share: {row.name}")


def _row_in_words(row: _Shares) -> str:
    words = f"{row.name}: {row.flops:.1%} of the FLOPs, {row.on_roof:.1%} of the time on the roof"
    return words + (f", {row.measured:.1%} as measured" if row.measured == row.measured else "")
