"""What all figures share: colours by role, the style file, and a figure that shows itself and says what it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image

from utils.checks import shown

STYLE_FILE = Path(__file__).parents[1] / "bigger_deeper.mplstyle"
COLOURS = {  # Okabe and Ito's, by role
    "convolution": "#0072B2",
    "pooling": "#56B4E9",
    "dense": "#E69F00",
    "yours": "#D55E00",
    "warning": "#D55E00",
    "ink": "#24292F",
    "quiet": "#6A7178",  # text of less weight; 4.9 : 1 on white
    "grey": "#8A9099",
    "grid": "#DDE0E4",
}
# For curves of equal rank, told apart by marker as well.
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#24292F")

WIDTH = 9.0  # inches, of most figures
SCREEN_DPI = 144  # pixels an inch of the picture in a notebook …
MOST_COLOURS = 8192  # in a picture that is drawn; a photograph has more
CSS_DPI = 96  # … that is shown at this many, so that 12 pt are 16 CSS pixels, and sharp


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings are the defaults and the style file; then the student's own come back. Also a decorator."""
    with matplotlib.style.context(STYLE_FILE, after_reset=True):
        yield


class LessonFigure(Figure):
    """A matplotlib figure that a notebook shows when it is a cell's last value, and that has alternative text.

    pyplot doesn't know it, so nothing shows it a second time, and it is freed when its name is.
    """

    def __init__(self, width: float = WIDTH, height: float = 5.6) -> None:
        """`width` and `height` in inches."""
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)
        self.title = ""
        self.alt = ""
        self._is_laid_out = False

    def lay_out(self) -> None:
        """Give everything its place, for good: matplotlib would move it a little each time the figure is drawn."""
        if not self._is_laid_out:
            self.draw_without_rendering()
            self.set_layout_engine("none")
            self._is_laid_out = True

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's, in our style: some settings count only when a figure is drawn."""
        with style():
            self.lay_out()
            super().savefig(fname, **options)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """What IPython (7 and later) shows: a PNG, its size on the page, its alternative text."""
        _outrank_inline_backend()
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=SCREEN_DPI)
        width, height = (round(inches * CSS_DPI) for inches in self.get_size_inches())
        data = {"image/png": base64.b64encode(compact(png.getvalue())).decode(), "text/plain": f"<figure: {self.alt}>"}
        return data, {"image/png": {"width": width, "height": height, "alt": self.alt}}


def compact(png: bytes) -> bytes:
    """The same picture in a third of the bytes, with a palette of 256 colours: a notebook holds a dozen, and has to
    stay below a megabyte. What differs is shades along the edges of lines and letters. A photograph, which has more
    colours than that would do for, keeps all of them."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.getcolors(MOST_COLOURS) is not None:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    smaller = io.BytesIO()
    picture.save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def _outrank_inline_backend() -> None:
    """Once pyplot is used (in Colab: always), matplotlib's inline backend has a formatter for every Figure. IPython
    prefers it to `_repr_mimebundle_`, and it knows neither style nor size. One for LessonFigure comes before it, and
    what it gives is nothing: the mime bundle stands."""
    from IPython import get_ipython

    if shell := get_ipython():
        for mime, formatter in shell.display_formatter.formatters.items():
            if mime.startswith("image/") or mime == "application/pdf":
                formatter.for_type(LessonFigure, lambda figure: None)


def headline(axes: Axes, title: str, subtitle: str | None = None, *, colour: str = "quiet") -> None:
    """A bold title over `axes`, on the left; below it, smaller, the subtitle (it may have several lines)."""
    lines = subtitle.count("\n") + 1 if subtitle else 0
    axes.set_title(title, pad=12 + 17 * lines)
    if subtitle:
        axes.annotate(
            subtitle, (0, 1), (0, 9), xycoords="axes fraction", textcoords="offset points", color=COLOURS[colour]
        )


def contrast(one: Any, other: Any) -> float:
    """Of two colours, from 1 to 21, by WCAG 2. Text needs 4.5."""

    def luminance(colour: Any) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable(colour: str) -> str:
    """`colour` with as much black as text on white needs: a line does with less contrast."""
    shades = (to_hex([(1 - share) * part for part in to_rgb(colour)]) for share in np.linspace(0, 1, 21))
    return next(shade for shade in shades if contrast(shade, "white") >= 4.5)


def text_on(background: Any) -> str:
    """The colour of text on `background`: ink if that can be read, else white, else black, which then always can."""
    return next(c for c in (COLOURS["ink"], "white", "black") if contrast(c, background) >= 4.5)


def text_size(text: Text) -> tuple[float, float]:
    """Width and height of `text` as it is drawn now, in inches."""
    figure = text.get_figure(root=True)
    box = text.get_window_extent(figure.canvas.get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi


def undrawable(words: str) -> str:
    """The first letter of `words` that no figure can show, as DejaVu Sans has none for it; "" if there is none."""
    return next((letter for letter in words if ord(letter) not in _known_letters()), "")


@cache
def _known_letters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def to_array(values: Any, *, is_finite: bool = True) -> np.ndarray:
    """A tensor (of any device and dtype, with or without gradient) or anything like an array, as numpy's.

    Raises ValueError for what doesn't hold numbers, and, unless `is_finite` is False, for NaN and infinity.
    """
    given = values
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # numpy has no bfloat16
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"only a tensor or an array of numbers can be drawn, got {shown(given)}")
    if is_finite and not np.isfinite(array).all():
        raise ValueError(
            f"only finite numbers can be drawn, and {np.count_nonzero(~np.isfinite(array)):,} of {array.size:,} are "
            f"nan or infinite: if they come from a network, a training that failed has spoilt it; build it anew"
        )
    return array
