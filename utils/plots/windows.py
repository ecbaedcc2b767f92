"""A window that slides over an image: where it stands, what it gives, and the pixels that it never reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from utils.plots.sheet import Sheet, wrapped
from utils.plots.style import COLOURS, CYCLE, readable

if TYPE_CHECKING:
    from utils.stacks import Sliding

WIDTH, GROWS = 450, 1.5  # pixels: as much as there is in a narrow window, and how much larger where there is room
TALLEST = 250  # pixels of the larger grid
LEFT, TOP, GAP, RIGHT = 30, 70, 64, 12  # pixels: for row numbers, above the grids, between them, behind the last
LARGEST = 22  # pixels a side of a cell
LINED, NUMBERED = 5, 17  # cells at least so large have lines round them; have numbers in or beside them
FORMULA = "⌊(n + 2p − k) / s⌋ + 1"
IMAGE, VEIL = "#E6EAEE", 0.28
HATCH = 7  # pixels between lines
COLOUR_OF = {"convolution": COLOURS["convolution"], "pooling": readable(COLOURS["pooling"])}
STRIDE = readable(CYCLE[2])
LOST = COLOURS["warning"]
FORMULA_COLOURS = {"n": COLOURS["ink"], "p": COLOURS["quiet"], "k": COLOURS["convolution"], "s": STRIDE}


def sliding_window(
    window: Sliding, row: int, column: int, *, kind: str = "convolution", come_in: str = "input", go_out: str = "output"
) -> Sheet:
    """The window at place (`row`, `column`) of the output, over what comes in, and that place in what goes out.

    Both to one scale, a square a pixel. Padding is white and hatched, what no window reaches is orange and hatched the
    other way, and a window that would stick out is dashed. kind: "convolution" or "pooling", for the colour. Raises
    ValueError for a place outside of the output.
    """
    for name, place in (("row", row), ("column", column)):
        if not 0 <= place < window.count:
            raise ValueError(f"{name} must be from 0 to {window.count - 1}, got {place}: the output has {window.count}")
    drawing = _Drawing(window, row, column, COLOUR_OF[kind])
    drawing.draw_input(come_in)
    drawing.draw_output(go_out)
    return drawing.finished(kind, come_in, go_out)


class _Drawing:
    def __init__(self, window: Sliding, row: int, column: int, colour: str) -> None:
        self.window, self.row, self.column, self.colour = window, row, column, colour
        self.overhang = 0
        if window.sticking_out is not None:
            self.overhang = window.sticking_out + window.kernel_size - window.size - window.padding
        self.padded = window.size + 2 * window.padding
        cells = self.padded + self.overhang + window.count
        wide = self.padded + self.overhang
        self.cell = min(LARGEST, (WIDTH - 2 * LEFT - GAP - RIGHT) / cells, TALLEST / wide, TALLEST / window.count)
        self.bottom = TOP + self.cell * max(wide, window.count)
        self.sheet = Sheet(WIDTH, self.bottom, grows=GROWS)
        self.output_left = LEFT + self.cell * wide + GAP + LEFT

    def x(self, pixel: float) -> float:
        """Where a pixel of the input begins; its padding has numbers below 0."""
        return LEFT + self.cell * (pixel + self.window.padding)

    def y(self, pixel: float) -> float:
        return TOP + self.cell * (pixel + self.window.padding)

    # --- what comes in --------------------------------------------------------------------------------------------

    def draw_input(self, title: str) -> None:
        size, padding = self.window.size, self.window.padding
        self._heading(LEFT, title, size, f", padding {padding}" if padding else "")
        self._draw_padding()
        self.sheet.box(self.x(0), self.y(0), self.cell * size, self.cell * size, IMAGE, name="image")
        self._draw_unreached()
        self._lines(LEFT, self.padded)
        self.sheet.box(
            self.x(0), self.y(0), self.cell * size, self.cell * size, None, stroke=COLOURS["ink"], stroke_width=1.2,
        )  # fmt: skip
        self._numbers(self.x(0), self.y(0), size, beside=LEFT, above=TOP)
        self._draw_windows()

    def _draw_padding(self) -> None:
        if not (padding := self.window.padding):
            return
        side, width = self.cell * self.padded, self.cell * padding
        self.sheet.box(LEFT, TOP, side, side, "white", stroke=COLOURS["grey"], dash=(3, 2), name="padding")
        if self.cell >= NUMBERED:
            at = [*range(-padding, 0), *range(self.window.size, self.window.size + padding)]
            everywhere = range(-padding, self.window.size + padding)
            for y, x in {(a, b) for a in at for b in everywhere} | {(b, a) for a in at for b in everywhere}:
                self.sheet.text(
                    self.x(x + 0.5), self.y(y + 0.5) + 4, "0", size=11, colour=COLOURS["quiet"], anchor="middle",
                    name="zero",
                )  # fmt: skip
            return
        for x, y, w, h in (
            (LEFT, TOP, side, width), (LEFT, TOP + side - width, side, width),
            (LEFT, TOP + width, width, side - 2 * width), (LEFT + side - width, TOP + width, width, side - 2 * width),
        ):  # fmt: skip
            _hatch(self.sheet, x, y, w, h, COLOURS["grey"], rising=True)

    def _draw_unreached(self) -> None:
        side = self.cell * self.window.size
        for first, last in _runs((*self.window.between, *self.window.beyond)):
            width = self.cell * (last - first + 1)
            for x, y, w, h, name in (
                (self.x(first), self.y(0), width, side, "columns"), (self.x(0), self.y(first), side, width, "rows"),
            ):  # fmt: skip
                self.sheet.box(x, y, w, h, LOST, opacity=VEIL, name=f"unreached {name} {first}–{last}")
                _hatch(self.sheet, x, y, w, h, LOST, rising=False)

    def _draw_windows(self) -> None:
        top, left = self.window.starts[self.row], self.window.starts[self.column]
        side = self.cell * self.window.kernel_size
        if (out := self.window.sticking_out) is not None:
            for x, y, name in ((out, top, "right"), (left, out, "below")):
                self.sheet.box(
                    self.x(x), self.y(y), side, side, None, stroke=LOST, stroke_width=2, dash=(5, 3),
                    name=f"sticks out {name}",
                )  # fmt: skip
        x, y = self.x(left), self.y(top)
        self.sheet.box(x, y, side, side, self.colour, opacity=VEIL)
        self.sheet.box(x, y, side, side, None, stroke=self.colour, stroke_width=2.5, name="window")
        self._measure(x, TOP - 24, side, f"k = {self.window.kernel_size}", self.colour, "kernel")
        step = self.cell * self.window.stride
        self._measure(
            x,
            self.y(self.window.size + self.window.padding + self.overhang) + 10,
            step,
            f"s = {self.window.stride}",
            STRIDE,
            "stride",
        )

    def _measure(self, x: float, y: float, width: float, words: str, colour: str, name: str) -> None:
        """A bar as long as what it stands for, and its letter behind it."""
        for points in (((x, y), (x + width, y)), ((x, y - 4), (x, y + 4)), ((x + width, y - 4), (x + width, y + 4))):
            self.sheet.line(points, colour, width=1.8, name=name)
        self.sheet.text(x + width + 6, y + 4, words, size=12, colour=colour, bold=True)

    # --- what goes out --------------------------------------------------------------------------------------------

    def draw_output(self, title: str) -> None:
        left, side = self.output_left, self.cell * self.window.count
        self._heading(left, title, self.window.count, "")
        middle = TOP + min(side, self.cell * self.padded) / 2
        tip = left - LEFT - 8
        self.sheet.line(((tip - 34, middle), (tip, middle)), COLOURS["quiet"], width=2)
        self.sheet.line(((tip - 7, middle - 6), (tip, middle), (tip - 7, middle + 6)), COLOURS["quiet"], width=2)
        self.sheet.box(left, TOP, side, side, IMAGE, name="output")
        self._lines(left, self.window.count)
        self.sheet.box(left, TOP, side, side, None, stroke=COLOURS["ink"], stroke_width=1.2)
        self._numbers(left, TOP, self.window.count, beside=left, above=TOP)
        x, y = left + self.cell * self.column, TOP + self.cell * self.row
        self.sheet.box(x, y, self.cell, self.cell, self.colour, stroke=self.colour, stroke_width=2, name="output place")

    # --- both -----------------------------------------------------------------------------------------------------

    def _heading(self, x: float, title: str, side: int, more: str) -> None:
        self.sheet.text(x, 18, title, size=13, bold=True)
        self.sheet.text(x, 34, f"{side}×{side}{more}", size=12, colour=COLOURS["quiet"])

    def _lines(self, left: float, cells: int) -> None:
        if self.cell < LINED:
            return
        side = self.cell * cells
        for place in (self.cell * n for n in range(1, cells)):
            self.sheet.line(((left + place, TOP), (left + place, TOP + side)), "white", name="grid")
            self.sheet.line(((left, TOP + place), (left + side, TOP + place)), "white", name="grid")

    def _numbers(self, left: float, top: float, cells: int, *, beside: float, above: float) -> None:
        """Of rows and columns: of all where there is room, or of the first and the last."""
        look = {"size": 11, "colour": COLOURS["quiet"]}
        for n in range(cells) if self.cell >= NUMBERED else sorted({0, cells - 1}):
            middle = self.cell * (n + 0.5)
            self.sheet.text(left + middle, above - 5, f"{n}", anchor="middle", name="column number", **look)
            self.sheet.text(beside - 5, top + middle + 4, f"{n}", anchor="end", name="row number", **look)

    def finished(self, kind: str, come_in: str, go_out: str) -> Sheet:
        """With what it shows in words below it."""
        window, sheet = self.window, self.sheet
        rows, columns = (self._pixels(name, place) for name, place in (("row", self.row), ("column", self.column)))
        where = f"{go_out}[{self.row}, {self.column}] looks at {rows} and {columns} of the {come_in}."
        lost = window.in_words()
        y = self.bottom + 27
        is_wrong = window.num_unreached or window.num_blind
        for name, words in (("where", where), ("lost", lost)):
            colour = readable(LOST) if is_wrong and name == "lost" else COLOURS["ink"]
            for line in wrapped(words, 12, WIDTH):
                y += 17
                sheet.text(0, y, line, size=12, colour=colour, name=name)
        sheet.height = y + 6
        sheet.title = f"{kind}: {come_in} {window.size}×{window.size} → {go_out} {window.count}×{window.count}"
        sheet.alt = (
            f"A window of {window.kernel_size}×{window.kernel_size} slides over {window.size}×{window.size} pixels "
            f"with padding {window.padding}, {window.stride} at a time, and gives {window.count}×{window.count} "
            f"numbers. {where} {lost}"
        )
        return sheet

    def _pixels(self, name: str, place: int) -> str:
        """`rows −1 to 3`, `column 4`."""
        first = self.window.starts[place]
        last = first + self.window.kernel_size - 1
        return (f"{name} {first}" if first == last else f"{name}s {first} to {last}").replace("-", "−")


def shape_formulas(stages: Mapping[str, Sliding]) -> Sheet:
    """The lesson's formula for each stage of that name, with its numbers put in: what stands above the drawing."""
    sheet = Sheet(WIDTH, 22 * (1 + len(stages)), title="The formula")
    for number, (name, formula) in enumerate({"": FORMULA, **{n: w.formula for n, w in stages.items()}}.items()):
        y = 16 + 22 * number
        sheet.text(0, y, name, size=13, bold=True)
        sheet.text(100, y, formula, size=13, colour=COLOURS["ink" if name else "quiet"], name=f"formula {name}")
    sheet.alt = " ".join(f"{name}: {window.formula}." for name, window in stages.items())
    return sheet


def _runs(numbers: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours: (1, 2, 3, 7) is (1, 3), (7, 7)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _hatch(sheet: Sheet, x: float, y: float, width: float, height: float, colour: str, *, rising: bool) -> None:
    """Slanting lines within a rectangle; lines of neighbouring rectangles go on into each other."""
    slope = 1 if rising else -1  # each line is where a + slope·b is a multiple of HATCH, a and b the coordinates
    corners = [a + slope * b for a in (x, x + width) for b in (y, y + height)]
    n = int(min(corners) // HATCH) + 1
    while (c := n * HATCH) < max(corners):
        a_from = max(x, min(c - slope * y, c - slope * (y + height)))
        a_to = min(x + width, max(c - slope * y, c - slope * (y + height)))
        sheet.line(((a_from, slope * (c - a_from)), (a_to, slope * (c - a_to))), colour, width=0.8, name="hatch")
        n += 1
