"""Drawings that are made anew at every turn of a knob: a list of marks, written as SVG in a few milliseconds.

A matplotlib figure takes 70 to 80 ms before anything is in it, and an explorer shows several. So what changes while a
student drags a slider is a `Sheet`. A page that is read and not run shows the same marks as a PNG, which every reader
can show: `Sheet.figure` draws them with matplotlib.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, TypeAlias

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from PIL import Image

from utils.plots.style import COLOURS, CSS_DPI, LessonFigure, style

WIDER = 1.06  # times the outlines’ width, that small letters may take: browsers fit each of them to the pixels
SMALLEST_TEXT = 11  # pixels, in a widget
FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"  # matplotlib brings along the first; it is the widest, too
ANCHORS = {"start": "left", "middle": "center", "end": "right"}


@dataclass(frozen=True)
class Box:
    """A rectangle. All lengths are pixels, x from the left, y from the top."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None
    stroke: str | None = None
    stroke_width: float = 1.0
    dash: tuple[float, ...] = ()
    opacity: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Words:
    """A line of text: (x, y) is where its baseline begins ("start"), has its middle, or ends."""

    x: float
    y: float
    words: str
    size: float = 12
    colour: str = COLOURS["ink"]
    anchor: str = "start"
    bold: bool = False
    name: str = ""


@dataclass(frozen=True)
class Stroke:
    """A line through points (N, 2)."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Pixels:
    """An image (H, W) or (H, W, 3) of uint8, each pixel a square: never smoothed."""

    x: float
    y: float
    width: float
    height: float
    pixels: np.ndarray = field(repr=False)
    name: str = ""


Mark: TypeAlias = "Box | Words | Stroke | Pixels"


@dataclass
class Sheet:
    """`width` × `height` pixels with marks on them, the first below. title, alt: what it shows, in words.

    grows: how many times its own size it is shown, where there is room. parts: sheets that stand side by side on it; an
    explorer shows them one below the other where there is no room.
    """

    width: float
    height: float
    title: str = ""
    alt: str = ""
    grows: float = 1.0
    marks: list[Mark] = field(default_factory=list)
    parts: tuple[Sheet, ...] = ()

    # --- marks ----------------------------------------------------------------------------------------------------

    def box(self, x: float, y: float, width: float, height: float, fill: str | None, **look: Any) -> None:
        self.marks.append(Box(x, y, width, height, fill, **look))

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        self.marks.append(Words(x, y, words, **look))

    def line(self, points: Sequence[tuple[float, float]], colour: str, **look: Any) -> None:
        self.marks.append(Stroke(tuple((float(x), float(y)) for x, y in points), colour, **look))

    def image(self, x: float, y: float, width: float, height: float, pixels: np.ndarray, name: str = "") -> None:
        self.marks.append(Pixels(x, y, width, height, np.asarray(pixels, np.uint8), name))

    def head(self, title: str, size: float = 14) -> None:
        """Write `title` in bold at the top, in as many lines as it takes.

        What is drawn already leaves room for one of them, and moves down for the others.
        """
        lines = wrapped(title, size, self.width, is_bold=True) if title else []
        below_them = (size + 4) * max(0, len(lines) - 1)
        self.marks = [_moved(mark, 0, below_them) for mark in self.marks]
        self.height += below_them
        for number, line in enumerate(lines):
            self.text(0, size + 1 + (size + 4) * number, line, size=size, bold=True, name="title")

    def named(self, beginning: str) -> list[Mark]:
        """The marks whose name begins so."""
        return [mark for mark in self.marks if mark.name.startswith(beginning)]

    def words(self) -> list[str]:
        """All that is written, in the order in which it was."""
        return [mark.words for mark in self.marks if isinstance(mark, Words)]

    # --- SVG ------------------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """As wide as there is room, and no wider than it may; on white, so that it can be read in dark themes."""
        body = "".join(map(_svg, self.marks))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {_n(self.width)} {_n(self.height)}" '
            f'width="{_n(self.width)}" height="{_n(self.height)}" font-family="{FONT}" '
            f'style="width:100%;max-width:{_n(self.grows * self.width)}px;height:auto;display:block;background:white">'
            f"<title>{escape(self.title)}</title><desc>{escape(self.alt)}</desc>{body}</svg>"
        )

    # --- for who reads and doesn't run ----------------------------------------------------------------------------

    @style()
    def figure(self) -> LessonFigure:
        """The same marks as a figure of this course, of the same size on the page."""
        figure = LessonFigure(self.width / CSS_DPI, self.height / CSS_DPI)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.set_axis_off()
        for order, mark in enumerate(self.marks):
            _draw(axes, mark, order)
        figure.title, figure.alt = self.title, self.alt
        return figure


def beside(sheets: Sequence[Sheet], *, gap: float = 24, title: str | None = None) -> Sheet:
    """The sheets side by side on one, their tops in line."""
    whole = Sheet(
        width=sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1),
        height=max(sheet.height for sheet in sheets),
    )
    left = 0.0
    for sheet in sheets:
        whole.marks += [_moved(mark, left, 0) for mark in sheet.marks]
        left += sheet.width + gap
    whole.parts = tuple(part for sheet in sheets for part in (sheet.parts or (sheet,)))
    return _joined(whole, sheets, title)


def below(sheets: Sequence[Sheet], *, gap: float = 16, title: str | None = None) -> Sheet:
    """The sheets one below the other on one, their left edges in line."""
    whole = Sheet(
        width=max(sheet.width for sheet in sheets),
        height=sum(sheet.height for sheet in sheets) + gap * (len(sheets) - 1),
    )
    top = 0.0
    for sheet in sheets:
        whole.marks += [_moved(mark, 0, top) for mark in sheet.marks]
        top += sheet.height + gap
    return _joined(whole, sheets, title)


def _joined(whole: Sheet, sheets: Sequence[Sheet], title: str | None) -> Sheet:
    whole.title = title or "; ".join(filter(None, (sheet.title for sheet in sheets)))
    whole.alt = " ".join(filter(None, (sheet.alt for sheet in sheets)))
    return whole


def _moved(mark: Mark, dx: float, dy: float) -> Mark:
    if isinstance(mark, Stroke):
        return Stroke(tuple((x + dx, y + dy) for x, y in mark.points), mark.colour, mark.width, mark.dash, mark.name)
    return type(mark)(**{**vars(mark), "x": mark.x + dx, "y": mark.y + dy})


# A letter's width in hundredths of the text's size. Measured once; kerning is left out.
_widths: dict[tuple[str, bool], float] = {}


def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """About how many pixels wide `words` are: in DejaVu Sans, which is wider than what most browsers have."""
    for letter in {*words} - {known for known, is_bold in _widths if is_bold == bold}:
        font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
        # Between two others: a space alone has no outline.
        pair, three = (
            TextPath((0, 0), text, size=100, prop=font).get_extents().width for text in ("||", f"|{letter}|")
        )
        _widths[letter, bold] = (three - pair) / 100
    return size * sum(_widths[letter, bold] for letter in words)


BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|×|px|[mµ]?s|[kMGT]|[kMGT]?B(?:/s)?|[kMGT]?FLOP(?:s|/s)?)(?!\w))")


def wrapped(words: str, size: float, width: float, *, wider: float = WIDER, is_bold: bool = False) -> list[str]:
    """`words` in lines of at most `width` pixels; a single word that is wider stands alone. A unit stays by its number.

    wider: times the outlines' width, that letters may take.
    """
    lines = [""]
    for word in re.split(r"[ \n]+", BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", words.strip())):
        longer = f"{lines[-1]} {word}".strip(" ")
        if not lines[-1] or wider * text_width(longer, size, bold=is_bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def shortened(words: str, size: float, width: float, *, bold: bool = False) -> str:
    """`words`, or as much of them as `width` pixels hold, ending in …"""
    if WIDER * text_width(words, size, bold=bold) <= width:
        return words
    while words and WIDER * text_width(f"{words}…", size, bold=bold) > width:
        words = words[:-1].rstrip()
    return f"{words}…"


# --- a mark as SVG ----------------------------------------------------------------------------------------------------


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _svg(mark: Mark) -> str:
    match mark:
        case Box():
            return (
                f'<rect x="{_n(mark.x)}" y="{_n(mark.y)}" width="{_n(mark.width)}" height="{_n(mark.height)}" '
                f'fill="{mark.fill or "none"}"{_stroke(mark.stroke, mark.stroke_width, mark.dash)}'
                + (f' opacity="{_n(mark.opacity)}"' if mark.opacity != 1 else "")
                + "/>"
            )
        case Words():
            bold = ' font-weight="bold"' if mark.bold else ""
            anchor = f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
            return (
                f'<text x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{_n(mark.size)}" fill="{mark.colour}"'
                f"{anchor}{bold}>{escape(mark.words)}</text>"
            )
        case Stroke():
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in mark.points)
            return f'<polyline points="{points}" fill="none"{_stroke(mark.colour, mark.width, mark.dash)}/>'
        case Pixels():
            return (
                f'<image x="{_n(mark.x)}" y="{_n(mark.y)}" width="{_n(mark.width)}" height="{_n(mark.height)}" '
                f'preserveAspectRatio="none" style="image-rendering:pixelated" href="{png_address(mark.pixels)}"/>'
            )
    raise TypeError(f"a mark must be a Box, Words, a Stroke or Pixels, got {mark!r}")


def _stroke(colour: str | None, width: float, dash: tuple[float, ...]) -> str:
    if colour is None:
        return ""
    dashes = f' stroke-dasharray="{" ".join(map(_n, dash))}"' if dash else ""
    return f' stroke="{colour}" stroke-width="{_n(width)}"{dashes}'


def png_address(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as a PNG in a data: address."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


# --- a mark in matplotlib ---------------------------------------------------------------------------------------------


def _draw(axes: Any, mark: Mark, order: int) -> None:
    points = 72 / CSS_DPI  # of a pixel
    look = {"zorder": order, "gid": mark.name or None}
    match mark:
        case Box():
            dashes = {"linestyle": (0, tuple(d / max(mark.stroke_width, 0.1) for d in mark.dash))} if mark.dash else {}
            axes.add_patch(
                Rectangle(
                    (mark.x, mark.y), mark.width, mark.height, facecolor=mark.fill or "none", alpha=mark.opacity,
                    edgecolor=mark.stroke or "none", linewidth=mark.stroke_width * points * bool(mark.stroke),
                    **dashes, **look,
                )
            )  # fmt: skip
        case Words():
            axes.text(
                mark.x, mark.y, mark.words, size=mark.size * points, color=mark.colour,
                ha=ANCHORS[mark.anchor], va="baseline", weight="bold" if mark.bold else "normal", **look,
            )  # fmt: skip
        case Stroke():
            x, y = zip(*mark.points, strict=True)
            line = Line2D(x, y, color=mark.colour, linewidth=mark.width * points, **look)
            if mark.dash:
                line.set_dashes([d / max(mark.width, 0.1) for d in mark.dash])
            axes.add_line(line)
        case Pixels():
            grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if mark.pixels.ndim == 2 else {}
            extent = (mark.x, mark.x + mark.width, mark.y + mark.height, mark.y)
            axes.imshow(mark.pixels, extent=extent, interpolation="nearest", aspect="auto", **grey, **look)
