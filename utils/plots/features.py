"""What one channel of a convolution does: its filter, its map of an image, and the patches that excite it most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import matplotlib
import numpy as np
from PIL import Image

from utils.plots.sheet import SMALLEST_TEXT, Sheet, below, beside, shortened, wrapped
from utils.plots.style import COLOURS
from utils.words import counted, listed

WIDTH, PATCHES_WIDTH = 450, 450  # pixels, of all maps and of the patches: as much as there is in a narrow window
EDGE = 4  # free at the left and the right, for the frames
SIDE, TOP = 168, 22  # pixels, of the three pictures, and where they begin
WIDER = 24  # pixels that words may take more than the picture over which they stand
GAP = 8  # pixels from one picture to the next: words end before
TILES = (56, 44, 36, 28, 22, 17, 14, 11)  # pixels, of a map among all; the largest that fits into …
GALLERY = 190  # … this height
ROW_NUMBERS = 30  # pixels, for the number of the first map in each row
SLICES = 6  # of a filter that are shown, if it has more than one
PATCH, THUMB, CELL = 84, 52, 149
LEGEND = "red: above 0, blue with −: below"
WORDS = TOP + SIDE + 16  # where they begin, below the pictures
NO_SIGN = 0.15  # of the largest weight: below that a negative one is too pale to need its sign
ORANGE, QUIET = COLOURS["yours"], COLOURS["quiet"]

Rectangle = tuple[int, int, int, int]  # top, left, height, width, in pixels of an image; it may reach over the edge


@dataclass(frozen=True)
class ChannelView:
    """What a channel makes of an image, as plain data.

    image (S, S) or (S, S, 3) uint8; title: what it is. says: what the network takes it for, in lines.
    layer: `conv 2`; reading: `after ReLU`. maps (C, h, w): all of the layer, and `channel` is the one to look at.
    kernel (channels in, k, k), of that channel; limit: the largest weight of the layer, whatever its sign.
    inputs: which slices of the kernel to show, and the channel that each sees; (0,) or (0, 1, 2) with is_first, where
    the kernel looks at the image itself.
    sees: the pixels that the largest number of the map depends on, or None where that isn't known.
    """

    image: np.ndarray = field(repr=False)
    title: str
    says: tuple[str, ...]
    layer: str = ""
    reading: str = ""
    maps: np.ndarray | None = field(default=None, repr=False)
    channel: int = 0
    kernel: np.ndarray | None = field(default=None, repr=False)
    limit: float = 1.0
    slices: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    is_first: bool = False
    sees: Rectangle | None = None


@dataclass(frozen=True)
class Patch:
    """A place that excites a channel: the whole image (S, S) or (S, S, 3) uint8, the part of it that the number sees
    (None: not known), the number, and what the image shows."""

    image: np.ndarray = field(repr=False)
    window: Rectangle | None
    value: float
    name: str


# --- an image, a filter, its map, all maps ----------------------------------------------------------------------------


def channel_view(view: ChannelView) -> Sheet:
    """The image, the channel's filter and its map beside each other; below them all maps of the layer. Four parts.

    Orange are the map's largest number, the pixels of the image that it sees, and the map's frame among the others. In
    the filter red is above 0, blue with a minus below; one that looks at a colour image is a colour picture.
    """
    if view.maps is None:
        pictures, galleries = [_image(view), _nothing()], []
    else:
        pictures, galleries = [_image(view), _filter(view), _map(view)], [_gallery(view)]
    whole = below([beside(pictures, gap=GAP), *galleries], title="What one channel sees")
    whole.parts = (*pictures, *galleries)
    whole.alt = _in_words(view)
    return whole


def _panel(wider: float = WIDER) -> Sheet:
    """For one of the three pictures, and the words below it."""
    return Sheet(2 * EDGE + SIDE + wider, 0)


def _nothing() -> Sheet:
    sheet = _panel()
    words = "This network has none, so there are no filters and no maps to show."
    sheet.height = _column(sheet, "no convolutions", [words], TOP + 12)
    sheet.alt = f"No convolutions. {words}"
    return sheet


def _image(view: ChannelView) -> Sheet:
    sheet = _panel()
    sheet.image(EDGE, TOP, SIDE, SIDE, shrunk(view.image, SIDE, SIDE), name="image")
    if view.sees and view.maps is not None and np.ptp(view.maps[view.channel]):
        _frame(sheet, EDGE, TOP, SIDE / view.image.shape[1], clipped(view.sees, view.image.shape), name="sees")
    sheet.height = _column(sheet, view.title, view.says, WORDS, quiet_from=1)
    sheet.alt = f"{view.title}. {'. '.join(view.says)}."
    return sheet


def _filter(view: ChannelView) -> Sheet:
    sheet = _panel()
    x, size = EDGE, "×".join(map(str, view.kernel.shape[1:]))
    title = f"filter {view.channel} of {view.layer}: {size}"
    if view.is_first and len(view.kernel) == 3:
        _pixels(sheet, x, TOP, SIDE, shrunk(_stretched(view.kernel), SIDE, SIDE), "filter")
        words = ["it looks at red, green and blue: as a colour picture, from its darkest to its brightest"]
    elif len(view.slices) == 1:
        _weights(sheet, x, TOP, SIDE, view.kernel[view.slices[0]], view.limit, "filter")
        of_what = "" if view.is_first else f"it looks at map {view.inputs[0]} of the layer before alone; "
        words = [f"{of_what}weights from {number(view.kernel.min())} to {number(view.kernel.max())}; {LEGEND}"]
    else:
        for i, (part, source) in enumerate(zip(view.slices, view.inputs, strict=True)):
            left, top = x + 58 * (i % 3), TOP + 84 * (i // 3)
            sheet.text(left, top + 10, f"of {source}", size=SMALLEST_TEXT, colour=QUIET, name="slice of")
            _weights(sheet, left, top + 16, 52, view.kernel[part], view.limit, "filter")
        shown, total, first = len(view.slices), len(view.kernel), view.inputs[0]
        which = f"its {total} slices" if shown == total else f"the {shown} strongest of its {total} slices"
        words = [f"{which}; “of {first}” looks at map {first} of the layer before; {LEGEND}"]
    sheet.height = _column(sheet, title, words, WORDS)
    sheet.alt = f"{title}. {words[0]}."
    return sheet


def _map(view: ChannelView) -> Sheet:
    sheet = _panel(wider=0)
    own = view.maps[view.channel]
    x, (height, width) = EDGE, own.shape
    low, high = float(own.min()), float(own.max())
    _pixels(sheet, x, TOP, SIDE, shrunk(grey(own, low, high), SIDE, SIDE), "map")
    title = f"its map: {height}×{width}"
    words = [f"{view.reading}: {number(low)} everywhere"]
    if high > low:
        scale = SIDE / max(height, width)
        row, column = np.unravel_index(own.argmax(), own.shape)
        _frame(sheet, *_corner(x, TOP, SIDE, own.shape), scale, (int(row), int(column), 1, 1), name="largest")
        words = [f"{view.reading}: {number(low)} (black) to {number(high)} (white)"]
    if high > low and view.sees:
        seen = clipped(view.sees, view.image.shape)
        whole = seen[2:] == view.image.shape[:2]
        words.append(
            "the largest (orange) sees " + ("the whole image" if whole else f"{view.sees[2]}×{view.sees[3]} px")
        )
    sheet.height = _column(sheet, title, words, WORDS)
    sheet.alt = f"{title}. {', '.join(words)}."
    return sheet


def _gallery(view: ChannelView) -> Sheet:
    """All maps as one picture, white lines between them, the chosen one framed."""
    sheet, top = Sheet(WIDTH, 0), 0.0
    maps = view.maps
    channels = len(maps)
    room = WIDTH - ROW_NUMBERS - 2 * EDGE
    side = next((s for s in TILES if math.ceil(channels / (room // s)) * s <= GALLERY), TILES[-1])
    columns = min(channels, room // side)
    rows = math.ceil(channels / columns)
    all_of = "The only map" if channels == 1 else f"All {channels} maps"
    title = f"{all_of} of {view.layer}, {view.reading}, on one scale"
    sheet.text(EDGE, top + 13, shortened(title, 13, WIDTH - 2 * EDGE, bold=True), size=13, bold=True)
    top += 24
    picture = mosaic(grey(maps, float(maps.min()), float(maps.max())), columns)
    x, width, height = EDGE + ROW_NUMBERS, columns * side, rows * side
    sheet.image(x, top, width, height, shrunk(picture, width, height), name="all maps")
    for column in range(1, columns):
        sheet.line([(x + column * side, top), (x + column * side, top + height)], "white", width=2)
    for row in range(rows):
        y = top + row * side
        sheet.line([(x, y), (x + width, y)], "white", width=2)
        if side >= SMALLEST_TEXT + 2 or row % 2 == 0:
            words = f"{row * columns}"
            sheet.text(x - 6, y + side / 2 + 4, words, size=SMALLEST_TEXT, colour=QUIET, anchor="end")
    row, column = divmod(view.channel, columns)
    _frame(sheet, x, top, side, (row, column, 1, 1), name="chosen")
    sheet.height, sheet.alt = top + height + 4, f"{title}."
    return sheet


def _in_words(view: ChannelView) -> str:
    words = f"{view.title}. {'. '.join(view.says)}."
    if view.maps is None:
        return f"{words} The network has no convolutions."
    own = view.maps[view.channel]
    kernel, size = "×".join(map(str, view.kernel.shape[1:])), "×".join(map(str, own.shape))
    return (
        f"{words} Filter {view.channel} of {view.layer}, {kernel}, and its map of the image, {size}, {view.reading}, "
        f"from {number(own.min())} to {number(own.max())}. Below, {counted(len(view.maps), 'map')} of the layer."
    )


# --- what excites it --------------------------------------------------------------------------------------------------


def exciting_patches(patches: Sequence[Patch], title: str, note: str) -> Sheet:
    """Up to nine patches in rows of three, the most exciting first; beside each, framed, where it is in its image.

    Light grey: where the number sees over the image's edge. If they are whole images, they stand alone. note: how many
    were searched, or why there are none.
    """
    sheet = Sheet(PATCHES_WIDTH, 0, title=title)
    tiles = [placed(patch.window, patch.image.shape) for patch in patches]
    if any(tile.size != tile.cut[2:] for tile in tiles):
        note = f"{note} Light grey: over the edge of the image."
    y = _column(sheet, title, [note], 34)
    for i, (patch, tile) in enumerate(zip(patches, tiles, strict=True)):
        x, top = EDGE + CELL * (i % 3), y + (PATCH + 24) * (i // 3)
        sheet.box(x, top, PATCH, PATCH, COLOURS["grid"], name="tile")
        rows, columns = (slice(start, start + length) for start, length in zip(tile.cut[:2], tile.cut[2:], strict=True))
        cut, scale = patch.image[rows, columns], PATCH / max(tile.size)
        width, height = tile.cut[3] * scale, tile.cut[2] * scale
        cut = shrunk(cut, PATCH, PATCH)
        sheet.image(x + tile.at[1] * scale, top + tile.at[0] * scale, width, height, cut, name="patch")
        if not tile.is_whole:
            sheet.image(x + PATCH + 6, top, THUMB, THUMB, shrunk(patch.image, THUMB, THUMB), name="whole")
            _frame(sheet, x + PATCH + 6, top, THUMB / patch.image.shape[1], tile.cut, name="where")
        words = shortened(f"{number(patch.value)}  {patch.name}", SMALLEST_TEXT, CELL - 8)
        sheet.text(x, top + PATCH + 14, words, size=SMALLEST_TEXT, name="value")
    sheet.height = y + (PATCH + 24) * math.ceil(len(patches) / 3)
    found = listed([f"{patch.name} ({number(patch.value)})" for patch in patches])
    sheet.alt = f"{title}: {note}{f' They are {found}.' if patches else ''}"
    return sheet


# --- geometry ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """How a patch lies in its tile. size: the tile's (height, width), in the image's pixels; cut: the part of the image
    that is in it; at: (row, column) of the tile where that begins; is_whole: is it all of the image?"""

    size: tuple[int, int]
    cut: Rectangle
    at: tuple[int, int]
    is_whole: bool


def placed(window: Rectangle | None, shape: tuple[int, ...]) -> Placed:
    """The tile for what a number sees of an image (H, W, …): along each side as long as the shorter of the two.

    What lies over the edge stays free. window None: the whole image.
    """
    height, width = shape[:2]
    window = window or (0, 0, height, width)
    cut = clipped(window, shape)
    size = tuple(min(sees, side) for sees, side in zip(window[2:], (height, width), strict=True))
    # Where the field is the longer one, the tile is the image.
    origin = (start if sees <= side else 0 for start, sees, side in zip(window[:2], window[2:], shape, strict=False))
    at = tuple(place - start for place, start in zip(cut[:2], origin, strict=True))
    return Placed(size, cut, at, is_whole=cut == (0, 0, height, width))


def clipped(window: Rectangle, shape: tuple[int, ...]) -> Rectangle:
    """What of the window lies in an image (H, W, …)."""
    starts = [max(0, start) for start in window[:2]]
    ends = [min(s + length, side) for s, length, side in zip(window[:2], window[2:], shape, strict=False)]
    return (*starts, *(max(0, end - start) for start, end in zip(starts, ends, strict=True)))


# --- pixels -----------------------------------------------------------------------------------------------------------


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """As uint8: `low` is black, `high` white; all black if they are equal."""
    return (255 * ((values - low) / ((high - low) or 1)).clip(0, 1)).round().astype(np.uint8)


def red_blue(weights: np.ndarray, limit: float) -> np.ndarray:
    """(h, w) weights as (h, w, 3) uint8: blue for −limit, white for 0, red for limit."""
    shares = (weights / (limit or 1)).clip(-1, 1)
    return _red_blue()[(127.5 * (1 + shares)).round().astype(int)]


@cache
def _red_blue() -> np.ndarray:
    return matplotlib.colormaps["RdBu_r"](np.arange(256) / 255, bytes=True)[:, :3]


def _stretched(kernel: np.ndarray) -> np.ndarray:
    """(3, k, k) as a colour picture (k, k, 3), from its least weight to its largest."""
    return grey(kernel.transpose(1, 2, 0), float(kernel.min()), float(kernel.max()))


def mosaic(maps: np.ndarray, columns: int) -> np.ndarray:
    """(C, h, w) in rows of `columns`: (rows · h, columns · w); white where there are no more."""
    channels, height, width = maps.shape
    rows = math.ceil(channels / columns)
    filled = np.full((rows * columns, height, width), 255, maps.dtype)
    filled[:channels] = maps
    return filled.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def shrunk(pixels: np.ndarray, width: float, height: float) -> np.ndarray:
    """The picture with no more pixels than it has room for: a browser would leave out some, and so what they show."""
    rows, columns = min(pixels.shape[0], round(height)), min(pixels.shape[1], round(width))
    if (rows, columns) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX))


# --- marks ------------------------------------------------------------------------------------------------------------


def _pixels(sheet: Sheet, x: float, y: float, side: float, pixels: np.ndarray, name: str) -> None:
    """In a square of `side`, as large as fits, in its top left corner's middle; with a thin frame."""
    left, top = _corner(x, y, side, pixels.shape)
    width, height = 2 * (x - left) + side, 2 * (y - top) + side
    sheet.image(left, top, width, height, pixels, name=name)
    sheet.box(left, top, width, height, None, stroke=COLOURS["grid"])


def _corner(x: float, y: float, side: float, shape: tuple[int, ...]) -> tuple[float, float]:
    """Left and top of a picture (h, w) in the middle of a square at (x, y)."""
    rows, columns = shape[:2]
    scale = side / max(rows, columns)
    return x + (side - columns * scale) / 2, y + (side - rows * scale) / 2


def _weights(sheet: Sheet, x: float, y: float, side: float, weights: np.ndarray, limit: float, name: str) -> None:
    """A kernel (k, k): red and blue, and a minus in what is blue, so that it can be read in grey."""
    _pixels(sheet, x, y, side, red_blue(weights, limit), name)
    left, top = _corner(x, y, side, weights.shape)
    cell = side / max(weights.shape)
    for row, column in np.argwhere(weights < -NO_SIGN * limit):
        middle, centre = top + (row + 0.5) * cell, left + (column + 0.5) * cell
        colour = "white" if weights[row, column] < -0.6 * limit else COLOURS["ink"]
        sheet.line([(centre - cell / 5, middle), (centre + cell / 5, middle)], colour, width=1.5, name="minus")


def _frame(sheet: Sheet, x: float, y: float, scale: float, window: Rectangle, name: str) -> None:
    """Orange round the window, on white, so that it is seen on any ground; at least 6 pixels wide."""
    top, left, height, width = (scale * length for length in window)
    grown = [max(0.0, 6 - length) / 2 for length in (height, width)]
    box = x + left - grown[1], y + top - grown[0], width + 2 * grown[1], height + 2 * grown[0]
    sheet.box(*box, None, stroke="white", stroke_width=4)
    sheet.box(*box, None, stroke=ORANGE, stroke_width=2, name=name)


def _column(
    sheet: Sheet,
    title: str,
    words: Sequence[str],
    top: float,
    *,
    quiet_from: int = 0,
) -> float:
    """A title at the top, and from `top` on what is to be said, in lines that fit; the height at which they end."""
    x, room = EDGE, sheet.width - 2 * EDGE
    sheet.text(x, 14, shortened(title, 13, room, bold=True), size=13, bold=True, name="title")
    y = top
    for i, sentence in enumerate(words):
        colour = QUIET if i >= quiet_from else COLOURS["ink"]
        for line in filter(None, wrapped(sentence, 12, room)):
            sheet.text(x, y, shortened(line, 12, room), size=12, colour=colour, name="words")
            y += 16
    return y


def number(value: float) -> str:
    """Three digits at least, with a minus as it is printed."""
    return (f"{value:,.0f}" if abs(value) >= 999.5 or value == 0 else f"{value:#.3g}").replace("-", "−")
