"""The shape calculator: a window slides over an image, and one sees how often it fits and what falls off the edge."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from ipywidgets import HTML, HBox, Play

from utils.architectures import ALEXNET, LENET, VGG, Architecture
from utils.plots.sheet import Sheet, below
from utils.plots.windows import FORMULA, FORMULA_COLOURS, shape_formulas, sliding_window
from utils.stacks import Sliding, WindowDoesNotFit
from utils.widgets.parts import (
    INK,
    NARROW,
    SIDE_BY_SIDE,
    WIDE,
    Drawing,
    Explorer,
    Setting,
    check_offered,
    choice_buttons,
    guarded,
    heading,
    menu,
    slider,
    tick,
)
from utils.widgets.parts import column as one_below_the_other
from utils.widgets.parts import row as side_by_side

CONVOLUTION, POOLING = "convolution", "pooling"
STAGE = ("size", "kernel_size", "stride", "padding", "pooling", "pool_kernel_size", "pool_stride")
OWN = "your own"
# A kernel, a stride and a padding with which something is lost, on a grid that is small enough to read.
SMALL = {
    "size": 11, "kernel_size": 5, "stride": 3, "padding": 1, "pooling": True, "pool_kernel_size": 2, "pool_stride": 2,
}  # fmt: skip
FRAMES = 144  # at most, that ▶ takes to walk over the output


# --- what is calculated -----------------------------------------------------------------------------------------------


def stages_of(
    size: int, kernel_size: int, stride: int, padding: int, pooling: bool, pool_kernel_size: int, pool_stride: int
) -> dict[str, Sliding]:
    """The convolution's window over the input and, with pooling, the pooling's over what comes out, by name.

    Raises WindowDoesNotFit, with what would work, where a window has no room.
    """
    stages = {CONVOLUTION: Sliding(size, kernel_size, stride, padding)}
    if pooling:
        if pool_kernel_size > (left := stages[CONVOLUTION].count):
            enough = kernel_size + (pool_kernel_size - 1) * stride - 2 * padding
            raise WindowDoesNotFit(
                f"pool_kernel_size is {pool_kernel_size}, and the convolution leaves only {left}×{left} to pool over: "
                f"take a pool_kernel_size of at most {left}, or a size of at least {enough}",
                why=f"the pooling’s window of {pool_kernel_size}×{pool_kernel_size} has no room on the {left}×{left} "
                f"that the convolution leaves. Take a kernel of at most {left} for it, or a size of at least {enough}",
            )
        stages[POOLING] = Sliding(left, pool_kernel_size, pool_stride)
    return stages


def known_stages() -> dict[str, dict[str, Any]]:
    """Blocks of one convolution and one pooling, from the course's networks: settings by name."""
    networks = {"LeNet": LENET, "AlexNet": ALEXNET, "VGG-11": VGG["A"]}
    return {
        f"{name}, block {number}": stage
        for name, architecture in networks.items()
        for number, stage in _single_convolutions(architecture)
    }


def _single_convolutions(architecture: Architecture) -> Iterator[tuple[int, dict[str, Any]]]:
    size = architecture.image_size
    for number, block in enumerate(architecture.blocks, 1):
        conv, pool = block.convs[0], block.pool
        if len(block.convs) == 1 and pool is not None:
            values = (size, conv.kernel_size, conv.stride, conv.padding, True, pool.kernel_size, pool.stride)
            yield number, dict(zip(STAGE, values, strict=True))
        for each in block.convs:
            size = each.size_after(size)
        size = pool.size_after(size) if pool is not None else size


# --- the explorer -----------------------------------------------------------------------------------------------------


class _StageSetting(Setting):
    """A Setting that is refused, and changes nothing, where the windows wouldn't fit."""

    def __set__(self, explorer: ShapeCalculator, value: Any) -> None:
        explorer.change(**{self.name: value})


class _ShownSetting(Setting):
    """Which stage is drawn: one that there is."""

    def __set__(self, explorer: ShapeCalculator, value: Any) -> None:
        if value == POOLING and POOLING not in explorer.stages:
            raise ValueError(
                f"shown must be {CONVOLUTION!r} while there is no pooling, got {value!r}: set pooling=True"
            )
        super().__set__(explorer, value)


class ShapeCalculator(Explorer):
    """A convolution, then (maybe) pooling, on a square image. See `shape_calculator`.

    stages: the windows that are shown, by the names "convolution" and "pooling"; the last ones that could be built.
    shown: which of the two is drawn.   row, column: the place in its output.   start_from: the name of a known stage.
    """

    size, kernel_size, stride, padding = _StageSetting(), _StageSetting(), _StageSetting(), _StageSetting()
    pooling, pool_kernel_size, pool_stride = _StageSetting(), _StageSetting(), _StageSetting()
    shown, row, column, start_from = _ShownSetting(), Setting(), Setting(), Setting()

    def __init__(self) -> None:
        super().__init__()
        self._known = {"a small one": SMALL} | known_stages()
        self.stages: dict[str, Sliding] = {}
        self.controls = {
            "start_from": menu([OWN, *self._known], next(iter(self._known)), "start from", width="260px"),
            "size": slider(1, 1, 224, "size n", width="300px"),
            "kernel_size": slider(1, 1, 13, "kernel k", width="300px"),
            "stride": slider(1, 1, 8, "stride s", width="300px"),
            "padding": slider(0, 0, 6, "padding p", width="300px"),
            "pooling": tick(False, "then pooling"),
            "pool_kernel_size": slider(1, 1, 6, "kernel k", width="300px"),
            "pool_stride": slider(1, 1, 6, "stride s", width="300px"),
            "shown": choice_buttons([(f"draw the {name}", name) for name in (CONVOLUTION, POOLING)], CONVOLUTION),
            "row": slider(0, 0, 0, "row", width="240px"),
            "column": slider(0, 0, 0, "column", width="240px"),
        }
        self.play = Play(value=0, min=0, max=0, interval=300, show_repeat=False)
        self.formula, self.drawing = HTML(), Drawing()
        self._lay_out()
        self._take(SMALL)
        for name in STAGE:
            self.controls[name].observe(self._changed, names="value")
        self.controls["start_from"].observe(self._started, names="value")
        self.controls["shown"].observe(self._turned, names="value")
        for name in ("row", "column"):
            self.controls[name].observe(self._moved, names="value")
        self.play.observe(self._played, names="value")

    def _lay_out(self) -> None:
        knobs = self.controls
        self._of_pooling = one_below_the_other(knobs["pool_kernel_size"], knobs["pool_stride"])
        chosen = one_below_the_other(
            heading("An image, a convolution"),
            *(knobs[name] for name in ("start_from", "size", "kernel_size", "stride", "padding", "pooling")),
            self._of_pooling,
            width=NARROW,
        )
        drawn = one_below_the_other(
            self.formula,
            self.message,
            knobs["shown"],
            side_by_side(knobs["row"], knobs["column"], self.play),
            self.drawing,
            width=WIDE,
            grow=True,
        )
        self.show(HBox((chosen, drawn), layout=SIDE_BY_SIDE))

    # --- from code ------------------------------------------------------------------------------------------------

    def change(self, **settings: Any) -> None:
        """Set several at once, as in `change(size=224, kernel_size=11, stride=4)`. ValueError if nothing fits then:
        all stays as it was."""
        for name, value in settings.items():
            if name not in STAGE:
                raise ValueError(f"{name} is not one of the calculator's settings: it has {', '.join(STAGE)}")
            check_offered(name, value, self.controls[name])
        stages_of(**self._settings() | settings)
        self._take(settings)
        self._name_it()

    def sheet(self) -> Sheet:
        window = self.stages[self.shown]
        return below([shape_formulas(self.stages), self.drawing.drawn], title=f"Shapes: {window.formula}")

    # --- the controls' answers ------------------------------------------------------------------------------------

    @guarded
    def _changed(self, change: Any) -> None:
        if not self._is_settling:
            self._answer()
            self._name_it()

    @guarded
    def _started(self, change: Any) -> None:
        if not self._is_settling and change["new"] != OWN:
            self._take(self._known[change["new"]])

    @guarded
    def _turned(self, change: Any) -> None:
        if not self._is_settling:
            self._draw()

    @guarded
    def _moved(self, change: Any) -> None:
        if not self._is_settling:
            self._draw()

    @guarded
    def _played(self, change: Any) -> None:
        if not self._is_settling:
            with self._settling():
                self.row, self.column = divmod(min(change["new"], self.play.max), self.stages[self.shown].count)
            self._draw()

    def _settings(self) -> dict[str, Any]:
        return {name: self.controls[name].value for name in STAGE}

    def _take(self, settings: dict[str, Any]) -> None:
        with self._settling():
            for name, value in settings.items():
                self.controls[name].value = value
        self._answer()

    def _name_it(self) -> None:
        """The menu says which of the known stages is set, if it is one."""
        names = (name for name, settings in self._known.items() if settings == self._settings())
        with self._settling():
            self.start_from = next(names, OWN)

    # --- the answer -----------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        try:
            stages = stages_of(**self._settings())
        except WindowDoesNotFit as error:
            self.say(f"This can’t be built: {error.why}. The last one that could be is still drawn.", is_wrong=True)
            return
        self.say()
        self.stages = stages
        for widget in (self._of_pooling, self.controls["shown"]):
            widget.layout.display = None if POOLING in stages else "none"
        if self.shown not in stages:
            with self._settling():
                self.shown = CONVOLUTION
        self.formula.value = _formulas(stages)
        self._draw()

    def _draw(self) -> None:
        window, come_in, go_out = self.stages[self.shown], "input", "output"
        if self.shown == POOLING:
            come_in, go_out = "convolution's output", "pooled"
        with self._settling():
            for name in ("row", "column"):
                self.controls[name].max = window.count - 1  # what is beyond goes there
            self.play.max = window.count**2 - 1
            self.play.step = max(1, window.count**2 // FRAMES)
            self.play.value = self.row * window.count + self.column
        self.drawing.draw(
            sliding_window(window, self.row, self.column, kind=self.shown, come_in=come_in, go_out=go_out)
        )


def _formulas(stages: dict[str, Sliding]) -> str:
    """The formula with letters, then for each stage with its numbers, each in its letter's colour."""

    def coloured(letter: str, words: Any) -> str:
        return f'<b style="color:{FORMULA_COLOURS[letter]}">{words}</b>'

    letters = "".join(coloured(letter, letter) if letter in FORMULA_COLOURS else escape(letter) for letter in FORMULA)
    rows = [("", letters)]
    for name, window in stages.items():
        numbers = window.formula_with(lambda letter, value: coloured(letter, value))
        sides = f"{window.size}×{window.size} → <b>{window.count}×{window.count}</b>"
        rows.append((f"<b>{name}</b><br>{sides}", numbers))
    cell = '<td style="padding:0 14px 4px 0;text-align:left;vertical-align:top">'
    lines = "".join(f"<tr>{''.join(f'{cell}{words}</td>' for words in row)}</tr>" for row in rows)
    return f'<table style="font-size:13px;line-height:1.45;color:{INK};border-spacing:0">{lines}</table>'


def shape_calculator() -> ShapeCalculator:
    """How large is what comes out of a convolution, and of the pooling behind it? Turn the knobs, and see.

    It starts with a small grid where something falls off the edge; `start_from = "LeNet, block 1"` takes another.
    """
    return ShapeCalculator()
