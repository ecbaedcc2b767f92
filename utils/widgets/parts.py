"""What the explorers are made of: controls that look alike under ipywidgets 7 and 8, drawings, and errors that show.

Only what both versions have is used. In ipywidgets 7 an unknown keyword is ignored without a word: the tests look
whether each option took effect.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from html import escape
from typing import Any, ClassVar, TypeVar

from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    HBox,
    IntSlider,
    Layout,
    SelectionSlider,
    ToggleButtons,
    VBox,
    Widget,
)

from utils.architectures import ACTIVATIONS
from utils.checks import shown, truth, whole
from utils.plots.sheet import Sheet
from utils.plots.style import COLOURS, CSS_DPI, SCREEN_DPI, LessonFigure, readable
from utils.words import listed, sentence

INK, QUIET, ORANGE = COLOURS["ink"], COLOURS["quiet"], readable(COLOURS["warning"])
Callback = TypeVar("Callback", bound=Callable[..., Any])

# Both versions give their parts these names. Numbers beside sliders take no more room than they need; what is pressed
# can be told from what isn't, in grey as well.
LOOKS = f"""
.bigger-and-deeper .widget-readout {{ flex: none; min-width: 26px; width: auto; padding: 0 0 0 4px;
  text-align: left; white-space: nowrap; }}
.bigger-and-deeper .slider-container {{ min-width: 40px; }}
.bigger-and-deeper .widget-toggle-button {{ margin: 0 -1px 0 0; border: 1px solid #C4C8CD; line-height: 24px;
  height: 26px; padding: 0 8px; background: white; color: {COLOURS["ink"]}; box-shadow: none; }}
.bigger-and-deeper .widget-toggle-button.mod-active {{ background: {COLOURS["convolution"]}; color: white;
  font-weight: 600; }}
.bigger-and-deeper .widget-html-content {{ line-height: 1.35; }}
.bigger-and-deeper {{ container-type: inline-size; }}
"""

# --- an explorer ------------------------------------------------------------------------------------------------------


class Steady:
    """What has controls as attributes. They stay: `editor.num_blocks = 3` would put 3 in the slider’s place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), Widget) and not isinstance(value, Widget):
            what = self.__dict__[name]
            to_do = f"write {name}.value = {value!r}" if what.has_trait("value") else "set what is in it"
            to_do = f"press it, {name}.click()" if isinstance(what, Button) else to_do
            raise AttributeError(f"{name} is a {type(what).__name__}, and can't be set itself: {to_do}")
        super().__setattr__(name, value)


class Settling(Steady):
    """What moves several of its controls at once: while it does, they don't answer (`_is_settling` is True)."""

    _is_settling = False

    @contextmanager
    def _settling(self) -> Iterator[None]:
        before, self._is_settling = self._is_settling, True
        try:
            yield
        finally:
            self._is_settling = before


class Explorer(Settling, VBox):
    """A box of controls and drawings, with a line below its title for what has to be said.

    Who builds one calls `show` with its parts in the end, and defines `sheet`: what it shows now, as one drawing.
    """

    looks: ClassVar[str] = ""  # CSS of its own

    def __init__(self) -> None:
        self.message = HTML()
        self.controls: dict[str, Widget] = {}  # what can be set, by the name of the attribute: see Setting
        super().__init__(layout=Layout(width="100%"))
        self.add_class("bigger-and-deeper")

    def show(self, *parts: Widget) -> None:
        """Its parts, one below the other; the message stands where `parts` has it, or else at the end."""
        looks = HTML(f"<style>{LOOKS}{self.looks}</style>", layout=Layout(display="none"))
        parts = parts if self.message in _all_within(parts) else (*parts, self.message)
        self.children = (looks, *parts)
        self._is_complete = True

    _is_complete = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Only what there is can be set: a name that is mistyped would move nothing, and say nothing."""
        found = getattr(type(self), name, None)
        if isinstance(found, property) and found.fset is None:
            raise AttributeError(f"{name} follows from what is set, and can't be set: {listed(self.settable())} can")
        if self._is_complete and not (name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)):
            near = get_close_matches(name, self.settable(), n=1)
            meant = f"did you mean {near[0]!r}? It has" if near else "it has"
            raise AttributeError(
                f"{type(self).__name__} has no {name!r} that could be set: {meant} {', '.join(self.settable())}"
            )
        super().__setattr__(name, value)

    @classmethod
    def settable(cls) -> list[str]:
        """The names of what can be set from code."""
        own = {
            name: value
            for one in reversed(cls.__mro__)
            if issubclass(one, Explorer)
            for name, value in vars(one).items()
        }
        return sorted(
            name
            for name, value in own.items()
            if isinstance(value, Setting) or (isinstance(value, property) and value.fset is not None)
        )

    def sheet(self) -> Sheet:
        """What it shows now, as one drawing."""
        raise NotImplementedError(f"{type(self).__name__} must say what it shows: define sheet()")

    def picture(self) -> LessonFigure:
        """What it shows now, as a figure that stays: for who reads the notebook and doesn't run it."""
        return self.sheet().figure()

    def say(self, words: str = "", *, is_wrong: bool = False) -> None:
        """Write a line of plain text where its messages stand; orange if something is wrong. "" clears it."""
        self.message.value = said(words, is_wrong=is_wrong)

    def say_error(self, error: BaseException) -> None:
        """Show an error that nobody foresaw, with its traceback one click away: the student sees it, and can tell."""
        lines = "".join(traceback.format_exception(error))
        self.message.value = (
            f"{said(f'{type(error).__name__}: {error}', is_wrong=True)}"
            f"<details><summary>This is a fault in the explorer, not yours. All of the error:</summary>"
            f'<pre style="white-space:pre-wrap;font-size:11px;line-height:1.3">{escape(lines)}</pre></details>'
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}: run this cell to use it. What it shows then, picture() gives as a figure."


def _all_within(widgets: Sequence[Widget]) -> list[Widget]:
    return [w for widget in widgets for w in (widget, *_all_within(getattr(widget, "children", ())))]


def fill(box: HBox, widgets: Sequence[Widget]) -> None:
    """Put `widgets` into the box. What was in it is closed: ipywidgets keeps what isn't, for ever."""
    old, box.children = box.children, tuple(widgets)
    for widget in old:
        widget.close()


def guarded(callback: Callback) -> Callback:
    """A method of an Explorer that answers a control: what it raises is shown in the explorer, and raised.

    Without this an error in a callback goes to a log that no student opens.
    """

    @functools.wraps(callback)
    def guard(self: Explorer, *args: Any, **kwargs: Any) -> Any:
        try:
            return callback(self, *args, **kwargs)
        except Exception as error:
            self.say_error(error)
            raise

    return guard


def start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task | None:
    """Run it beside what else the notebook does, as a task. Where no loop runs (a script, a test): to its end, now."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return None
    return _Going(coroutine, loop=loop)


class _Going(asyncio.Task):
    """A task that says something of use when it is a cell's last value."""

    def _repr_pretty_(self, printer: Any, is_cycle: bool) -> None:
        printer.text("It is over." if self.done() else "It goes on in the explorer; await this to wait for it.")


class Setting:
    """An attribute of an Explorer that stands in one of its `controls`, by the same name.

    `lab.kernel_size = 7` moves the control, as a hand does. ValueError, with what would work, for what isn't offered.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, explorer: Explorer | None, owner: type | None = None) -> Any:
        return self if explorer is None else explorer.controls[self.name].value

    def __set__(self, explorer: Explorer, value: Any) -> None:
        check_offered(self.name, value, explorer.controls[self.name])
        explorer.controls[self.name].value = value


def check_offered(name: str, value: Any, control: Widget) -> None:
    """ValueError unless the control can be moved to `value`."""
    match control:
        case Checkbox():
            truth(name, value)
        case IntSlider():
            whole(name, value, control.min)
            if value > control.max:
                raise ValueError(f"{name} must be a whole number from {control.min} to {control.max}, got {value}")
        case _:
            offered = [option[1] if isinstance(option, tuple) else option for option in control.options]
            if not any(type(value) is type(one) and value == one for one in offered):  # True is not 1
                raise ValueError(f"{name} must be one of {', '.join(map(repr, offered))}, got {shown(value)}")


INIT_WORDS = {"default": "torch’s default", "he": "He", "xavier": "Glorot", "normal": "N(0, σ²)"}
ACTIVATION_WORDS = {name: name for name in ACTIVATIONS} | {"relu": "ReLU", "gelu": "GELU", "identity": "none"}


def by_words(words: dict[str, str]) -> list[tuple[str, str]]:
    """What a control shows and what it then is, for each of its choices."""
    return [(shown_as, value) for value, shown_as in words.items()]


# --- controls ---------------------------------------------------------------------------------------------------------

BESIDE = {"description_width": "initial"}  # a description takes the room that it needs


def slider(value: int, low: int, high: int, words: str = "", *, width: str = "") -> IntSlider:
    """A slider of whole numbers, the number beside it. width: of all of it, its words too."""
    layout = Layout(width=width or _width_with(words))
    return IntSlider(value, min=low, max=high, description=words, style=BESIDE, layout=layout)


def choice_slider(options: Sequence[Any], value: Any, words: str = "", *, width: str = "") -> SelectionSlider:
    """A slider over values, or over (text, value) pairs."""
    layout = Layout(width=width or _width_with(words))
    return SelectionSlider(options=options, value=value, description=words, style=BESIDE, layout=layout)


def _width_with(words: str) -> str:
    """Of a slider: in less, words leave no track to move along."""
    return "220px" if words else "140px"


def choice_buttons(options: Sequence[Any], value: Any, words: str = "") -> ToggleButtons:
    """Buttons side by side, one of them pressed."""
    style = {**BESIDE, "button_width": "auto"}
    layout = Layout(width="auto", padding="0 1px 0 0")  # else the border of the last one is cut off
    return ToggleButtons(options=options, value=value, description=words, style=style, layout=layout)


def menu(options: Sequence[Any], value: Any, words: str = "", *, width: str = "auto") -> Dropdown:
    """A list that opens."""
    return Dropdown(options=options, value=value, description=words, style=BESIDE, layout=Layout(width=width))


def tick(value: bool, words: str, *, width: str = "auto") -> Checkbox:
    """A box to tick, its words to the right."""
    return Checkbox(value, description=words, indent=False, layout=Layout(width=width))


def button(words: str, on_press: Callable[[Button], Any], *, look: str = "", width: str = "auto") -> Button:
    """look: "" or "primary" (blue)."""
    made = Button(description=words, button_style=look, layout=Layout(width=width))
    made.on_click(on_press)
    return made


def named(words: str, control: Widget) -> HBox:
    """A control with its name before it, on one line: buttons with a description of their own stand below it."""
    name = label(words)
    name.layout.margin = "0 6px 0 2px"
    return HBox((name, control), layout=Layout(align_items="center", margin="0 12px 0 0"))


def hinted(control: Widget, words: str) -> Widget:
    """A control with words that appear when the mouse rests on it; the versions call them by different names."""
    setattr(control, "tooltip" if control.has_trait("tooltip") else "description_tooltip", words)
    return control


def row(*widgets: Widget) -> HBox:
    """Side by side; what has no room goes into the next line."""
    for widget in widgets[:-1]:
        widget.layout.margin = "2px 14px 2px 2px"
    return HBox(widgets, layout=Layout(flex_flow="row wrap", align_items="center", width="100%"))


def column(*widgets: Widget, width: str = "auto", grow: bool = False) -> VBox:
    """One below the other, `width` wide; where it may grow, it takes what others leave."""
    flex = f"{int(grow)} 1 {width}"
    return VBox(widgets, layout=Layout(flex=flex, min_width="0", max_width="100%", margin="0 12px 0 0"))


def heading(words: str) -> HTML:
    """A bold line over a part of an explorer."""
    return HTML(f'<b style="font-size:15px;color:{INK}">{escape(words)}</b>')


def label(words: str, *, width: str = "auto", quiet: bool = False, is_wrong: bool = False) -> HTML:
    """Some words beside a control: grey if they are `quiet`, orange if something `is_wrong`."""
    colour = ORANGE if is_wrong else QUIET if quiet else INK
    return HTML(f'<span style="color:{colour};font-size:13px">{escape(words)}</span>', layout=Layout(width=width))


def said(words: str, *, is_wrong: bool = False) -> str:
    """A paragraph of HTML from plain text."""
    if not words:
        return ""
    words = sentence(words)
    colour = ORANGE if is_wrong else INK
    role = ' role="alert"' if is_wrong else ""
    return f'<p{role} style="color:{colour};font-size:13px;line-height:1.4;margin:2px 0">{escape(words)}</p>'


# Two columns of an explorer, which JupyterLab has room for in a window of 1280, beside its list of files.
NARROW, WIDE = "342px", "478px"
NARROW_AND_WIDE = sum(int(width.removesuffix("px")) for width in (NARROW, WIDE)) + 12  # with what is between them
SIDE_BY_SIDE = {"flex_flow": "row wrap", "width": "100%", "align_items": "flex-start"}


# --- drawings ---------------------------------------------------------------------------------------------------------


class Drawing(HTML):
    """A sheet or a figure on the screen. `drawn` is what it shows: the tests look at it."""

    def __init__(self, drawn: Sheet | LessonFigure | None = None) -> None:
        super().__init__(layout=Layout(width="auto", min_width="0"))  # 100 % and its margins are too wide
        self.drawn: Sheet | LessonFigure | None = None
        if drawn is not None:
            self.draw(drawn)

    def draw(self, drawn: Sheet | LessonFigure) -> None:
        """Show this instead."""
        self.drawn = drawn
        if not isinstance(drawn, Sheet):
            self.value = _as_image(drawn)
        elif drawn.parts:
            self.value = _side_by_side(drawn.parts)
        else:
            self.value = drawn.svg()

    def write(self, words: str) -> None:
        """Words in its place: nothing is drawn."""
        self.drawn, self.value = None, said(words)


def _side_by_side(sheets: Sequence[Sheet]) -> str:
    """Each as wide as it is, or as there is room; in the next line, if there is none in this one."""
    parts = "".join(f'<div style="flex:0 1 {sheet.width:g}px;min-width:0">{sheet.svg()}</div>' for sheet in sheets)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 14px">{parts}</div>'


def _as_image(figure: LessonFigure) -> str:
    """ipywidgets' Image has no alternative text."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=SCREEN_DPI)
    address = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    width = round(figure.get_size_inches()[0] * CSS_DPI)
    return f'<img src="{address}" alt="{escape(figure.alt)}" style="width:{width}px;max-width:100%;height:auto">'


__all__ = [
    "ACTIVATION_WORDS",
    "INIT_WORDS",
    "Drawing",
    "Explorer",
    "Setting",
    "Settling",
    "Steady",
    "button",
    "by_words",
    "check_offered",
    "choice_buttons",
    "choice_slider",
    "column",
    "fill",
    "guarded",
    "heading",
    "hinted",
    "label",
    "menu",
    "named",
    "row",
    "said",
    "slider",
    "start",
    "tick",
]
