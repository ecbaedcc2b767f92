"""Time beside FLOPs: layers under the roofline of their device, and two bars a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from utils.checks import shown
from utils.plots.axes import HALO, make_logarithmic, place_texts
from utils.plots.bars import KINDS
from utils.plots.labels import Boxes, samples
from utils.plots.style import COLOURS, LessonFigure, headline, style, text_size
from utils.words import counted, plain
from utils.words import percent as per_cent

if TYPE_CHECKING:
    from utils.roofline import Ceilings, LayerTimes

# Marker, whether it is filled, and the sign for it in a text: one for each batch size.
LOOKS = (("o", False, "○"), ("o", True, "●"), ("s", True, "■"), ("^", True, "▲"))
SIZE = 80.0  # a marker's area, in square points
CLEARLY_ABOVE = 1.1  # times the roof: more than what two measurements of one thing differ by
ALMOST_NOTHING = 0.01  # a layer with less than this share, of the FLOPs and of the time, has no bar of its own


# --- the roofline ---------------------------------------------------------------------------------------------------


class _Spot(NamedTuple):
    """A layer with FLOPs: what it is called, FLOPs per byte, FLOPs a second."""

    label: str
    kind: str
    x: float
    y: float


@style()
def roofline(
    times: LayerTimes | Mapping[str, LayerTimes],
    ceilings: Ceilings,
    *,
    title: str = "How near each layer comes to what the device can do",
) -> LessonFigure:
    """Each layer as a point under the device's roof: FLOPs a second against FLOPs per byte moved, both axes log.

    times: what `layer_times` gives, or up to four of them of one network by name: {"batch 1": …, "batch 256": …}. Then
    each has its own marker, and a thin line joins what is the same layer. Layers without FLOPs are no points; the
    others are numbered in the order in which they run, as in `layer_costs`.

    Raises ValueError for times of different networks, for times and ceilings that were measured under different
    conditions, and for a network without a convolution or a dense layer.
    """
    rounds = dict(times) if isinstance(times, Mapping) else {"": times}
    spots = _checked_spots(rounds, ceilings)
    looks = dict(zip(rounds, LOOKS[1:2] if len(rounds) == 1 else LOOKS, strict=False))
    figure = LessonFigure(height=6.2)
    axes = figure.add_subplot()
    everyone = [spot for row in spots.values() for spot in row]
    _limit(axes, everyone, ceilings)
    roof = _roof(axes, ceilings)
    axes.plot(*roof.T, color=COLOURS["ink"], linewidth=2, zorder=3, gid="roof")
    for same in zip(*spots.values(), strict=True):
        axes.plot(
            [s.x for s in same], [s.y for s in same], color=COLOURS["grey"], linewidth=0.9, zorder=2,
            gid=f"line: {same[0].label}",
        )  # fmt: skip
    for name, row in spots.items():
        marker, is_filled, _ = looks[name]
        for spot in row:
            colour = KINDS.get(spot.kind, KINDS["other"])
            axes.scatter(
                [spot.x], [spot.y], s=SIZE, marker=marker, facecolor=colour if is_filled else "white",
                edgecolor="white" if is_filled else colour, linewidth=0.6 if is_filled else 2, zorder=4,
                gid=f"{name}: {spot.label}".removeprefix(": "),
            )  # fmt: skip
    axes.set_xlabel("FLOPs per byte moved")
    axes.set_ylabel(f"{unit_prefix(ceilings.flops_per_s)[1]}FLOP/s")
    headline(axes, title, "\n".join(_notes(rounds, looks, everyone, ceilings)))
    _write_names(figure, axes, spots, roof, ceilings)

    figure.title = title
    figure.alt = _in_words(title, spots, ceilings)
    return figure


def _checked_spots(rounds: Mapping[str, LayerTimes], ceilings: Ceilings) -> dict[str, list[_Spot]]:
    """The layers with FLOPs of each of `times`, by its name."""
    if not 1 <= len(rounds) <= len(LOOKS):
        raise ValueError(f"times must hold 1 to {len(LOOKS)} measurements, or they can't be told apart: {len(rounds)}")
    for name, times in rounds.items():
        _check(times, f"times[{name!r}]" if name else "times")
        if not hasattr(ceilings, "attainable"):
            raise ValueError(f"ceilings must be what ceilings(device) measures, got {shown(ceilings)}")
        found, meant = ((m.device, m.dtype, m.threads) for m in (times, ceilings))
        if found != meant:
            found, meant = (f"{m[0]} in {m[1]} with {counted(m[2], 'thread')}" for m in (found, meant))
            raise ValueError(
                f"times and ceilings must be measured alike, got {found} and {meant}: write "
                f"ceilings(device, {times.dtype!r}) where the layers were timed"
            )
    first, *others = (list(times.layers.layer) for times in rounds.values())
    if any(other != first for other in others):
        raise ValueError("times must be of one network, at several batch sizes, got different layers: draw them apart")
    return {
        name: [
            _Spot(label, row.kind, row.intensity, row.flops_per_s)
            for label, row in zip(numbered(times.layers), times.layers.itertuples(), strict=True)
            if row.macs
        ]
        for name, times in rounds.items()
    }


def _check(times: Any, name: str) -> None:
    """ValueError unless `times` can be drawn."""
    if not isinstance(getattr(times, "layers", None), pd.DataFrame) or not hasattr(times, "whole_seconds"):
        raise ValueError(f"{name} must be what layer_times(model) gives, got {shown(times)}")
    if not times.layers.macs.any():
        raise ValueError(f"{name}: the network must have a convolution or a dense layer to draw, got none")
    if not (times.layers.seconds[times.layers.macs > 0] > 0).all():
        raise ValueError(f"{name}: a layer took no time at all; measure it again, with more seconds")


def numbered(layers: pd.DataFrame) -> list[str]:
    """`conv 1`, `activation 1`, `pool 1`, `dense 2`: layers with MACs are counted, others go with the one before."""
    numbers = (layers.macs > 0).cumsum()
    return [f"{kind} {number}" if number else kind for kind, number in zip(layers.kind, numbers, strict=True)]


def _limit(axes: Axes, spots: Sequence[_Spot], ceilings: Ceilings) -> None:
    """Two log axes of plain numbers, round all points, the ridge, and some of the slope and of the flat roof."""
    xs = [*(spot.x for spot in spots), ceilings.ridge]
    low, high = min(xs) / 2, max(*xs, 3 * ceilings.ridge) * 1.6
    bottom = min(*(spot.y for spot in spots), ceilings.attainable(low)) / 1.6
    top = max(*(spot.y for spot in spots), ceilings.flops_per_s)
    top *= max(2.2, (top / bottom) ** 0.13)  # room for the roof's name
    make_logarithmic(axes.xaxis, low, high)
    make_logarithmic(axes.yaxis, bottom, top, unit=unit_prefix(ceilings.flops_per_s)[0])


def _roof(axes: Axes, ceilings: Ceilings) -> np.ndarray:
    """(3, 2): the slope's foot, the ridge, the right end."""
    low, high = axes.get_xlim()
    return np.array([(x, ceilings.attainable(x)) for x in (low, ceilings.ridge, high)])


def _notes(
    rounds: Mapping[str, LayerTimes],
    looks: Mapping[str, tuple[str, bool, str]],
    spots: Sequence[_Spot],
    ceilings: Ceilings,
) -> list[str]:
    signs = ["    ".join(f"{looks[name][2]} {name}" for name in rounds)] if len(rounds) > 1 else []
    notes = ["The slope is as fast as memory allows, the flat roof as fast as arithmetic does."]
    if idle := len((first := next(iter(rounds.values()))).layers) - (first.layers.macs > 0).sum():
        notes.append(f"{counted(int(idle), 'layer')} without FLOPs (pooling, activations …) can’t be drawn here.")
    notes.append(above_in_words([spot.y / ceilings.attainable(spot.x) for spot in spots]))
    notes.append(f"{ceilings.device}, {counted(ceilings.threads, 'thread')}, {ceilings.dtype}.")
    return signs + [line for note in notes for line in wrap(note, 93)]


def above_in_words(reached: Sequence[float]) -> str:
    """What points above the roof come from, and what to do where one lies clearly above; "" if there are none.

    reached: of what its place under the roof allows, for each point; NaN if it wasn't measured.
    """
    above = [share for share in reached if share > 1]
    if not above:
        return ""
    why = "data still in the cache, fewer FLOPs than are counted, or a roof measured in a slow moment"
    words = f"{counted(len(above), 'point')} above the roof: {why}."
    if max(above) <= CLEARLY_ABOVE:
        return words
    who = "It" if len(above) == 1 else "The highest"
    return f"{words} {who} reaches {percent(max(above))} of what its place allows: measure the roof anew."


def _write_names(
    figure: LessonFigure,
    axes: Axes,
    spots: Mapping[str, Sequence[_Spot]],
    roof: np.ndarray,
    ceilings: Ceilings,
) -> None:
    """Lay the figure out for good, name both ceilings on the roof, and each layer once, where there is room."""
    figure.lay_out()
    to_pixels = axes.transData.transform
    corners = to_pixels(roof)  # (3, 2)
    *before, last = spots.values()
    everyone = to_pixels([(spot.x, spot.y) for row in spots.values() for spot in row])
    ceiling_boxes = _name_ceilings(figure, axes, corners, everyone, ceilings)
    texts = [
        axes.annotate(
            spot.label, (spot.x, spot.y), (0, 0), textcoords="offset points", ha="center", va="center", zorder=6,
            gid=f"label: {spot.label}", annotation_clip=False, path_effects=HALO,
        )
        for spot in last
    ]  # fmt: skip
    radius = math.sqrt(SIZE) / 2 * figure.dpi / 72 + 1
    others = to_pixels([(spot.x, spot.y) for row in before for spot in row] or np.empty((0, 2)))
    joins = [np.array([to_pixels((s.x, s.y)) for s in same]) for same in zip(*spots.values(), strict=True)]
    place_texts(
        texts,
        np.full(len(last), radius),
        obstacles=np.concatenate([ceiling_boxes, np.concatenate([others - radius, others + radius], axis=1)]),
        lines=np.concatenate([samples(way[:-1], way[1:], 40).reshape(-1, 2) for way in (corners, *joins)]),
    )


def _name_ceilings(
    figure: LessonFigure, axes: Axes, corners: np.ndarray, spots: np.ndarray, ceilings: Ceilings
) -> Boxes:
    """Write `… GB/s` along the slope, `… GFLOP/s` on the flat roof. Returns where they stand, in pixels (N, 4)."""
    foot, ridge, end = corners
    gap = 7 * figure.dpi / 72
    flat = _name(axes, np.add(ridge, gap), with_unit(ceilings.flops_per_s, "FLOP/s"), ha="left", va="bottom")
    slope = _name(axes, foot, with_unit(ceilings.bytes_per_s, "B/s"), ha="center", va="center")
    (flat_width, flat_height), (width, height) = (np.array(text_size(text)) * figure.dpi for text in (flat, slope))

    # The flat roof's name stands at the ridge, or else farther to the right, where no point above the roof is.
    low = np.add(ridge, (gap, gap))
    places = low + np.linspace([0, 0], [max(0, end[0] - low[0] - flat_width), 0], 6)  # (6, 2)
    off = np.abs(spots - (places + np.array([flat_width, flat_height]) / 2)[:, None])  # (6, spots, 2)
    is_on = (off < np.array([flat_width, flat_height]) / 2 + gap).all(axis=2).sum(axis=1)
    low = places[int(np.argmin(is_on))]
    flat.set_position(axes.transAxes.inverted().transform(low))

    # The slope's name, turned, stands in its middle, or else where points above the roof leave it most room.
    along = (ridge - foot) / np.hypot(*(ridge - foot))
    middles = [
        foot + share * (ridge - foot) + 1.6 * gap * np.array([-along[1], along[0]])
        for share in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8)
    ]
    room = [min(np.linalg.norm(spots - middle, axis=1).min(), 0.7 * width) for middle in middles]
    middle = middles[int(np.argmax(room))]
    slope.set_position(axes.transAxes.inverted().transform(middle))
    slope.set_rotation(math.degrees(math.atan2(along[1], along[0])))
    dots = middle + np.linspace(-0.5, 0.5, 9)[:, None] * width * along  # (9, 2): small boxes, as it isn't upright
    upright = [*np.subtract(low, (0, gap)), *np.add(low, (flat_width, flat_height))]
    return np.concatenate([[upright], np.concatenate([dots - height / 2, dots + height / 2], axis=1)])


def _name(axes: Axes, where: np.ndarray, words: str, **look: Any) -> Annotation:
    """A ceiling's name at `where`, in pixels."""
    place = axes.transAxes.inverted().transform(where)
    return axes.annotate(
        words, tuple(place), xycoords="axes fraction", rotation_mode="anchor", weight="bold", zorder=6,
        annotation_clip=False, path_effects=HALO, gid=f"ceiling: {words}", **look,
    )  # fmt: skip


def _in_words(title: str, spots: Mapping[str, Sequence[_Spot]], ceilings: Ceilings) -> str:
    def each(row: Sequence[_Spot]) -> str:
        return "; ".join(
            f"{spot.label} {with_unit(spot.y, 'FLOP/s')} at {plain(spot.x, 3)} FLOPs per byte, "
            f"{spot.y / ceilings.attainable(spot.x):.0%} of the roof"
            for spot in row
        )

    roof = (
        f"The roof rises with {with_unit(ceilings.bytes_per_s, 'B/s')} up to {plain(ceilings.ridge, 3)} FLOPs per byte "
        f"and is flat from there, at {with_unit(ceilings.flops_per_s, 'FLOP/s')} ({ceilings.dtype}, {ceilings.device})."
    )
    return f"{title}. {roof} " + " ".join(f"{f'{name}: ' if name else ''}{each(row)}." for name, row in spots.items())


# --- time beside FLOPs ----------------------------------------------------------------------------------------------


@style()
def time_and_flops(times: LayerTimes, *, title: str = "Where the FLOPs are, and where the time goes") -> LessonFigure:
    """Two bars for each layer: to the left its share of the FLOPs, to the right its share of the time.

    times: what `layer_times` gives. The shares of the time are of the sum of the layers, each timed alone; below stands
    what the whole network takes. Layers with less than 1 % of both are one row, the last.

    Layers with FLOPs are numbered in the order in which they run, as in `layer_costs`; others have the number of the
    one before: `activation 1` comes after `conv 1`.
    """
    _check(times, "times")
    rows = _rows(times.layers)
    figure = LessonFigure(height=1.9 + 0.36 * len(rows))
    sides = figure.subplots(1, 2, sharey=True)
    longest = max(max(row.flops, row.time) for row in rows)
    for axes, way, values in zip(sides, (-1, 1), ([r.flops for r in rows], [r.time for r in rows]), strict=True):
        colours = [KINDS.get(row.kind, KINDS["other"]) for row in rows]
        axes.barh(range(len(rows)), [100 * way * value for value in values], height=0.7, color=colours)
        for number, value in enumerate(values):
            axes.annotate(
                percent(value), (100 * way * value, number), (5 * way, 0), textcoords="offset points", va="center",
                ha="left" if way > 0 else "right",
            )  # fmt: skip
        axes.set_xlim(*sorted((0, 125 * way * longest)))
        axes.set_axis_off()
    sides[0].set_ylim(len(rows) - 0.5, -0.5)
    flops = with_unit(2 * int(times.layers.macs.sum()), "FLOP") + "s"
    batch = f"a batch of {times.batch_size:,}" if times.batch_size > 1 else "one image"
    totals = f"share of {flops}, {batch}", f"share of {with_unit(times.parts_seconds, 's')}"
    sides[0].set_title(totals[0], loc="right", weight="normal", size=12)
    sides[1].set_title(totals[1], loc="left", weight="normal", size=12)
    for number, row in enumerate(rows):  # in the middle, between the two bars
        sides[1].annotate(
            row.label, (0, number), (-52, 0), textcoords="offset points", ha="center", va="center",
            annotation_clip=False,
        )  # fmt: skip
    figure.get_layout_engine().set(wspace=0.19)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=15)
    whole = with_unit(times.whole_seconds, "s")
    note = f"Each layer timed alone. In one go, the whole network takes {whole}. {times.device}, {times.dtype}."
    figure.supxlabel("\n".join(wrap(note, 100)), x=0.01, ha="left", size=12, color=COLOURS["quiet"])

    figure.title = title
    figure.alt = (
        f"{title}. Each layer’s {totals[0]}, and {totals[1]}; in one go the whole network takes {whole}. "
        + "; ".join(f"{row.label}: {row.flops:.1%} of the FLOPs and {row.time:.1%} of the time" for row in rows)
    )
    figure.alt += "."
    return figure


class _Bars(NamedTuple):
    """A layer's name and kind, and its shares of the FLOPs and of the time."""

    label: str
    kind: str
    flops: float
    time: float


def _rows(layers: pd.DataFrame) -> list[_Bars]:
    flops = layers.macs / layers.macs.sum()
    every = [_Bars(*row) for row in zip(numbered(layers), layers.kind, flops, layers.share, strict=True)]
    small = [row for row in every if max(row.flops, row.time) < ALMOST_NOTHING]
    if len(small) < 2:  # one needs no other name
        return every
    rest = _Bars(
        f"the rest ({len(small)})", "other", math.fsum(row.flops for row in small), math.fsum(row.time for row in small)
    )
    return [*(row for row in every if row not in small), rest]


def percent(share: float) -> str:
    """`63 %`, `0.4 %`, `0`."""
    return per_cent(share) if share else "0"


# --- units ----------------------------------------------------------------------------------------------------------


def unit_prefix(value: float) -> tuple[float, str]:
    """(1e9, "G") for 23.4e9: the unit's size and sign."""
    sizes = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"))
    return next((found for found in sizes if value >= found[0]), (1e-6, "µ"))


def with_unit(value: float, unit: str) -> str:
    """`106 GFLOP/s`, `23.4 GB/s`, `1.25 ms`."""
    value = float(f"{value:.3g}")  # 999.6 k is 1 M
    size, prefix = unit_prefix(value)
    return f"{value / size:.3g} {prefix}{unit}"
