"""The vital signs of networks, layer by layer: where the signal gets lost, the gradient, or the ReLUs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from utils.checks import shown
from utils.plots.curves import MARKERS, spread
from utils.plots.style import CYCLE, LessonFigure, headline, readable, style
from utils.words import counted, plain, power_of_ten

if TYPE_CHECKING:
    from utils.vitals import VitalSigns

PANELS = {
    "activation": ("Activation", "how much it differs\nfrom image to image"),
    "gradient": ("Gradient", "how much the loss\ndepends on the layer"),
    "dead": ("Dead ReLUs, %", "channels that are 0\nfor every image"),
}
LEAST_SPAN = 100.0  # of a log axis, so that a level line looks level
ZERO_BELOW = 5.0  # how far below the least number a log axis has its 0
MOST_TICKS = 5
LINE = 0.062  # the height of a line of text, as a share of an axis

Looks: TypeAlias = Mapping[str, tuple[str, str]]  # by name: colour, marker


@style()
def vital_signs(signs: Mapping[str, VitalSigns], *, title: str = "Vital signs, layer by layer") -> LessonFigure:
    """Three panels side by side: activations, gradients (both on log axes) and the share of dead channels, by layer.

    signs: by name, up to seven; what `utils.vitals.vital_signs` gives. Layers are numbered in the order in which they
    ran. The lines are named at their ends in the first panel. What is exactly 0 has no place on a log axis: it is a
    hollow marker at the lower edge. Where no network has a ReLU there are two panels.

    Raises ValueError for what can't be drawn.
    """
    _check(signs)
    has_relu = any(one.layers.dead.notna().any() for one in signs.values())
    shown_panels = [panel for panel in PANELS if panel != "dead" or has_relu]
    looks = {name: (CYCLE[i], MARKERS[i]) for i, name in enumerate(signs)}
    figure = LessonFigure(height=5.0)
    for axes, panel in zip(figure.subplots(1, len(shown_panels)), shown_panels, strict=True):
        values = {name: one.layers[panel].to_numpy(float) for name, one in signs.items()}
        if panel == "dead":
            _draw_shares(axes, values, looks)
        else:
            _draw_scales(axes, panel, values, looks)
        _number_layers(axes, max(map(len, values.values())))
        headline(axes, *PANELS[panel])
        if panel == "activation" and len(signs) > 1:
            _name_ends(axes, {name: own[-1] for name, own in values.items()}, looks)
    figure.supxlabel(_what_layers_are(signs), size=12.5)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=15)
    figure.get_layout_engine().set(wspace=0.03)

    figure.title = title
    figure.alt = f"{title}. " + " ".join(signs_in_words(name, one) for name, one in signs.items())
    return figure


# --- the panels -----------------------------------------------------------------------------------------------------


def _draw_scales(axes: Axes, panel: str, values: Mapping[str, np.ndarray], looks: Looks) -> None:
    """Numbers of at least 0 on a log axis, with 0 at its lower edge."""
    everything = np.concatenate(list(values.values()))
    low, high = log_limits(everything)
    zero = low if (everything == 0).any() else None
    axes.set(yscale="log", ylim=(low, high))
    for name, own in values.items():
        colour, marker = looks[name]
        layers, is_zero = np.arange(1, len(own) + 1), own == 0
        axes.plot(
            layers, np.where(is_zero, low, own), color=colour, marker=marker, markersize=4.5, linewidth=1.5,
            markevery=list(np.flatnonzero(~is_zero)), gid=f"{panel}: {name}",
        )  # fmt: skip
        if is_zero.any():  # nothing, unclipped, would have no place, and the layout would give up
            axes.plot(
                layers[is_zero], np.full(is_zero.sum(), low), marker, color=colour, markerfacecolor="white",
                markersize=5.5, clip_on=False, zorder=3, gid=f"{panel} zero: {name}",
            )  # fmt: skip
    ticks = powers_of_ten(low if zero is None else low * (high / low) ** LINE, high)  # none on the 0
    labels = plain_powers(ticks)
    axes.set_yticks([zero, *ticks] if zero else ticks, ["0", *labels] if zero else labels)
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_shares(axes: Axes, values: Mapping[str, np.ndarray], looks: Looks) -> None:
    """From 0 to 100 %, with gaps where no ReLU follows."""
    for name, own in values.items():
        if np.isnan(own).all():
            continue
        colour, marker = looks[name]
        axes.plot(
            np.arange(1, len(own) + 1), 100 * own, color=colour, marker=marker, markersize=4.5, linewidth=1.5,
            clip_on=False, gid=f"dead: {name}",
        )  # fmt: skip
    axes.set(ylim=(-3, 103), yticks=range(0, 101, 25))


def log_limits(values: np.ndarray) -> tuple[float, float]:
    """The ends of a log axis for all `values`, those above 0 with some room, and room for 0 if it is among them."""
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    widened = max(1.0, math.sqrt(LEAST_SPAN / (high / low)))
    low, high = low / (1.5 * widened), high * 1.5 * widened
    return (low / ZERO_BELOW if (values == 0).any() else low), high


def powers_of_ten(low: float, high: float) -> list[float]:
    """The ticks of a log axis: five at most, equally far apart."""
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    step = math.ceil(len(decades) / MOST_TICKS)
    return [10.0**decade for decade in decades if decade % step == 0]


def plain_powers(ticks: Sequence[float]) -> list[str]:
    """`0.01`, `1`, `100`; powers, `10⁻⁶`, as soon as one of them would have many zeros."""
    decades = [round(math.log10(tick)) for tick in ticks]
    if all(-3 <= decade <= 4 for decade in decades):
        return [f"{10.0**decade:,.10g}" for decade in decades]
    return [power_of_ten(decade) if decade else "1" for decade in decades]


def _number_layers(axes: Axes, depth: int) -> None:
    numbers = range(1, depth + 1) if depth <= 6 else [1, *range(5, depth + 1, 5 * math.ceil(depth / 25))]
    axes.set(xlim=(1 - 0.04 * depth, depth + 0.04 * depth), xticks=list(numbers))


def _name_ends(axes: Axes, ends: Mapping[str, float], looks: Looks) -> None:
    """Each line's marker and name right of the axes, as near to the height of its end as the others leave room."""
    low, high = np.log(axes.get_ylim())
    heights = {name: (math.log(end) - low) / (high - low) if end else 0.0 for name, end in ends.items()}
    names = sorted(ends, key=heights.get)
    written = {name: "\n".join(wrap(name, 17)) or name for name in names}
    gap = LINE * (1 + max(text.count("\n") for text in written.values()))
    for name, y in zip(names, spread([heights[name] for name in names], gap, 0.0, 0.97), strict=True):
        colour, marker = looks[name]
        axes.plot(
            [1.06], [y], marker, color=colour, markersize=6, transform=axes.transAxes, clip_on=False,
            gid=f"marker: {name}",
        )  # fmt: skip
        axes.annotate(
            written[name], (1.06, y), (8, 0), xycoords="axes fraction", textcoords="offset points", va="center",
            color=readable(colour), annotation_clip=False, linespacing=1.0,
        )  # fmt: skip


# --- words ----------------------------------------------------------------------------------------------------------


def _what_layers_are(signs: Mapping[str, VitalSigns]) -> str:
    """What stands below all panels: what is numbered, and what a hollow marker is if there are any."""
    words = "layers, in the order in which they run"
    sequences = {tuple(one.layers.kind) for one in signs.values()}
    if len(sequences) == 1 and (which := which_layers(*sequences)):
        words += f": {which}"
    if any((one.layers[panel] == 0).any() for one in signs.values() for panel in ("activation", "gradient")):
        words += "\nhollow, at the lower edge: exactly 0"
    return words


def which_layers(kinds: Sequence[str]) -> str:
    """`conv 1–16, dense 17–19`; "" where they don't stand so."""
    convs = list(kinds).count("conv")
    if 0 < convs < len(kinds) and list(kinds) == ["conv"] * convs + ["dense"] * (len(kinds) - convs):
        return f"conv {_span(1, convs)}, dense {_span(convs + 1, len(kinds))}"
    return ""


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def signs_in_words(name: str, signs: VitalSigns) -> str:
    """A picture's alternative text: how each line goes from the first layer to the last."""
    layers = signs.layers
    words = f"{name}, {counted(len(layers), 'layer')}, loss {signs.loss:.3f}: "
    words += ", ".join(_from_to(panel, layers[panel].to_list()) for panel in ("activation", "gradient"))
    if (dead := layers.dead.dropna()).empty:
        return f"{words}, no ReLU."
    most = layers.layer[dead.idxmax()]
    words += f", dead channels from {dead.iloc[0]:.0%} to {dead.iloc[-1]:.0%}"
    return words + (f", most in {most}: {dead.max():.0%}." if dead.max() > 0 else ".")


def _from_to(what: str, values: Sequence[float]) -> str:
    """`gradient from 0.14 in the first layer to 0.95 in the last, exactly 0 in 2 of them`."""
    words = f"{what} from {plain(values[0])} in the first layer to {plain(values[-1])} in the last"
    zeros = sum(value == 0 for value in values)
    return words + (f", exactly 0 in {zeros} of them" if zeros else "")


def _check(signs: Mapping[str, VitalSigns]) -> None:
    if not isinstance(signs, Mapping):
        raise ValueError(
            f'signs must be a dict of names and vital signs, {{"He": vital_signs(…)}}, got a {type(signs).__name__}'
        )
    if not 1 <= len(signs) <= len(CYCLE):
        raise ValueError(f"signs must hold 1 to {len(CYCLE)} networks to draw, got {len(signs)}")
    for name, one in signs.items():
        if not hasattr(one, "layers") or not hasattr(one, "num_classes"):
            raise ValueError(f"{name}: to draw are what utils.vitals.vital_signs gives, got {shown(one)}")
