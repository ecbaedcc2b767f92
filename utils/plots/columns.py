"""A network as columns, one a layer, and beneath each all that is known about it: what it costs and what it sees.

Drawn as sheets, in a few milliseconds: an explorer draws them anew at each turn of a knob.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.plots.sheet import Sheet, text_width, wrapped
from utils.plots.style import COLOURS, readable, to_array
from utils.words import counted, listed, percent, plain

if TYPE_CHECKING:
    from utils.profiling import Profile

WIDTH = 460  # pixels: so many an output has in a narrow window; where there is room, all grows
GROWS = 1.4
LEFT = 74  # for the rows' names
GAP = 8  # between blocks
WIDEST = 40  # of a column
TEXT = 12
TALL, LOW = 100, 30  # of the drawing, of a row of bars
FILLED = 0.78  # of a column, by the widest layer
LOOKS = {"conv": COLOURS["convolution"], "pool": COLOURS["pooling"], "dense": COLOURS["dense"]}
ROWS = {"parameters": "parameters", "macs": "MACs", "activation_bytes": "memory"}
ORANGE = readable(COLOURS["warning"])


# --- what there is to draw --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A convolution, a pooling layer or a dense layer, with the norm and activation behind it."""

    block: int | str  # 1, 2, … or "head"
    kind: str  # "conv", "pool" or "dense"
    layer: str  # as in the profile: `3×3, 64 → 64`
    width: int  # channels, or units
    side: int  # of its maps in pixels; 1 for a dense layer
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: int | None  # side in pixels; None for a dense layer, which sees all


def columns_of(profile: Profile) -> list[Column]:
    """The columns of a network with flat `features`; what stands between two of them counts to the one before."""
    columns: list[Column] = []
    for row in profile.layers.itertuples():
        costs = {name: int(getattr(row, name)) for name in ROWS}
        if row.kind in LOOKS and not (row.kind == "pool" and _does_nothing(row, columns)):
            is_map = len(row.output_shape) == 3
            columns.append(
                Column(
                    block=row.block,
                    kind=row.kind,
                    layer=row.layer,
                    width=row.output_shape[0],
                    side=row.output_shape[1] if is_map else 1,
                    receptive_field=int(row.receptive_field) if is_map and row.receptive_field == row.receptive_field
                    else None,
                    **costs,
                )
            )  # fmt: skip
        elif columns:
            last = columns[-1]
            columns[-1] = Column(**{**vars(last), **{name: costs[name] + getattr(last, name) for name in costs}})
    return columns


def _does_nothing(row: Any, columns: Sequence[Column]) -> bool:
    """Average pooling to the size that the maps have already."""
    return bool(columns) and row.block == "head" and row.output_shape[1:] == (columns[-1].side,) * 2


# --- the drawing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A column and where it stands: its left edge and its width, in pixels."""

    column: Column
    left: float
    room: float

    @property
    def middle(self) -> float:
        return self.left + self.room / 2


def network_columns(profile: Profile, *, title: str, notes: Sequence[str] = ()) -> Sheet:
    """One column a layer: the maps to scale, shares of parameters, MACs and memory as bars, what one number sees.

    Heights: the square roots of the maps' sides, or of a dense layer's units; widths: those of the channels. Blue is a
    convolution, light blue pooling, orange a dense layer. memory: what the layer newly writes. notes: lines below.
    """
    columns = columns_of(profile)
    image_side = profile.input_shape[-1]
    placed = list(_places(columns))
    sheet = Sheet(WIDTH, 0, title, grows=GROWS)
    top = 0
    for line in wrapped(title, 15, WIDTH / 1.1):  # bold is wider
        top += 19
        sheet.text(0, top, line, size=15, bold=True, name="title")
    bottom = _draw_maps(sheet, placed, image_side, top=top + 28)
    for attribute, name in ROWS.items():
        bottom = _draw_shares(sheet, placed, attribute, name, top=bottom + 20)
    bottom = _write_fields(sheet, placed, image_side, top=bottom + 10)
    bottom = _draw_brackets(sheet, placed, top=bottom + 8)
    bottom += 4
    warnings = _warnings(columns, image_side)
    for note in (*notes, *warnings):
        for line in wrapped(note, TEXT, WIDTH):
            bottom += 17
            colour = ORANGE if note in warnings else COLOURS["ink"]
            sheet.text(0, bottom, line, size=TEXT, colour=colour, name="note")
    sheet.height = bottom + 8
    sheet.alt = " ".join([*_in_words(columns, image_side), *notes, *warnings])
    return sheet


def _places(columns: Sequence[Column]) -> Iterator[Placed]:
    blocks = list(dict.fromkeys(column.block for column in columns))
    room = min(WIDEST, (WIDTH - LEFT - GAP * (len(blocks) - 1)) / len(columns))
    left = float(LEFT)
    for block, own in groupby(columns, key=lambda column: column.block):
        left += GAP * (block != columns[0].block)
        for column in own:
            yield Placed(column, left, room)
            left += room


class _Line:
    """A line of texts in the middle of columns: one that has no room beside those that are there isn't written."""

    def __init__(self, sheet: Sheet, *, name: str, **look: Any) -> None:
        self.sheet, self.name, self.look = sheet, name, look
        self.taken: list[tuple[float, float]] = []

    def write(self, middle: float, y: float, words: str, **look: Any) -> None:
        half = text_width(words, TEXT) / 2
        middle = min(max(middle, LEFT + half), WIDTH - half)
        if all(middle + half + 3 < left or middle - half - 3 > right for left, right in self.taken):
            self.taken.append((middle - half, middle + half))
            self.sheet.text(middle, y, words, size=TEXT, anchor="middle", name=self.name, **{**self.look, **look})


def _draw_maps(sheet: Sheet, placed: Sequence[Placed], image_side: int, top: float) -> float:
    """The layers to scale, their channels or units above, their sides below; where they end."""
    maps = [p.column for p in placed if p.column.kind != "dense"]
    most_channels = max((c.width for c in maps), default=1)
    most_units = max((p.column.width for p in placed if p.column.kind == "dense"), default=1)
    base = top + TALL
    heights = []
    for i, p in enumerate(placed):
        if p.column.kind == "dense":
            width, height = FILLED / 3 * p.room, 0.7 * TALL * math.sqrt(p.column.width / most_units)
        else:
            width = FILLED * p.room * math.sqrt(p.column.width / most_channels)
            height = TALL * math.sqrt(p.column.side / image_side)
        heights.append(max(height, 1.5))
        width = max(width, 2)
        look = LOOKS[p.column.kind]
        name = f"layer {i + 1}: {p.column.kind}"
        sheet.box(p.middle - width / 2, base - heights[-1], width, heights[-1], look, name=name)
    above, below = _Line(sheet, name="width"), _Line(sheet, name="side", colour=COLOURS["quiet"])
    for first, last in _runs(placed):
        middles = [placed[i].middle for i in range(first, last + 1)]
        column, y = placed[first].column, base - max(heights[first : last + 1]) - 6
        if text_width(f"{column.width:,}", TEXT) + 4 > placed[first].room or column.kind == "pool":
            middles = [(middles[0] + middles[-1]) / 2]  # one for all of them
        for middle in middles:
            if column.kind != "pool":
                above.write(middle, y, f"{column.width:,}")
    for is_pool in (False, True):  # convolutions first
        for first, last in _runs(placed):
            if placed[first].column.kind != "dense" and (placed[first].column.kind == "pool") == is_pool:
                middle = (placed[first].middle + placed[last].middle) / 2
                below.write(middle, base + 15, f"{placed[first].column.side}²")
    sheet.text(0, top + 10, "channels,", size=TEXT, name="row")
    sheet.text(0, top + 25, "units", size=TEXT, name="row")
    sheet.text(0, base + 15, "side, px", size=TEXT, colour=COLOURS["quiet"], name="row")
    return base + 18


def _runs(placed: Sequence[Placed]) -> Iterator[tuple[int, int]]:
    """First and last of neighbours in one block that are alike."""

    def look(i: int) -> tuple[Any, ...]:
        column = placed[i].column
        return column.block, column.kind, column.width, column.side

    for _, same in groupby(range(len(placed)), key=look):
        own = list(same)
        yield own[0], own[-1]


def _draw_shares(sheet: Sheet, placed: Sequence[Placed], attribute: str, name: str, top: float) -> float:
    """A row of bars; the largest have their share written over them, as far as there is room."""
    values = [getattr(p.column, attribute) for p in placed]
    total, largest = sum(values) or 1, max(values) or 1
    base = top + LOW
    sheet.text(0, base - 4, name, size=TEXT, name="row")
    sheet.line([(LEFT, base), (WIDTH, base)], COLOURS["grid"])
    shares = _Line(sheet, name=f"{name}, share")
    for i in sorted(range(len(placed)), key=lambda i: -values[i]):
        p, height = placed[i], LOW * values[i] / largest
        if values[i]:
            look = LOOKS[p.column.kind]
            width = FILLED * p.room
            sheet.box(p.middle - width / 2, base - height, width, height, look, name=f"{name} of layer {i + 1}")
        if values[i] > 0.45 * largest:
            shares.write(p.middle, base - height - 4, percent(values[i] / total, 0))
    return base


def _write_fields(sheet: Sheet, placed: Sequence[Placed], image_side: int, top: float) -> float:
    """How many pixels one number sees, of each convolution, or of each block's last where columns are narrow."""
    base = top + 12
    sheet.text(0, base, "sees, px", size=TEXT, name="row")
    line = _Line(sheet, name="field")
    last_of = {p.column.block: i for i, p in enumerate(placed) if p.column.kind == "conv"}
    for i in sorted(range(len(placed)), key=lambda i: i not in last_of.values()):  # each block's last first
        field = placed[i].column.receptive_field
        if placed[i].column.kind == "conv" and field is not None:
            look = {"colour": ORANGE, "bold": True} if field >= image_side else {}
            line.write(placed[i].middle, base, f"{field:,}", **look)
    return base


def _draw_brackets(sheet: Sheet, placed: Sequence[Placed], top: float) -> float:
    names = _Line(sheet, name="bracket", colour=COLOURS["quiet"])
    for block, group in groupby(placed, key=lambda p: p.column.block):
        own = list(group)
        left, right = own[0].left + 2, own[-1].left + own[-1].room - 2
        sheet.line([(left, top), (right, top)], COLOURS["grey"], width=1.5, name=f"bracket of {block}")
        words = block if block == "head" else f"block {block}"
        if text_width(words, TEXT) > right - left + GAP and block != "head":
            words = f"{block}"
        names.write((left + right) / 2, top + 16, words)
    return top + 18


def _warnings(columns: Sequence[Column], image_side: int) -> list[str]:
    for column in columns:
        if column.kind == "conv" and column.receptive_field is not None and column.receptive_field >= image_side:
            return [f"From block {column.block} on, one number sees the whole {image_side}×{image_side} image."]
    return []


def _in_words(columns: Sequence[Column], image_side: int) -> list[str]:
    """Block by block, for who can't see the drawing."""
    words = [f"{image_side}×{image_side} image."]
    for block, group in groupby(columns, key=lambda column: column.block):
        own = list(group)
        convs = [column for column in own if column.kind == "conv"]
        parts = [f"{column.layer}" for column in own if column.kind != "pool"]
        shares = ", ".join(
            f"{sum(getattr(c, attribute) for c in own) / (sum(getattr(c, attribute) for c in columns) or 1):.0%} of "
            f"the {name}"
            for attribute, name in ROWS.items()
        )
        sees = f"; sees {counted(convs[-1].receptive_field, 'pixel')}" if convs and convs[-1].receptive_field else ""
        name = "head" if block == "head" else f"block {block}"
        words.append(f"{name}: {'; '.join(parts)}; maps of {own[-1].side}×{own[-1].side}{sees}; {shares}.")
    return words


# --- totals -----------------------------------------------------------------------------------------------------------


def short(number: float) -> str:
    """Three digits and a prefix: `61.7 k`, `2.53 M`, `15.5 G`."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g} {prefix}" if abs(number) < 999.5 * size else f"{number / size:,.0f} {prefix}"
    return f"{number:,.0f}"


def times(value: float, reference: float) -> str:
    """`0.6 ×`, `0.000012 ×`, `13 ×`: two digits; three near 1, where two would hide what differs: `1.04 ×`."""
    ratio = value / reference
    if ratio >= 10:
        return f"{ratio:,.0f} ×"
    return f"{plain(ratio, 3 if 0.95 <= ratio < 1.05 else 2)} ×"


def totals(
    profile: Profile, *, weight_layers: int, batch_size: int, reference: Profile | None = None, of: str = ""
) -> list[str]:
    """A network's totals as lines of text; and, with a reference called `of`, how many times its they are."""
    memory = profile.training_memory(batch_size).total
    lines = [
        f"{short(profile.total.parameters)} parameters · {short(profile.total.macs)} MACs an image · "
        f"{weight_layers} weight layers · {short(memory)}B to train a batch of {batch_size}"
    ]
    if reference is not None:
        theirs = reference.training_memory(batch_size).total
        ratios = [
            f"{times(profile.total.parameters, reference.total.parameters)} the parameters",
            f"{times(profile.total.macs, reference.total.macs)} the MACs",
            f"{times(memory, theirs)} the memory",
        ]
        lines.append(f"Against {of}: {listed(ratios)}.")
    return lines


# --- what it sees -----------------------------------------------------------------------------------------------------

PICTURE = 196  # pixels on the screen
DASHES = ((), (8, 4), (2, 3), (10, 3, 2, 3), (5, 5))  # by which the squares are told apart, in grey too


def fields_over_image(profile: Profile, image: Any) -> Sheet:
    """Over an image (S, S) of uint8: the square that a number in the middle of each block's last map sees.

    What is as large as the image or larger is drawn at its edge.
    """
    pixels = to_array(image).astype(np.uint8)
    side = profile.input_shape[-1]
    if pixels.shape != (side, side):
        raise ValueError(f"image must be what the network sees, ({side}, {side}) of uint8, got shape {pixels.shape}")
    fields = {
        column.block: column.receptive_field
        for column in columns_of(profile)
        if column.kind == "conv" and column.receptive_field is not None
    }  # the last of each block stays
    rows = max(len(fields), 1)
    words = {b: f"block {b}: {f}×{f}" + (", all of it" if f >= side else "") for b, f in fields.items()}
    for_words = max((text_width(line, TEXT) for line in words.values()), default=0)
    sheet = Sheet(PICTURE + 52 + for_words, max(PICTURE, 24 * rows + 12) + 30, "What one number sees")
    sheet.text(0, 16, "What one number in the middle sees", size=13, bold=True, name="title")
    top, scale = 26.0, PICTURE / side
    sheet.image(0, top, PICTURE, PICTURE, pixels, name="image")
    for i, (block, field) in enumerate(fields.items()):
        shown = min(field, side)
        left = (side - shown) // 2 * scale
        frame = shown * scale
        inset = 1.5
        look = {"stroke": COLOURS["yours"], "stroke_width": 2.5, "dash": DASHES[i % len(DASHES)]}
        inner = frame - 2 * inset
        halo = look | {"stroke": "white", "stroke_width": 5}  # orange alone is lost on a grey garment
        sheet.box(left + inset, top + left + inset, inner, inner, None, name="halo", **halo)
        sheet.box(left + inset, top + left + inset, inner, inner, None, name=f"field of block {block}", **look)
        y = top + 16 + 24 * i
        sheet.line(
            [(PICTURE + 12, y - 4), (PICTURE + 44, y - 4)], look["stroke"], width=2.5, dash=look["dash"],
            name=f"key of block {block}",
        )  # fmt: skip
        sheet.text(PICTURE + 50, y, words[block], size=TEXT, name="field")
    sheet.alt = (
        f"A {side}×{side} image with the squares that one number sees: "
        + "; ".join(f"block {block} {field}×{field} pixels" for block, field in fields.items())
        + "."
    )
    return sheet
